"""Reconstruction losses against their formulas."""

import pytest
import torch
from pydantic import ValidationError

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


def test_weights_mix() -> None:
    parts = 0.5 * loss(l1=1) + 2 * loss(l1=0, mse=1) + 3 * loss(l1=0, charbonnier=1)
    assert loss(l1=0.5, mse=2, charbonnier=3) == pytest.approx(parts, rel=1e-6)


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
