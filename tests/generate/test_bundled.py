"""The generator that comes with biscuit-s: it belongs to it, has seen its codes, and samples out of the box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import bsq
from bsq.cli.main import app
from bsq.generate.folder import TrainedGenerator, load_generator
from bsq.generate.likelihood import code_length
from bsq.generate.sampler import Sampler, SamplerSettings


@pytest.fixture(scope="module")
def bundled() -> TrainedGenerator:
    return load_generator("biscuit-s")


def test_it_belongs_to_its_tokenizer(bundled: TrainedGenerator) -> None:
    bundled.check(bsq.load("biscuit-s"))
    assert len(bundled.card.class_names) == bundled.network.settings.classes == 7


def test_it_samples_out_of_the_box(tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    done = CliRunner().invoke(app, ["generate", "--class", "Motorbikes", "--n", "2", "--steps", "8", "-o", str(out)])
    assert done.exit_code == 0, done.output
    shown = np.asarray(Image.open(out)).astype(int)
    assert shown.shape == (80, 224, 3)
    assert shown.std() > 20
    assert (shown[:, :112] != shown[:, 112:]).any()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_sample_is_the_same_in_any_batch(bundled: TrainedGenerator, precision: str) -> None:
    settings = SamplerSettings.model_validate({"steps": 6, "precision": precision})
    classes = torch.tensor([0, 1, 2, 3, 3])
    whole = Sampler(bundled.network, settings).sample(classes, seed=1)
    alone = Sampler(bundled.network, settings.model_copy(update={"together": 1}))
    for number in (0, 3, 4):
        one = alone.sample(classes[number : number + 1], seed=1, first=number)
        assert torch.equal(one.digits, whole.digits[number : number + 1])


def test_it_knows_what_comes_beside_what(bundled: TrainedGenerator) -> None:
    """A photograph's codes are more to be expected than the same codes in another order."""
    skimage = pytest.importorskip("skimage.data")
    rows, columns = bundled.network.settings.grid[1:]
    picture = Image.fromarray(skimage.rocket()).resize((8 * columns, 8 * rows), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    codes = bsq.load("biscuit-s").encode(pixels, bits=len(bundled.network.settings.radices))
    order = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(0))
    mixed = codes.digits.flatten(1, 3)[:, order].view_as(codes.digits)
    known, unknown = (
        float(code_length(bundled.network, digits, torch.tensor([2]), passes=16)) for digits in (codes.digits, mixed)
    )
    assert known < 0.8 * unknown
