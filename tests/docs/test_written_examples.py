"""Every example in README.md, docs/ and the model cards: commands that the command line takes, Python that runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

import bsq
from bsq.cli.main import app
from bsq.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "src/bsq/models").glob("*/README.md")),
]
FENCE = re.compile(r"^```(sh|bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LAUNCHED = re.compile(r"^(accelerate|torchrun) .*? -m bsq\.cli\.main ")
# Signatures to be kept, not examples to be run.
CONTRACTS = {"architecture.md"}


def blocks(*languages: str) -> list[Any]:
    """(page, text) of each fenced block, named after its page and place."""
    return [
        pytest.param(page, found[2], id=f"{page.parent.name}/{page.name}-{number}")
        for page in PAGES
        for number, found in enumerate(FENCE.finditer(page.read_text()))
        if found[1] in languages
    ]


def lines(text: str) -> list[str]:
    """Commands, with what a backslash continues, without comments."""
    whole = text.replace("\\\n", " ")
    return [" ".join(line.split()) for line in whole.splitlines() if line.strip() and not line.startswith("#")]


def commands(text: str) -> Iterator[list[str]]:
    """Each program of each line with its arguments; a pipe's are several."""
    for line in lines(text):
        lexer = shlex.shlex(LAUNCHED.sub("bsq ", line), posix=True, punctuation_chars="|<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if word == "|":
                yield words
                words = []
            elif words and words[-1] in ("<", ">"):
                words.pop()
            else:
                words.append(word)
        yield words


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line makes of `bsq …`, nothing run. Raises what it raises for a wrong option or verb."""
    command: Any = get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        assert rest, f"{words} names no verb"
        assert rest[0] in command.commands, f"no verb {rest[0]!r} in {words}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command.make_context(" ".join(words[:2]), rest).params


@pytest.mark.parametrize(("page", "text"), blocks("sh", "bash"))
def test_commands_are_taken(page: Path, text: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(text):
        match words:
            case ["bsq", "train", recipe, *_]:
                from bsq.train import load_recipe

                given = parsed(words)
                load_recipe(ROOT / recipe, given["overrides"] or ())
            case ["bsq", *_]:
                parsed(words)
            case ["make", target, *_]:
                assert target in targets
            case ["pip", "install", *what]:
                for extra in ",".join(re.findall(r"\[([\w,]+)\]", " ".join(what))).split(","):
                    assert not extra or extra in extras
            case ["python", "-m", "benchmarks", *names]:
                assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in names)
            case ["python", script, *options] if script.startswith("examples/"):
                told = subprocess.run(
                    [sys.executable, ROOT / script, "--help"], check=True, capture_output=True, text=True
                )
                assert all(option in told.stdout for option in options if option.startswith("-"))
            case ["cat" | "curl", *_]:
                pass
            case _:
                raise AssertionError(f"{page.name}: nobody checks {words}")


def test_a_wrong_command_is_found() -> None:
    for wrong in ("bsq encode a.png --bitz 3", "bsq encode", "bsq encode a --prior best", "bsq bench codecs"):
        with pytest.raises(Exception, match=r"[Nn]o such|[Mm]issing|not one of") as caught:
            parsed(shlex.split(wrong))
        assert hasattr(caught.value, "exit_code")
    with pytest.raises(AssertionError, match="no verb 'frobnicate'"):
        parsed(["bsq", "frobnicate"])
    assert list(commands("cat a | bsq encode - | bsq decode - > b  # c\nbsq info \\\n  x < y\n")) == [
        ["cat", "a"],
        ["bsq", "encode", "-"],
        ["bsq", "decode", "-"],
        ["bsq", "info", "x"],
    ]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_tokenizer: Tokenizer) -> Path:
    """A folder with what the examples speak of: photographs, folders of them, a model of one's own."""
    chance = np.random.default_rng(0)
    for name in ("photo.jpg", "more.png", "holiday/a.jpg", "holiday/b/c.png", "photos/cat/a.png", "photos/dog/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(chance.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        coarse.resize((96, 72)).save(tmp_path / name)
    for name in ("pictures", "runs/mine/model", "bsqvit"):
        tiny_tokenizer.save_pretrained(tmp_path / name)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def clip_of(seconds: int, path: Path) -> None:
    pytest.importorskip("av")
    from bsq.data.video_files import write_video

    chance = np.random.default_rng(0)
    still = chance.integers(0, 255, (32, 48, 3), dtype=np.uint8)
    with write_video(path, Fraction(4)) as video:
        for number in range(4 * seconds):
            video.write(np.roll(still, number, 1))


def tiny_generator(folder: Path, name: str) -> None:
    """In place of what lies there: one class."""
    from bsq.generate.folder import GeneratorCard, save_generator
    from bsq.generate.network import Generator, GeneratorSettings

    shutil.rmtree(folder)
    network = GeneratorSettings(radices=(2,) * 4, classes=1, grid=(1, 2, 2), width=32, depth=1, head_width=16)
    card = GeneratorCard(network=network, class_names=(name,), tokenizer="none", code_hash="0" * 32)
    save_generator(folder, Generator(network), card)


QUICK = ("encode", "decode", "info")


@pytest.mark.parametrize(("page", "text"), blocks("sh", "bash"))
def test_quick_commands_on_pictures_run(page: Path, text: str, desk: Path) -> None:
    """Those of encode, decode and info whose inputs are pictures and files made by the lines before."""
    ran = 0
    for line in lines(text):
        programs = list(commands(line))
        if len(programs) != 1 or programs[0][:1] != ["bsq"] or programs[0][1] not in QUICK:
            continue
        sources = [word for word in programs[0][2:] if not word.startswith("-")][:1]
        if not Path(sources[0]).exists():
            continue  # a video, or a file of another example
        done = CliRunner().invoke(app, programs[0][1:])
        assert done.exit_code == 0, f"{line}: {done.stderr}"
        ran += 1
    assert ran or not re.search(r"^bsq encode photo", text, re.MULTILINE)


def names_for(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a page's Python takes as given: the reader's own pixels, a film, a tokenizer."""
    pixels = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {
        "bsq": bsq,
        "pixels": pixels,
        "H": 40,
        "W": 48,
        "tokenizer": tokenizer,
        "film": [pixels, pixels],
        "rank": 0,
        "ranks": 1,
    }


@pytest.mark.parametrize(("page", "text"), [one for one in blocks("python") if one.values[0].name not in CONTRACTS])
def test_python_runs(page: Path, text: str, desk: Path, tiny_tokenizer: Tokenizer) -> None:
    if "clip.mp4" in text:
        clip_of(13, desk / "clip.mp4")
    if "load_generator" in text:
        tiny_generator(desk / "runs/mine/model", "cup")
    if "TokenDataset" in text:
        pytest.importorskip("pyarrow")
        done = CliRunner().invoke(
            app, ["tokenize", "photos/", "-o", "tokens/", "--size", "32", "--label", "folder", "--workers", "0"]
        )
        assert done.exit_code == 0, done.stderr
        text = text.replace("batches(256, first=0, last=1_000_000, workers=4)", "batches(2, first=0, last=4)")
    tokenizer = tiny_tokenizer if "export_model" in text else bsq.load("biscuit-s")  # a small one is soon traced
    exec(compile(text, page.name, "exec"), names_for(tokenizer))
