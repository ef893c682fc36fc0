"""Estimates of coded bits: near what the exact prior counts, of a frame given the one before it, with gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data as pictures

import bsq
from bsq.codec.shelf import priors_for
from bsq.codes import Codes
from bsq.data.pictures import to_pixels
from bsq.prior.estimate import Estimate
from bsq.prior.exact import ExactPrior
from bsq.prior.lengths import digit_lengths


@pytest.fixture(scope="module")
def prior() -> ExactPrior:
    found = priors_for(bsq.load("biscuit-s"))[0]
    assert isinstance(found, ExactPrior)
    return found


@pytest.fixture(scope="module")
def still() -> Codes:
    """Two frames that are alike."""
    frame = to_pixels(pictures.chelsea()[60:188, 120:248])
    return bsq.load("biscuit-s").encode(torch.stack([frame, frame], 2), 18)


def mean_bits(prior: ExactPrior, codes: Codes, frames: slice) -> float:
    estimate, draw = Estimate(prior, codes.length, torch.device("cpu")), np.random.default_rng(0)
    signs = codes.digits[0].float() * 2 - 1
    with torch.no_grad():
        return float(np.mean([float(estimate.bits_a_token(signs, frames, draw)) for _ in range(30)]))


def test_estimates_are_near_what_the_coder_counts(prior: ExactPrior, still: Codes) -> None:
    first = Codes(still.digits[:, :1], still.radices)
    counted = float(digit_lengths(prior, first).sum()) / first.digits[..., 0].numel()
    assert mean_bits(prior, first, slice(0, 1)) == pytest.approx(counted, rel=0.05)


def test_a_frame_is_expected_from_the_one_before_it(prior: ExactPrior, still: Codes) -> None:
    alone = Codes(still.digits[:, 1:], still.radices)
    assert mean_bits(prior, still, slice(1, 2)) < 0.8 * mean_bits(prior, alone, slice(0, 1))


def test_digits_have_gradients(prior: ExactPrior, still: Codes) -> None:
    signs = (still.digits[0, :1].float() * 2 - 1).requires_grad_()
    Estimate(prior, 18, torch.device("cpu")).bits_a_token(signs, slice(0, 1), np.random.default_rng(0)).backward()
    assert signs.grad is not None
    assert (signs.grad[..., :18] != 0).any(-1).float().mean() > 0.9
