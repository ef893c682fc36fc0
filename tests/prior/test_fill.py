"""Completion: known digits stay, missing ones follow the prior, a seed is a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bsq.errors import CodesError
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.base import Grid, Question
from bsq.prior.exact import ExactPrior
from bsq.prior.fill import Draw, MostLikely, fill
from bsq.prior.uniform import UniformPrior

GRID = Grid(1, 6, 5)


def test_known_digits_stay(exact_prior: ExactPrior) -> None:
    draw = np.random.default_rng(0)
    digits, known = draw.integers(2, size=(30, 12)), draw.random((30, 12)) < 0.6
    whole = fill(exact_prior, GRID, (2,) * 12, digits, known, MostLikely())
    assert np.array_equal(whole[known], digits[known])
    again = fill(exact_prior, GRID, (2,) * 12, np.where(known, digits, 1 - digits), known, MostLikely())
    assert np.array_equal(whole, again), "what stands at a missing place does not matter"


def test_a_seed_draws_the_same_digits(exact_prior: ExactPrior) -> None:
    nothing = np.zeros((30, 12), np.int64)
    samples = [fill(exact_prior, GRID, (2,) * 12, nothing, nothing > 0, Draw(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])


def test_draws_follow_the_frequencies() -> None:
    tokens = np.arange(20000)
    bits = Draw(0)(Question(tokens, 0, np.full(20000, 16384, np.uint16), 0))
    assert abs(bits.mean() - 0.25) < 0.02
    rows = np.tile(np.array([6554, 39321, 19661], np.uint32), (20000, 1))
    digits = Draw(0)(Question(tokens, 0, rows, 0))
    assert np.allclose(np.bincount(digits, minlength=3) / 20000, rows[0] / 65536, atol=0.02)
    assert MostLikely()(Question(tokens[:2], 0, rows[:2], 0)).tolist() == [1, 1]


def test_structure_is_completed(correlated: Callable[..., np.ndarray]) -> None:
    """With a tenth of the digits lost, what the prior fills in is right more often than not."""
    grid = Grid(1, 48, 48)
    digits = correlated(grid, (2,) * 4)
    known = np.random.default_rng(0).random(digits.shape) > 0.1
    whole = fill(AdaptivePrior(), grid, (2,) * 4, digits, known, MostLikely())
    assert (whole == digits)[~known].mean() > 0.65


def test_shapes_are_checked() -> None:
    with pytest.raises(CodesError, match="must be"):
        fill(UniformPrior(), GRID, (2,) * 3, np.zeros((30, 2), np.int64), np.zeros((30, 3), bool), MostLikely())
