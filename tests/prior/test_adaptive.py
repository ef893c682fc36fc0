"""The adaptive prior: mirrored, causal, exact, and worth its while on codes that have structure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from bsq.codes import digit_bits
from bsq.prior.adaptive import AdaptivePrior, mix_counts, squash_table, stretch_table
from bsq.prior.base import Grid

GRIDS = [Grid(1, 1, 1), Grid(1, 1, 9), Grid(1, 13, 8), Grid(3, 4, 5)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("radices", [(2,) * 12, (5, 3, 2, 16), (1000, 2), (65536,)])
def test_any_grid_and_any_radices(converse: Callable, grid: Grid, radices: tuple[int, ...]) -> None:
    digits = np.stack([np.random.default_rng(0).integers(r, size=grid.tokens) for r in radices], axis=1)
    first, again = (converse(AdaptivePrior(), grid, radices, digits) for _ in range(2))
    assert first.same_as(again)


@pytest.mark.parametrize(("radices", "share"), [((2,) * 12, 0.8), ((5,) * 6, 0.9), ((64,) * 2, 0.99)])
def test_it_saves_where_there_is_structure(
    converse: Callable, correlated: Callable, radices: tuple[int, ...], share: float
) -> None:
    grid = Grid(1, 40, 40)
    raw = grid.tokens * sum(map(digit_bits, radices))
    assert converse(AdaptivePrior(), grid, radices, correlated(grid, radices)).bits < share * raw


def test_noise_costs_little_more_than_raw(converse: Callable) -> None:
    grid = Grid(1, 40, 40)
    digits = np.random.default_rng(0).integers(2, size=(grid.tokens, 12))
    assert converse(AdaptivePrior(), grid, (2,) * 12, digits).bits < 1.03 * digits.size


def test_the_frame_before_helps(converse: Callable) -> None:
    grid, still = Grid(2, 16, 16), np.random.default_rng(0).integers(2, size=(256, 6))
    moving = np.random.default_rng(1).integers(2, size=(256, 6))
    same = converse(AdaptivePrior(), grid, (2,) * 6, np.concatenate([still, still])).bits
    other = converse(AdaptivePrior(), grid, (2,) * 6, np.concatenate([still, moving])).bits
    assert same < 0.8 * other


@pytest.mark.parametrize("radices", [(2,) * 8, (5, 3), (300,)])
def test_the_future_never_changes_a_question(converse: Callable, radices: tuple[int, ...]) -> None:
    grid, draw = Grid(1, 9, 8), np.random.default_rng(3)
    digits = np.stack([draw.integers(r, size=grid.tokens) for r in radices], axis=1)
    before = converse(AdaptivePrior(), grid, radices, digits).questions
    position = len(before) // 2
    changed = digits.copy()
    for question in before[position:]:
        changed[question.tokens, question.digit] = draw.integers(radices[question.digit], size=len(question.tokens))
    after = converse(AdaptivePrior(), grid, radices, changed).questions
    for a, b in zip(before[: position + 1], after[: position + 1], strict=True):
        assert np.array_equal(a.frequencies, b.frequencies)


def test_tables_are_golden() -> None:
    """Streams made with other tables could not be read: a change needs a new identity."""
    assert hashlib.sha256(squash_table().astype("<i8").tobytes()).hexdigest()[:16] == "67b960206020ef79"
    assert hashlib.sha256(stretch_table().astype("<i8").tobytes()).hexdigest()[:16] == "afa7e93d48ef5b6e"
    assert (np.diff(squash_table()) >= 0).all()
    assert squash_table().min() > 0
    assert squash_table().max() < 65536


def test_frequencies_are_golden(converse: Callable) -> None:
    grid = Grid(1, 12, 10)
    digits = (np.arange(120)[:, None] * np.arange(3, 9) // 7 % 2).astype(np.int64)
    questions = converse(AdaptivePrior(), grid, (2,) * 6, digits).questions
    asked = np.concatenate([q.frequencies for q in questions]).astype("<u2").tobytes()
    assert hashlib.sha256(asked).hexdigest()[:16] == "53f70399d1171f86"


def test_counts_of_a_huge_grid_keep_every_frequency_positive() -> None:
    counts = np.zeros(300, np.int64)
    counts[7] = 10**9
    around = np.array([[7, 7, 7, 7, 7], [-1, -1, 0, 1, 299]])
    frequencies = mix_counts(counts, around, 10**6, 10**6 + 7)
    assert frequencies.min() >= 1
    assert (frequencies.sum(1) == 65536).all()
