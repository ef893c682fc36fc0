"""`bsq generate`: what it writes, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bsq.cli.main import app
from bsq.generate.folder import GeneratorCard, save_generator
from bsq.generate.network import Generator, GeneratorSettings
from bsq.generate.sampler import Sampler
from bsq.tokenizer import Tokenizer

NAMES = ("airplanes", "anchor", "ant", "cup")


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = {"radices": (2,) * 8, "group_digits": 4, "classes": 4, "grid": (1, 4, 4), "width": 32, "depth": 1}
    settings = GeneratorSettings.model_validate(shape | {"head_width": 16, "positions": "rotary"})
    card = GeneratorCard(
        network=settings, tokenizer=str(tiny_model), code_hash=tiny_tokenizer.code_hash, class_names=NAMES
    )
    out = tmp_path_factory.mktemp("generators") / "tiny"
    save_generator(out, Generator(settings), card)
    return out


def bsq(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["generate", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def test_a_grid_of_a_class_is_the_same_by_its_seed(folder: Path, tmp_path: Path) -> None:
    common = ("--generator", folder, "--class", "airplane", "--n", "5", "--steps", "3", "--guidance", "2")
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert bsq(*common, "--seed", seed, "-o", tmp_path / f"{name}.png")[0] == 0
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "abc")
    assert a.shape == (64, 96, 3)
    assert (a == b).all()
    assert (a != c).any()
    code, said = bsq(*common, "-o", tmp_path / "a.png")
    assert (code, "exists already" in said) == (5, True)


def test_an_npz_is_as_evaluation_reads_it(folder: Path, tmp_path: Path) -> None:
    assert bsq("--generator", folder, "--n", "6", "--steps", "2", "-o", tmp_path / "s.npz")[0] == 0
    with np.load(tmp_path / "s.npz", allow_pickle=False) as held:
        assert held["arr_0"].shape == (6, 32, 32, 3)
        assert held["arr_0"].dtype == np.uint8
        assert held["arr_1"].tolist() == [0, 1, 2, 3, 0, 1]
    assert bsq("--generator", folder, "--n", "2", "--first", "4", "--steps", "2", "-o", tmp_path / "t.npz")[0] == 0
    with np.load(tmp_path / "s.npz") as whole, np.load(tmp_path / "t.npz") as part:
        assert (whole["arr_0"][4:] == part["arr_0"]).all()


def test_an_npz_is_written_part_by_part(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bsq.cli.generate.PORTION", 2)
    seen: list[list[int]] = []

    def write(path: Path, pictures: Iterator[np.ndarray], count: int, **how: list[int]) -> None:
        seen.append([sample.call_count for _ in pictures])
        assert count == 5
        assert how["labels"] == [0, 1, 2, 3, 0]

    sample = Mock(side_effect=Sampler.sample)
    monkeypatch.setattr(Sampler, "sample", lambda *arguments: sample(*arguments))
    monkeypatch.setattr("bsq.evaluate.npz.write_samples", write)
    assert bsq("--generator", folder, "--n", "5", "--steps", "2", "-o", tmp_path / "s.npz")[0] == 0
    assert seen == [[1, 1, 2, 2, 3]]


def test_editing(folder: Path, tmp_path: Path, tiny_model: Path) -> None:
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    mask = np.zeros((32, 40), np.uint8)
    mask[:, 16:24] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    common = ("--generator", folder, "--edit", tmp_path / "p.png", "--steps", "2")
    code, said = bsq(*common, "--mask", tmp_path / "m.png", "-o", tmp_path / "inpainted.png")
    assert (code, "made 4 of 20 tokens" in said) == (0, True), said
    assert Image.open(tmp_path / "inpainted.png").size == (40, 32)
    assert bsq(*common, "--grow", "1", "-o", tmp_path / "grown.png")[0] == 0
    assert Image.open(tmp_path / "grown.png").size == (56, 48)
    assert bsq(*common, "--share", "0.5", "--class", "cup", "-o", tmp_path / "cup.png")[0] == 0
    stream = tmp_path / "p.bsq"
    assert CliRunner().invoke(app, ["encode", str(tmp_path / "p.png"), "-m", str(tiny_model)]).exit_code == 0
    stream.write_bytes(stream.read_bytes()[:-20])
    code, said = bsq("--generator", folder, "--repair", stream, "--steps", "2", "-o", tmp_path / "whole.png")
    assert (code, "of the digits were there" in said) == (0, True), said


def test_bad_requests(folder: Path, tmp_path: Path, other_model: Path) -> None:
    out = ("-o", tmp_path / "x.png")
    for arguments, code, words in (
        (("--generator", folder, "--class", "aeroplane", *out), 2, "did you mean airplanes"),
        (("--generator", folder, "--steps", "0", *out), 2, "steps"),
        (("--generator", folder, "--model", other_model, *out), 6, "name the right one"),
        (("--generator", tmp_path / "none", *out), 6, "no generator"),
        (("--generator", folder, "-o", tmp_path / "x.xyz"), 5, "xyz"),
        (("--generator", folder, "--edit", folder / "p.png", *out), 2, "--mask"),
        (("--generator", folder, "--edit", "p.png", "--share", "0.5", "-o", tmp_path / "x.npz"), 2, "npz"),
        (("--generator", folder, "--mask", "m.png", *out), 2, "--edit PICTURE"),
        (("--generator", folder, "--edit", "p.png", "--grow", "1", "--repair", "p.bsq", *out), 2, "one of them"),
        (("--generator", folder, "--edit", "p.png", "--grow", "1", "--n", "3", *out), 2, "--n counts"),
        (("--generator", folder, "--order", "halton", "--choice-temperature", "3", *out), 2, "--order confidence"),
        (("--generator", folder, "--temperature", "1e-40", *out), 2, "temperature"),
        (("--generator", folder, "--class", "-1", *out), 2, "no class '-1'"),
        (("--generator", folder, "--device", "nowhere", *out), 2, "no device 'nowhere'"),
    ):
        got, said = bsq(*arguments)
        assert (got, words in said) == (code, True), said
    assert not (tmp_path / "x.png").exists()
