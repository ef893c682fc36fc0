"""`bsq evaluate`, from the outside, on small pictures."""

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
    """Three pictures below `in/`."""
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        smooth = np.kron(random.integers(0, 256, (5, 5, 3)), np.ones((8, 8, 1)))
        save_picture(tmp_path / "in" / f"{name}.png", smooth.astype(np.uint8))
    return tmp_path


def bsq(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_reconstruction(folder: Path, tiny_model: Path) -> None:
    (folder / "in" / "broken.png").write_bytes(b"no picture")
    out = folder / "out"
    systems = ("-s", f"tiny={tiny_model}@6", "-s", "webp@q50")
    options = ("--lpips", "none", "--features", "none", "--rounds", 1, "--set", "crop=32")
    code, told, said = bsq("reconstruction", *systems, "-d", folder / "in", "-o", out, *options)
    assert code == 1, said
    assert "| system | M params | bits / 8×8 | bpp | img/s | PSNR dB | SSIM | codes used % |" in told
    assert "broken.png is not a picture" in said
    assert "1 samples could not be measured" in said
    result = json.loads((out / "result.json").read_text())
    assert result["settings"]["protocol"]["crop"] == 32
    assert result["samples"] == 3


def test_compression_beside_published_rows(folder: Path, tiny_model: Path) -> None:
    systems = ("-s", f"tiny={tiny_model}", "-s", "tiny files=" + f"{tiny_model}+prior", "-s", "avif@as:tiny")
    options = ("--lpips", "none", "--compare", "published")
    code, told, said = bsq("compression", *systems, "-d", folder / "in", "-o", folder / "out", *options)
    assert code == 0, said
    assert "| BSQ + arithmetic coding (published) |" in told
    assert {path.name for path in (folder / "out").iterdir()} >= {"table.md", "result.json", "chart.png"}


def test_a_reference_and_samples_beside_it(folder: Path) -> None:
    file = folder / "reference.npz"
    assert bsq("reference", folder / "in", "-o", file)[0] == 0
    code, _, said = bsq("reference", folder / "in", "-o", file)
    assert (code, "exists already" in said) == (5, True)
    assert bsq("reference", folder / "in", "-o", file, "-f", "--features", "none")[0] == 0
    asked = ("generation", "--samples", f"same={folder / 'in'}", "--reference", file, "-o", folder / "out")
    code, told, said = bsq(*asked, "--compare", "published")
    assert code == 0, said
    assert "| same | 0.00 |" in told
    assert "| ADM (published) |" in told


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-s", "nosuchmodel@18"], 6, "no model 'nosuchmodel'"),
        (["-s", "webp"], 2, "a codec needs a quality"),
        (["-s", "webp@q50", "-p", "best"], 2, "no protocol 'best'"),
        (["-s", "webp@q50", "--set", "sharp=1"], 2, "sharp: Extra inputs"),
        (["-s", "webp@q50", "--compare", "published"], 2, "no row of a reconstruction table was published"),
        (["-s", "webp@q50", "--features", "x"], 2, "no feature network 'x'"),
        (["-s", "webp@q50", "--first", "1"], 7, "at least 2 pictures"),
    ],
)
def test_bad_requests(folder: Path, arguments: list[str], code: int, words: str) -> None:
    found, _, said = bsq("reconstruction", "-d", folder / "in", "-o", folder / "out", *arguments)
    assert (found, words in said) == (code, True), said


def test_help_names_the_systems() -> None:
    code, told, _ = bsq("reconstruction", "--help")
    assert code == 0
    assert "diffusers:random-sd-vae" in told
