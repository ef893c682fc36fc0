"""Length of a description of codes, an upper bound of their entropy. What enters: digits. What leaves: bits a code.

The description knows how often each digit has each value and, where all digits are bits, how often each pair of them is
11; every bit is then told given one other, its parent in a tree (Chow & Liu 1968). Its parameters are part of it, at
½ log2 N bits each, so what looks dependent by chance is not taken for it. Needs L² counts, for any number of codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bsq.metrics.usage import entropy_bits


class Description:
    """Counts digits, and pairs of bits. Counts are integers and add up exactly."""

    def __init__(self, radices: Sequence[int]) -> None:
        self._digits = [np.zeros(radix, np.int64) for radix in radices]
        self._both = np.zeros((len(radices),) * 2, np.int64) if set(radices) == {2} else None

    def add(self, rows: np.ndarray) -> None:
        """Digits (N, L), whole numbers below their radices."""
        for counts, column in zip(self._digits, rows.T, strict=True):
            counts += np.bincount(column, minlength=len(counts))
        if self._both is not None:
            ones = rows.astype(np.float64)  # sums of products of 0 and 1 are whole and exact
            self._both += (ones.T @ ones).astype(np.int64)

    def merge(self, other: Description) -> None:
        """Adds what another process has counted for the same radices."""
        for mine, theirs in zip(self._digits, other._digits, strict=True):
            mine += theirs
        if self._both is not None and other._both is not None:
            self._both += other._both

    def bits(self) -> float:
        """Bits a code, for at least one code."""
        tokens = int(self._digits[0].sum())
        price = math.log2(tokens) / (2 * tokens)  # of one parameter
        alone = math.fsum(entropy_bits(counts) + (len(counts) - 1) * price for counts in self._digits)
        return alone if self._both is None else alone - _tree_gain(mutual_information(self._both, tokens) - price)


def mutual_information(both: np.ndarray, tokens: int) -> np.ndarray:
    """Bits (L, L) that two bits tell of each other; `both` (L, L) counts the tokens in which both are 1."""
    ones = both.diagonal()
    share = ones / tokens
    first, second = np.broadcast_arrays(ones[:, None], ones[None])
    seen = (both, first - both, second - both, tokens - first - second + both)
    expected = (np.outer(a, b) for a, b in ((share, share), (share, 1 - share), (1 - share, share), (1 - share,) * 2))
    total = np.zeros(both.shape)
    for counts, chance in zip(seen, expected, strict=True):
        joint = counts / tokens
        there = joint > 0
        total[there] += joint[there] * np.log2(joint[there] / chance[there])
    return total


def _tree_gain(gains: np.ndarray) -> float:
    """Sum of the edges above 0 of the spanning tree of greatest gain (Prim)."""
    best = gains[0].copy()
    outside = np.arange(len(gains)) > 0
    taken = []
    while outside.any():
        nearest = int(np.argmax(np.where(outside, best, -np.inf)))
        taken.append(max(0.0, float(best[nearest])))
        outside[nearest] = False
        best = np.maximum(best, gains[nearest])
    return math.fsum(taken)
