"""The null prior. What enters: a grid and radices. What leaves: questions that expect every digit alike.

A stream written with it holds raw bits, the most important digit of every token first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bsq.prior.base import MAX_RADIX, NO_IDENTITY, TOTAL_FREQUENCY, Conversation, Grid, Question


@dataclass(frozen=True)
class UniformPrior:
    """Every digit equally likely. One chunk a digit, so that a stream may be cut after any digit."""

    name: str = "uniform"
    identity: bytes = NO_IDENTITY
    portable: bool = True

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        """L questions over all tokens, first digit first. Every radix must be at most 2^16."""
        tokens = np.arange(grid.tokens, dtype=np.int64)
        for digit, radix in enumerate(radices):
            yield Question(tokens, digit, uniform_frequencies(grid.tokens, radix), chunk=digit)


def uniform_frequencies(count: int, radix: int) -> np.ndarray:
    """(count,) uint16 for radix 2, else (count, radix) uint32, read-only, summing to 2^16.

    Where 2^16 / radix is no whole number, the first digits get one more than the last.
    """
    assert 2 <= radix <= MAX_RADIX, radix
    if radix == 2:
        return np.broadcast_to(np.uint16(TOTAL_FREQUENCY // 2), (count,))
    share, rest = divmod(TOTAL_FREQUENCY, radix)
    row = np.full(radix, share, np.uint32)
    row[:rest] += 1
    return np.broadcast_to(row, (count, radix))
