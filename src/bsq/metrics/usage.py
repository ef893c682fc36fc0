"""How codes are used. What enters: Codes, batch by batch. What leaves: balance, entropies and, for small K, exact use.

Counts are integers and add up exactly, so results do not depend on batch size, order or the number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bsq.codes import Codes
from bsq.errors import CodesError, DataError

EXACT_LIMIT = 2**20  # codebooks up to this size are counted code by code (8 MiB)


@dataclass(frozen=True, eq=False)
class IndexUse:
    """Use of a codebook small enough to count every code."""

    codebook_size: int  # K
    used: int  # codes seen at least once
    fraction: float  # used / K
    entropy_bits: float  # of the histogram of codes; at most log2 K
    perplexity: float  # 2^entropy, the effective number of codes

    @staticmethod
    def of(counts: np.ndarray) -> IndexUse:
        """From the histogram (K,) of codes."""
        entropy = entropy_bits(counts)
        used = int(np.count_nonzero(counts))
        return IndexUse(len(counts), used, used / len(counts), entropy, 2.0**entropy)


@dataclass(frozen=True, eq=False)
class CodeUse:
    """Use of codes over all tokens seen."""

    tokens: int
    radices: tuple[int, ...]
    digit_entropies_bits: tuple[float, ...]  # of each digit alone, at most log2 of its radix
    marginal_entropy_bits: float  # their sum, an upper bound of the entropy of whole codes
    ones: tuple[float, ...] | None  # share of 1 of each digit when all radices are 2; ½ is balanced
    index: IndexUse | None  # None when the codebook is larger than the limit

    @property
    def worst_imbalance(self) -> float | None:
        """Largest |share of ones − ½| over the digits, 0 … ½; None unless all radices are 2."""
        return None if self.ones is None else max(abs(share - 0.5) for share in self.ones)


class CodeUseMeter:
    """Counts digits, and whole codes while the codebook has at most `exact_limit` of them."""

    def __init__(self, radices: Sequence[int], exact_limit: int = EXACT_LIMIT) -> None:
        self._radices = tuple(radices)
        if not self._radices:
            raise CodesError("a continuous latent has no codes to count")
        self._digits = [np.zeros(radix, np.int64) for radix in self._radices]
        size = math.prod(self._radices)
        self._codes = np.zeros(size, np.int64) if size <= exact_limit else None

    def add(self, codes: Codes) -> None:
        """Counts every token of `codes`; raises CodesError when its radices are others."""
        if codes.radices != self._radices:
            raise CodesError(f"counting codes of radices {self._radices[:8]}, got {codes.radices[:8]}")
        rows = codes.digits.reshape(-1, codes.length).cpu().numpy()
        for counts, column in zip(self._digits, rows.T, strict=True):
            counts += np.bincount(column, minlength=len(counts))
        if self._codes is not None:
            self._codes += np.bincount(codes.indices().reshape(-1).cpu().numpy(), minlength=len(self._codes))

    def merge(self, other: CodeUseMeter) -> None:
        """Adds what another process has counted."""
        if other._radices != self._radices or (other._codes is None) != (self._codes is None):
            raise CodesError("cannot add up counts of different codebooks")
        for mine, theirs in zip(self._digits, other._digits, strict=True):
            mine += theirs
        if self._codes is not None and other._codes is not None:
            self._codes += other._codes

    def result(self) -> CodeUse:
        """Raises DataError when nothing was counted."""
        tokens = int(self._digits[0].sum())
        if not tokens:
            raise DataError("no codes were counted")
        entropies = tuple(entropy_bits(counts) for counts in self._digits)
        binary = all(radix == 2 for radix in self._radices)
        return CodeUse(
            tokens=tokens,
            radices=self._radices,
            digit_entropies_bits=entropies,
            marginal_entropy_bits=math.fsum(entropies),
            ones=tuple(int(counts[1]) / tokens for counts in self._digits) if binary else None,
            index=None if self._codes is None else IndexUse.of(self._codes),
        )


def entropy_bits(counts: np.ndarray) -> float:
    """Entropy of a histogram of counts, in bits."""
    shares = counts[counts > 0] / counts.sum()
    return float(max(0.0, -(shares * np.log2(shares)).sum()))
