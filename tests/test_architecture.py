"""The house stands as docs/architecture.md says: imports only go down, and torchvision is nowhere."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "src" / "bsq"

# From the roof to the cellar. A room imports from itself and from the floors below it.
FLOORS = (
    "cli",
    "demo",
    "evaluate",
    "bench",
    "bulk",
    "train",
    "generate",
    "export",
    "codec",
    "metrics",
    "prior",
    "models",
    "autoencoder",
    "checkpoint",
    "tokenizer",
    "streaming",
    "losses",
    "frozen",
    "vit",
    "tiling",
    "pixels",
    "quantizers",
    "layers",
    "data",
    "parts",
    "hub",
    "folders",
    "card",
    "codes",
    "settings",
    "errors",
)


def modules() -> dict[str, Path]:
    """Every module of ours, "bsq.codec.picture", and its file."""
    named = {}
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE.parent).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imports(path: Path) -> set[str]:
    """All absolute names that a file imports, at its head or inside functions; `from a import b` counts as a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                names.update(f"{module}.{alias.name}" for alias in node.names)
            case ast.ImportFrom():
                raise AssertionError(f"{path}: relative import in line {node.lineno}; write the whole name")
    return names


def arrows() -> Iterator[tuple[str, str]]:
    """(importer, imported), both modules of ours."""
    known = modules()
    for name, path in known.items():
        if name == "bsq":
            continue  # the front door is lazy, and opens on every room
        for imported in imports(path):
            if imported.split(".")[0] == "bsq":
                yield name, imported if imported in known else imported.rpartition(".")[0]


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "bsq"


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name in modules()} - {"bsq"} <= set(FLOORS)


def test_the_plan_names_the_same_floors() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text()
    drawn = re.findall(r"^  (\w+)(?:/|\.py) ", plan, re.MULTILINE)
    assert set(drawn) <= set(FLOORS), "docs/architecture.md draws a room that FLOORS does not know"


def test_imports_only_go_down() -> None:
    height = {name: floor for floor, name in enumerate(FLOORS)}
    upward = [
        f"{importer} imports {imported}"
        for importer, imported in arrows()
        if room(imported) != "bsq" and height[room(importer)] > height[room(imported)]
    ]
    assert not upward


def test_no_circles() -> None:
    graph: dict[str, set[str]] = {}
    for importer, imported in arrows():
        if importer != imported and not importer.startswith(f"{imported}."):
            graph.setdefault(importer, set()).add(imported)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("upper", ["prior", "codec"])
def test_priors_and_streams_know_only_codes(upper: str) -> None:
    # The only doors from pixels to streams.
    doors = [f"bsq.codec.{door}" for door in ("picture", "frames", "video", "media", "search", "colour_maps")]
    seen = [(a, b) for a, b in arrows() if room(a) == upper and room(b) in ("vit", "layers", "data") and a not in doors]
    assert not seen


def test_generators_know_only_codes() -> None:
    """Layers are shared with the tokenizer's networks; pixels come in by the tokenizer alone."""
    assert not [(a, b) for a, b in arrows() if room(a) == "generate" and room(b) in ("vit", "data", "quantizers")]


def test_codes_import_only_errors() -> None:
    assert {b for a, b in arrows() if a == "bsq.codes"} == {"bsq.errors"}


def test_nothing_imports_the_roof() -> None:
    """The command line opens every room; evaluation and the page take classical codecs from the benches."""
    allowed = {("cli", "demo"), ("cli", "evaluate"), ("cli", "bench"), ("demo", "bench"), ("evaluate", "bench")}
    roof = ("cli", "demo", "evaluate", "bench")
    met = {(room(a), room(b)) for a, b in arrows() if room(b) in roof and room(a) != room(b)}
    assert met <= allowed


def test_no_file_imports_torchvision() -> None:
    files = [path for folder in ("src", "tests", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert not [str(path) for path in files if any(name.split(".")[0] == "torchvision" for name in imports(path))]


def test_no_dependency_is_torchvision() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    pinned = (ROOT / "constraints.txt").read_text().split()
    assert not [name for name in (*required, *pinned) if "torchvision" in name.lower()]


def test_every_module_loads_without_torchvision(tmp_path: Path) -> None:
    poison = tmp_path / "torchvision"
    poison.mkdir()
    (poison / "__init__.py").write_text("raise RuntimeError('something imported torchvision')\n")
    script = (
        "import importlib, sys\n"
        f"for name in {sorted(modules())!r}:\n"
        "    importlib.import_module(name)\n"
        "assert 'torchvision' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(HOUSE.parent)))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_front_door_is_light() -> None:
    script = "import bsq, bsq.cli.main, sys; print(*({'torch', 'numpy', 'PIL', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_modules_and_functions_stay_small() -> None:
    """About 300 lines a file and 40 a function, arguments not counted; a little room for what is better whole."""
    long = [str(path) for path in modules().values() if len(path.read_text().splitlines()) > 330]
    assert not long, "split these files"
    for name, path in modules().items():
        for part in ast.walk(ast.parse(path.read_text())):
            if isinstance(part, ast.FunctionDef):
                lines = (part.end_lineno or 0) - part.body[0].lineno + 1
                assert lines <= 50, f"split {name}.{part.name}: {lines} lines"


def test_no_two_test_files_share_a_name():
    """Test folders are no packages, so pytest could collect only one of them."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
