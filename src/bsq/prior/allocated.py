"""Codes whose tokens keep different numbers of digits. What enters: a prior of whole codes. What leaves: one of these.

An allocated code has a last digit more, its *level*, which says how many digits the token keeps; those it does not keep
are 0. Levels are asked for first, with the adaptive prior. Then the inner prior asks for the kept digits, and for the
others is told the value it thinks likeliest: nothing has to be said of them, and what it sees is what it learned from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from bsq.codes import Codes
from bsq.errors import CodesError
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.base import Conversation, Grid, Prior, Question, Wrapped, is_one_row, reply
from bsq.prior.fill import MostLikely

MAX_LEVELS = 16


@dataclass(frozen=True)
class AllocatedPrior(Wrapped):
    """A prior of allocated codes; `levels` are the numbers of digits that a token may keep, ascending."""

    inner: Prior
    levels: tuple[int, ...]

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        """Ask for the levels, then for the kept digits. `radices` are those of the digits, then that of the level."""
        *own, count = radices
        if count != len(self.levels) or self.levels[-1] != len(own):
            raise CodesError(f"levels {self.levels} do not fit codes of {len(own)} digits and {count} levels")
        choose = MostLikely()
        conversation = self.inner.converse(grid, tuple(own))
        first = next(conversation)  # before anything is asked: here a prior says that it does not model such codes
        asking = AdaptivePrior().converse(grid, (count,))
        kept, steps = np.zeros(grid.tokens, np.int64), 0
        question: Question | None = next(asking)
        while question is not None:
            level = yield replace(question, digit=len(own))
            kept[question.tokens] = np.asarray(self.levels)[level]
            steps = question.chunk + 1
            question = reply(asking, level)
        question = first
        while question is not None:
            mask = kept[question.tokens] > question.digit
            answer = choose(question)
            if mask.any():
                asked = Question(
                    question.tokens[mask], question.digit, _rows(question.frequencies, mask), question.chunk + steps
                )
                answer[mask] = yield asked
            question = reply(conversation, answer)


def _rows(frequencies: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The rows chosen; of a row that is broadcast, as many."""
    if is_one_row(frequencies):
        return frequencies[: int(mask.sum())]
    return frequencies[mask]


def allocate(codes: Codes, levels: tuple[int, ...], chosen: np.ndarray) -> Codes:
    """Codes (1, T, h, w, levels[-1]) and each token's level, its number in `levels` (T·h·w,) → allocated codes
    (1, T, h, w, levels[-1] + 1).
    """
    if codes.length != levels[-1]:
        raise CodesError(f"codes have {codes.length} digits, the largest of the levels is {levels[-1]}")
    level = torch.from_numpy(chosen).reshape(codes.shape[:4])
    kept = torch.tensor(levels)[level]
    digits = codes.digits.cpu() * (torch.arange(codes.length) < kept[..., None])
    column = level[..., None].to(digits.dtype)
    return Codes(torch.cat([digits, column], -1), (*codes.radices, len(levels)))


def kept_digits(allocated: Codes, levels: tuple[int, ...]) -> torch.Tensor:
    """How many digits each token of allocated codes keeps, int64 (1, T, h, w)."""
    return torch.tensor(levels)[allocated.digits[..., -1].long()]
