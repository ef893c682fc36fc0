"""What a prior is. What enters: a grid and radices, then digits. What leaves: questions with integer frequencies.

A prior p(digits | digits known so far) is a conversation: it asks for some digits, stating what it expects, is told
what they are, and asks on until every digit of the grid has been asked for exactly once. The encoder answers from the
codes, the decoder from the stream, the sampler by drawing; the prior cannot tell which, so the three never disagree.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

FREQUENCY_BITS = 16
TOTAL_FREQUENCY = 1 << FREQUENCY_BITS
MAX_RADIX = TOTAL_FREQUENCY  # every digit needs a frequency of at least 1

NO_IDENTITY = b"\0" * 8


@dataclass(frozen=True)
class Grid:
    """The token grid (T, h, w) of one conversation; token (t, y, x) has the flat index (t·h + y)·w + x."""

    frames: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        """T·h·w."""
        return self.frames * self.height * self.width


@dataclass(frozen=True)
class Question:
    """ "What are these digits?", with what the prior expects.

    tokens       (n,) int64, flat indices into the (T, h, w) grid
    digit        which digit of these tokens, 0 … L − 1
    frequencies  (n,) uint16 for radix 2: p(digit = 1)·2^16, in 1 … 65535;
                 (n, K) uint32 for another radix K ≤ 2^16: p(digit = k)·2^16, each at least 1, rows summing to 2^16
                 (rows that are all the same may be one row broadcast)
    chunk        the stream chunk these digits belong to, from 0; never decreases; chunks decode in order
    """

    tokens: np.ndarray
    digit: int
    frequencies: np.ndarray
    chunk: int


Conversation = Generator[Question, np.ndarray, None]


class Prior(Protocol):
    """A model of codes that can be coded with and sampled from."""

    @property
    def name(self) -> str:
        """The kind: "uniform", "adaptive", "masked" or "causal"."""
        ...

    @property
    def identity(self) -> bytes:
        """8 bytes that name the exact weights and arithmetic; `NO_IDENTITY` if there are none."""
        ...

    @property
    def portable(self) -> bool:
        """True: the frequencies are the same integers on every machine."""
        ...

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        """Ask for every digit of the grid once; each question is answered, by `send`, with its digits, (n,) int64."""
        ...


class Wrapped:
    """A prior that goes by another one's name, identity and portability."""

    inner: Prior

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def identity(self) -> bytes:
        return self.inner.identity

    @property
    def portable(self) -> bool:
        return self.inner.portable


def reply(conversation: Conversation, digits: np.ndarray) -> Question | None:
    """Answer the question at hand: the next one, None when the conversation is over."""
    try:
        return conversation.send(digits)
    except StopIteration:
        return None


def is_one_row(frequencies: np.ndarray) -> bool:
    """Whether all digits of a question share one broadcast row of frequencies."""
    return len(frequencies) > 1 and frequencies.strides[0] == 0
