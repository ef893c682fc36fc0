"""The prior of small signed numbers: mirrored, causal, exact, and worth its while where most are zero."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from bsq.errors import SettingsError
from bsq.prior.base import TOTAL_FREQUENCY, Grid
from bsq.prior.sparse import Counts, SparsePrior

GRIDS = [Grid(1, 1, 1), Grid(1, 1, 9), Grid(1, 13, 8), Grid(2, 4, 5)]


def few(grid: Grid, radix: int = 5, share: float = 0.05, seed: int = 0) -> np.ndarray:
    """Digits (N, 3), a share of which are not zero, in patches of 3×3."""
    draw = np.random.default_rng(seed)
    there = draw.random((3, grid.height // 3 + 1, grid.width // 3 + 1)) < share
    wide = there.repeat(3, 1).repeat(3, 2)[:, : grid.height, : grid.width].reshape(3, -1)
    return (wide * draw.integers(1, radix, wide.shape)).T


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("radices", [(3,) * 3, (5, 3, 255)])
def test_any_grid_and_any_odd_radices(converse: Callable, grid: Grid, radices: tuple[int, ...]) -> None:
    digits = np.stack([np.random.default_rng(0).integers(r, size=grid.tokens) for r in radices], axis=1)
    first, again = (converse(SparsePrior(), grid, radices, digits) for _ in range(2))
    assert first.same_as(again)
    for question in first.questions:
        assert question.frequencies.min() >= 1
        assert (question.frequencies.sum(1, dtype=np.int64) == TOTAL_FREQUENCY).all()


def test_even_radices_are_refused(converse: Callable) -> None:
    with pytest.raises(SettingsError, match="odd radices"):
        converse(SparsePrior(), Grid(1, 2, 2), (3, 2), np.zeros((4, 2), np.int64))


def test_little_costs_little_and_what_lies_together_less(converse: Callable) -> None:
    grid = Grid(1, 32, 48)
    nothing = converse(SparsePrior(), grid, (3,) * 3, np.zeros((grid.tokens, 3), np.int64)).bits
    assert nothing < 80
    together = few(grid)
    scattered = np.random.default_rng(1).permutation(together)
    bits = [converse(SparsePrior(), grid, (5,) * 3, digits).bits for digits in (together, scattered)]
    shares = np.count_nonzero(together) / together.size
    entropy = -shares * np.log2(shares) - (1 - shares) * np.log2(1 - shares) + 2 * shares  # alone; any of four values
    assert bits[0] < 0.8 * bits[1]
    assert bits[1] < 1.08 * entropy * together.size


def test_the_future_never_changes_a_question(converse: Callable) -> None:
    grid, draw = Grid(1, 9, 8), np.random.default_rng(3)
    digits = few(grid, share=0.3)
    before = converse(SparsePrior(), grid, (5,) * 3, digits).questions
    position = len(before) // 2
    changed = digits.copy()
    for question in before[position:]:
        changed[question.tokens, question.digit] = draw.integers(5, size=len(question.tokens))
    after = converse(SparsePrior(), grid, (5,) * 3, changed).questions
    for a, b in zip(before[: position + 1], after[: position + 1], strict=True):
        assert np.array_equal(a.frequencies, b.frequencies)


def test_larger_numbers_are_less_likely_and_signs_alike() -> None:
    counts = Counts()
    counts.learn(np.zeros(20, np.int64), np.array([0] * 14 + [1] * 4 + [2, 3]))
    for row in counts.frequencies(9).astype(np.int64):
        sizes = row[1::2] + row[2::2]
        assert (np.diff(sizes[:-1]) < 0).all()
        assert np.abs(row[1::2] - row[2::2]).max() <= 1


def test_golden_frequencies(converse: Callable) -> None:
    """Files hold what this prior expected of them: another integer anywhere needs another identity."""
    grid = Grid(1, 20, 31)
    questions = converse(SparsePrior(), grid, (5, 5, 5), few(grid)).questions
    digest = hashlib.sha256()
    for question in questions:
        digest.update(question.tokens.astype("<i8").tobytes() + question.frequencies.astype("<u4").tobytes())
    assert digest.hexdigest()[:16] == "d5157050e5bcb2ea"
