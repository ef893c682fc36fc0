"""Joint entropy of codes too many to list. What enters: Codes, batch by batch. What leaves: `JointEntropy`.

Every distinct code seen is counted, whole. A histogram of N codes never shows more than log2 N bits, so two estimates
correct it: Miller and Madow's (1955), and Chao and Shen's (2003), which also weighs codes that were not seen. The share
of the distribution that the codes seen cover (Good, 1953) tells how far to believe them. Where it is small, two bounds
still hold on average: the entropy is not below that of collisions, and not above the length of a description.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bsq.codes import Codes, digit_bits, to_bits
from bsq.errors import CodesError, DataError
from bsq.metrics.described import Description
from bsq.metrics.usage import entropy_bits

ENOUGH = 0.9  # of the distribution seen
PENDING = 1 << 20  # codes that wait before they are sorted in


@dataclass(frozen=True)
class JointEntropy:
    """Of whole codes, in bits."""

    tokens: int
    distinct: int
    once: int  # codes seen exactly once
    coverage: float  # estimated share of the distribution that lies on codes seen, 1 − once/tokens
    plug_in_bits: float  # of the histogram: too low, and at most log2 tokens
    miller_madow_bits: float
    chao_shen_bits: float
    note: str  # what the number of tokens allows to say
    collision_bits: float | None  # from below: −log2 of the chance that two tokens share a code; None if no two did
    described_bits: float | None = None  # from above (`bsq.metrics.described`); None where only counts are known

    @staticmethod
    def of(counts: np.ndarray) -> JointEntropy:
        """From the counts of the codes seen, in any order. Raises DataError when there are none."""
        counts = np.sort(counts[counts > 0])
        tokens = int(counts.sum())
        if not tokens:
            raise DataError("no codes were counted")
        once = int((counts == 1).sum())
        coverage = 1 - once / tokens
        plug_in = entropy_bits(counts)
        alike = math.fsum(counts * (counts - 1.0))
        return JointEntropy(
            tokens=tokens,
            distinct=len(counts),
            once=once,
            coverage=coverage,
            plug_in_bits=plug_in,
            miller_madow_bits=plug_in + (len(counts) - 1) / (2 * tokens * math.log(2)),
            chao_shen_bits=_chao_shen(counts, tokens, once),
            note=_note(tokens, coverage),
            collision_bits=math.log2(tokens * (tokens - 1) / alike) if alike else None,
        )


class JointEntropyMeter:
    """Counts whole codes of any length; needs the bytes of a packed code and 8 more for every distinct code seen."""

    def __init__(self, radices: Sequence[int]) -> None:
        self._radices = tuple(radices)
        if not self._radices:
            raise CodesError("a continuous latent has no codes to count")
        self._codes = np.zeros(0, np.dtype((np.void, self._width())))
        self._counts = np.zeros(0, np.int64)
        self._waiting: list[np.ndarray] = []
        self._description = Description(self._radices)

    def add(self, codes: Codes) -> None:
        """Counts every token of `codes`; raises CodesError when its radices are others."""
        if codes.radices != self._radices:
            raise CodesError(f"counting codes of radices {self._radices[:8]}, got {codes.radices[:8]}")
        digits = codes.digits.reshape(-1, codes.length).cpu().numpy()
        self._description.add(digits)
        columns = [to_bits(digits[:, d], digit_bits(radix)) for d, radix in enumerate(self._radices)]
        packed = np.packbits(np.concatenate([column.reshape(len(digits), -1) for column in columns], 1), axis=1)
        self._waiting.append(np.ascontiguousarray(packed).view(self._codes.dtype).reshape(-1))
        if sum(map(len, self._waiting)) >= PENDING:
            self._sort_in()

    def merge(self, other: JointEntropyMeter) -> None:
        """Adds what another process has counted."""
        if other._radices != self._radices:
            raise CodesError("cannot add up counts of different codebooks")
        other._sort_in()
        self._sort_in()
        self._put_together(other._codes, other._counts)
        self._description.merge(other._description)

    def result(self) -> JointEntropy:
        """Raises DataError when nothing was counted."""
        self._sort_in()
        return replace(JointEntropy.of(self._counts), described_bits=self._description.bits())

    def _width(self) -> int:
        return -(-sum(digit_bits(radix) for radix in self._radices) // 8)

    def _sort_in(self) -> None:
        if self._waiting:
            codes, counts = np.unique(np.concatenate(self._waiting), return_counts=True)
            self._waiting = []
            self._put_together(codes, counts)

    def _put_together(self, codes: np.ndarray, counts: np.ndarray) -> None:
        both = np.concatenate([self._codes, codes])
        self._codes, place = np.unique(both, return_inverse=True)
        totals = np.zeros(len(self._codes), np.int64)
        np.add.at(totals, place, np.concatenate([self._counts, counts]))
        self._counts = totals


def _chao_shen(counts: np.ndarray, tokens: int, once: int) -> float:
    if tokens == 1:
        return 0.0
    # were all seen once, nothing would be covered; one fewer gives the largest value that means anything
    coverage = 1 - min(once, tokens - 1) / tokens
    shares = coverage * counts / tokens
    with np.errstate(divide="ignore"):
        seen = -np.expm1(tokens * np.log1p(-shares))  # the chance that a code of this share is seen at all
    return float(max(0.0, -(shares * np.log2(shares) / seen).sum()))


def _note(tokens: int, coverage: float) -> str:
    ceiling = math.log2(tokens)
    if coverage >= ENOUGH:
        return f"{tokens} codes cover about {coverage:.1%} of the distribution: the estimates can be believed"
    if coverage > 0:
        return (
            f"{tokens} codes cover about {coverage:.1%} of the distribution: the histogram shows at most {ceiling:.1f} "
            "bits, and the estimates are rough"
        )
    return (
        f"all of {tokens} codes differ: the entropy may be anything from about {ceiling:.1f} bits to the description's"
    )
