"""Reconstruction losses against their formulas."""

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from bsq.data.pictures import to_uint8
from bsq.losses.reconstruction import ReconstructionSettings, reconstruction_loss

PIXELS, REFERENCE = torch.rand(2, 2, 3, 1, 8, 8).mul(2).sub(1).unbind(0)
ERROR = (PIXELS - REFERENCE).double()


def loss(**weights: float) -> float:
    return float(reconstruction_loss(PIXELS, REFERENCE, ReconstructionSettings(**weights)).loss)


def test_each_distance() -> None:
    assert loss(l1=1) == pytest.approx(ERROR.abs().mean().item(), rel=1e-6)
    assert loss(l1=0, mse=1) == pytest.approx(ERROR.square().mean().item(), rel=1e-6)
    expected = ((ERROR.square() + 0.01).sqrt() - 0.1).mean().item()
    assert loss(l1=0, charbonnier=1, charbonnier_epsilon=0.1) == pytest.approx(expected, rel=1e-5)


def test_chroma_is_the_error_of_what_jpeg_calls_cb_and_cr() -> None:
    pillow = [
        torch.from_numpy(np.asarray(Image.fromarray(to_uint8(picture[:, :, 0])).convert("YCbCr"), np.float64)[..., 1:])
        for picture in (PIXELS[:1], REFERENCE[:1])
    ]
    ours = reconstruction_loss(PIXELS[:1], REFERENCE[:1], ReconstructionSettings(l1=0, chroma=1)).loss
    assert float(ours) == pytest.approx(((pillow[0] - pillow[1]) / 127.5).square().mean().item(), rel=0.02)


def test_chroma_is_blind_to_brightness() -> None:
    brighter = reconstruction_loss(PIXELS, PIXELS + 0.3, ReconstructionSettings(l1=0, chroma=1))
    assert float(brighter.loss) == pytest.approx(0, abs=1e-12)


def test_weights_mix() -> None:
    parts = 0.5 * loss(l1=1) + 2 * loss(l1=0, mse=1) + 3 * loss(l1=0, charbonnier=1) + 4 * loss(l1=0, chroma=1)
    assert loss(l1=0.5, mse=2, charbonnier=3, chroma=4) == pytest.approx(parts, rel=1e-6)


def test_distances_are_unweighted_and_only_those_with_a_weight() -> None:
    terms = reconstruction_loss(PIXELS, REFERENCE, ReconstructionSettings(l1=0.5, mse=4.0))
    assert {name: float(value) for name, value in terms.distances.items()} == {
        "l1": pytest.approx(ERROR.abs().mean().item(), rel=1e-6),
        "mse": pytest.approx(ERROR.square().mean().item(), rel=1e-6),
    }


def test_squared_errors_are_one_a_sample_and_detached() -> None:
    pixels = PIXELS.clone().requires_grad_()
    terms = reconstruction_loss(pixels, REFERENCE, ReconstructionSettings())
    assert torch.allclose(terms.squared, ERROR.square().flatten(1).mean(1).float())
    assert not terms.squared.requires_grad
    terms.loss.backward()
    assert pixels.grad is not None


def test_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        terms = reconstruction_loss(PIXELS.bfloat16(), REFERENCE, ReconstructionSettings(mse=1))
    assert terms.loss.dtype == terms.squared.dtype == torch.float32


def test_no_weight_at_all_is_refused() -> None:
    with pytest.raises(ValidationError, match="must have a weight"):
        ReconstructionSettings(l1=0)
