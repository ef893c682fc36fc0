"""The package as others get it: a wheel, installed where no checkout is, without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import bsq

ROOT = Path(__file__).parent.parent
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="builds the wheel")
    checkout, out = tmp_path_factory.mktemp("checkout") / "bsq", tmp_path_factory.mktemp("dist")
    forgotten = shutil.ignore_patterns(".*", "__pycache__", "out", "runs", "tests", "docs", "benchmarks")
    shutil.copytree(ROOT, checkout, ignore=forgotten)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, checkout]
    subprocess.run(pip, check=True, capture_output=True)
    (made,) = out.glob("*.whl")
    return made


@pytest.mark.slow
def test_the_wheel_holds_what_it_should(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"bsq-{bsq.__version__}.dist-info/METADATA").decode()
        entry = archive.read(f"bsq-{bsq.__version__}.dist-info/entry_points.txt").decode()
    source = {str(Path("bsq") / path.relative_to(ROOT / "src/bsq")) for path in (ROOT / "src/bsq").rglob("*.*")}
    assert {name for name in source if "__pycache__" not in name and Path(ROOT / "src" / name).is_file()} <= names
    assert {"bsq/py.typed", "bsq/models/biscuit-s/model.safetensors", "bsq/models/biscuit-s/prior.safetensors"} <= names
    assert f"Version: {bsq.__version__}\n" in metadata
    assert "Typing :: Typed" in metadata
    assert "bsq = bsq.cli.main:main" in entry
    assert not [name for name in names if not name.startswith(("bsq/", "bsq-"))]


@pytest.mark.slow
def test_an_installed_wheel_encodes_and_decodes_offline(
    wheel: Path, tmp_path: Path, photo: Callable[[str], Path]
) -> None:
    """The libraries are those of the tests, by a path; bsq is the wheel's."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", home / "bin/python", "install", "-q", "--no-deps", wheel]
    subprocess.run(pip, check=True, capture_output=True)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(photo("chelsea"), work / "photo.png")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_HUB_OFFLINE")}
    environment |= {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "HOME": str(work)}

    def run(*command: str) -> str:
        done = subprocess.run(
            [home / "bin" / command[0], *command[1:]], cwd=work, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("python", "-c", "import bsq, bsq.tokenizer; print(bsq.tokenizer.__file__)")
    assert Path(where.strip()).is_relative_to(site)
    assert run("bsq", "--version") == f"bsq {bsq.__version__}\n"
    run("bsq", "encode", "photo.png", "--bits", "18", "--verify")
    facts = json.loads(run("bsq", "info", "--json", "photo.bsq"))
    assert (facts["model"], facts["prior"], facts["kept_digits"]) == ("biscuit-s", "masked", 18)
    run("bsq", "decode", "photo.bsq", "-o", "again.png")
    from PIL import Image

    with Image.open(work / "again.png") as again, Image.open(work / "photo.png") as before:
        assert again.size == before.size
