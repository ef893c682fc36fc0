"""A prior of small signed numbers, most of them zero. What enters: a grid and radices. What leaves: questions.

For what is left over when something else has been taken away (`bsq.codec.residual`): few places have any of it, and
these lie together. Counts learn while they are used, in contexts of how much the places around have, and the same place
in the digits before; all in integers, so that every machine counts alike.
"""

from __future__ import annotations

import numpy as np

from bsq.errors import SettingsError
from bsq.prior.base import TOTAL_FREQUENCY, Conversation, Grid, Question
from bsq.prior.places import Places

BATCH = 96
AROUND, CAP = 12, 3
"""So many neighbours count, each with its number's size, capped."""
WEIGHTS = np.array([2] * 4 + [1] * 8)
"""Of the nearest, of the diagonal ones and those two steps away."""
BOUNDS = np.array([1, 4, 6, 10, 18])
"""Of the mean size around, in 24ths of the nearest's weight: where the next context begins."""
BEFORE = 2
"""Sizes at the same place in the digits before, summed and capped: one context more for each."""
HIT = 8
"""What a number met adds to its count."""
ZEROS = np.array([29, 16, 10, 6, 3, 2])
"""What zeros count in each context before anything was met; the others count `OTHERS`."""
OTHERS = 3


def to_digits(values: np.ndarray) -> np.ndarray:
    """0, 1, −1, 2, −2, … → 0, 1, 2, 3, 4, …"""
    return np.where(values > 0, 2 * values - 1, -2 * values)


def to_values(digits: np.ndarray) -> np.ndarray:
    """Mirror of `to_digits`, int64."""
    return np.where(digits % 2 == 1, sizes_of(digits), -sizes_of(digits))


def sizes_of(digits: np.ndarray) -> np.ndarray:
    """The absolute values that digits stand for, int64."""
    return (np.asarray(digits, np.int64) + 1) // 2


class SparsePrior:
    """Digits of odd radix 2·m + 1 stand for the numbers −m … m (`to_values`)."""

    name = "sparse"
    identity = b"sparse\0\1"
    portable = True

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        """Ask for one digit of every token after another, all in chunk 0. Raises SettingsError: an even radix."""
        if any(radix % 2 == 0 for radix in radices):
            raise SettingsError(f"digits of signed numbers have odd radices, got {radices[:8]}")
        places, before = Places(grid), np.zeros(grid.tokens, np.int64)
        for digit, radix in enumerate(radices):
            counts = Counts()
            sizes, known = np.zeros(grid.tokens + 1, np.int64), np.zeros(grid.tokens + 1, np.int64)
            for tokens in places.batches(BATCH):
                near = places.neighbours[tokens, :AROUND]
                around = 24 * (np.minimum(sizes[near], CAP) @ WEIGHTS) // np.maximum(known[near] @ WEIGHTS, 4)
                contexts = np.searchsorted(BOUNDS, around, "right") * (BEFORE + 1) + np.minimum(before[tokens], BEFORE)
                answer = yield Question(tokens, digit, counts.frequencies(radix)[contexts], 0)
                sizes[tokens], known[tokens] = sizes_of(answer), 1
                counts.learn(contexts, sizes[tokens])
            before += sizes[:-1]


class Counts:
    """What was met of one digit: zeros and others in each context, and how often a size was not the last."""

    def __init__(self) -> None:
        self._zeros = np.repeat(ZEROS, BEFORE + 1)
        self._others = np.full(len(self._zeros), OTHERS)
        self._ended, self._went_on = np.full(2, HIT // 2), np.full(2, HIT // 2)  # at size 1, at larger ones

    def frequencies(self, radix: int) -> np.ndarray:
        """(contexts, radix) uint32; rows sum to 2^16, each entry at least 1."""
        table = np.ones((len(self._zeros), radix), np.int64)
        spare = TOTAL_FREQUENCY - radix
        zero = spare * self._zeros // (self._zeros + self._others)
        table[:, 0] += zero
        left = spare - zero
        for size in range(1, radix // 2 + 1):
            kind = min(size, 2) - 1
            ended, either = self._ended[kind], self._ended[kind] + self._went_on[kind]
            here = left if size == radix // 2 else left * ended // either
            table[:, 2 * size] += here // 2
            table[:, 2 * size - 1] += here - here // 2
            left = left - here
        return table.astype(np.uint32)

    def learn(self, contexts: np.ndarray, sizes: np.ndarray) -> None:
        """Count the sizes (n,) met in their contexts."""
        some = sizes > 0
        self._zeros = self._zeros + HIT * np.bincount(contexts[~some], minlength=len(self._zeros))
        self._others = self._others + HIT * np.bincount(contexts[some], minlength=len(self._others))
        larger = int((sizes > 1).sum())
        self._ended = self._ended + HIT * np.array([int((sizes == 1).sum()), larger])
        self._went_on = self._went_on + HIT * np.array([larger, int(np.maximum(sizes - 2, 0).sum())])
