"""Missing digits from a prior. What enters: digits, some of them known. What leaves: all digits.

The same conversation that codes also completes: known digits are answered as they are, missing ones are chosen from
what the prior expects. So a stream that was cut short, lost tokens, and nothing at all (a sample) are one case.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bsq.errors import CodesError
from bsq.prior.base import TOTAL_FREQUENCY, Grid, Prior, Question, is_one_row, reply


class Choice(Protocol):
    """A way to answer a question without knowing the answer."""

    def __call__(self, question: Question) -> np.ndarray:
        """(n,) int64 digits."""
        ...


class MostLikely:
    """The likeliest digit of each token."""

    def __call__(self, question: Question) -> np.ndarray:
        frequencies = question.frequencies
        if frequencies.ndim == 1:
            return (frequencies > TOTAL_FREQUENCY // 2).astype(np.int64)
        if is_one_row(frequencies):  # numpy would write it out
            return np.full(len(frequencies), int(frequencies[0].argmax()), np.int64)
        return frequencies.argmax(1).astype(np.int64)


class Draw:
    """Digits drawn with the probabilities the prior gives; the same seed draws the same digits on every machine."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))

    def __call__(self, question: Question) -> np.ndarray:
        frequencies = question.frequencies
        points = self._random.integers(TOTAL_FREQUENCY, size=len(frequencies))
        if frequencies.ndim == 1:
            return (points < frequencies).astype(np.int64)
        return (points[:, None] >= frequencies.astype(np.int64).cumsum(1)).sum(1)


def fill(
    prior: Prior, grid: Grid, radices: tuple[int, ...], digits: np.ndarray, known: np.ndarray, choose: Choice
) -> np.ndarray:
    """Complete digits (N, L), integers, where `known` (N, L) bool is False. Returns (N, L) int64.

    Digits that are known but asked for after a missing one do not change its choice: the prior looks back only.
    Raises CodesError for other shapes.
    """
    shape = (grid.tokens, len(radices))
    if digits.shape != shape or known.shape != shape:
        raise CodesError(f"digits and known must be {shape}, got {digits.shape} and {known.shape}")
    whole = digits.astype(np.int64)
    conversation = prior.converse(grid, radices)
    question = next(conversation, None)
    while question is not None:
        here = (question.tokens, question.digit)
        whole[here] = np.where(known[here], whole[here], choose(question))
        question = reply(conversation, whole[here])
    return whole
