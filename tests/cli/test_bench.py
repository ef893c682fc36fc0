"""`bsq bench`, from the outside, on two small pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bsq.cli.main import app
from bsq.data.pictures import save_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        save_picture(tmp_path / f"{name}.png", np.full((176, 168, 3), 99, np.uint8))
    return tmp_path


def test_reconstruction(folder: Path, tiny_model: Path) -> None:
    command = ["bench", "reconstruction", str(folder), "-m", str(tiny_model), "-b", "3", "-b", "12", "--pictures", "1"]
    done = CliRunner().invoke(app, [*command, "-o", str(folder / "out")])
    assert done.exit_code == 0, done.stderr
    assert "| PSNR dB |" in done.stdout
    report = json.loads((folder / "out" / "reconstruction.json").read_text())
    assert [row["bits"] for row in report["rows"]] == [3, 12]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-b", "13"], 2, "bits must be 1 to 12"),
        (["-b", "0"], 2, "bits.0: Input should be greater than 0"),
        (["-m", "no-such-model"], 6, "no model"),
    ],
)
def test_bad_requests(folder: Path, tiny_model: Path, arguments: list[str], code: int, words: str) -> None:
    command = ["bench", "reconstruction", str(folder), "-o", str(folder / "out"), "-m", str(tiny_model)]
    done = CliRunner().invoke(app, [*command, *arguments])
    assert done.exit_code == code
    assert words in done.stderr


def test_codecs(folder: Path, tiny_model: Path) -> None:
    """Codecs and bits as chosen; a picture that cannot be read is named, counted, and told by the exit code."""
    (folder / "broken.png").write_bytes(b"no picture")
    out = folder / "out"
    chosen = ["-c", "bsq", "-c", "jpeg", "-b", "3", "-b", "12", "--show", "b"]
    done = CliRunner().invoke(app, ["bench", "codecs", str(folder), "-m", str(tiny_model), *chosen, "-o", str(out)])
    assert done.exit_code == 1, done.stderr
    assert "broken: " in done.stderr
    assert "1 pictures could not be measured" in done.stderr
    assert "| PSNR dB at ≤ bpp | bsq, adaptive prior | JPEG |" in done.stdout
    assert {path.name for path in out.iterdir()} >= {
        "bsq.json",
        "jpeg.json",
        "rd.png",
        "report.md",
    }
    assert json.loads((out / "report.json").read_text())["settings"]["ours"][0]["bits"] == [3, 12]


def test_codecs_without_ours(folder: Path) -> None:
    done = CliRunner().invoke(
        app, ["bench", "codecs", str(folder), "-c", "jpeg", "-c", "webp", "--pictures", "1", "-o", str(folder / "out")]
    )
    assert done.exit_code == 0, done.stderr
    assert "| 0.5625 |" in done.stdout


def test_bad_codecs(folder: Path, tiny_model: Path) -> None:
    for arguments, words in (
        (["-c", "gif"], "gif"),
        (["-c", "jpeg", "--rates", "matched"], "our own files"),
        (["-c", "bsq", "-m", str(tiny_model), "-b", "13"], "bits go up to 12"),
        (["-c", "jpeg", "--anchor", "avif"], "anchor 'avif'"),
    ):
        done = CliRunner().invoke(app, ["bench", "codecs", str(folder), "-o", str(folder / "out"), *arguments])
        assert done.exit_code == 2, arguments
        assert words in done.stderr


@pytest.mark.parametrize("which", ["codecs", "reconstruction"])
def test_an_empty_folder(which: str, tmp_path: Path, tiny_model: Path) -> None:
    done = CliRunner().invoke(
        app, ["bench", which, str(tmp_path), "-o", str(tmp_path / "out"), "-m", str(tiny_model), "-b", "3"]
    )
    assert done.exit_code == 7
    assert "no pictures in" in done.stderr
