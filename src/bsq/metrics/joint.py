"""Entropy of whole codes too many to count one by one. What enters: Codes. What leaves: bounds, and an estimate.

A codebook of 2^36 is never seen whole, so a histogram of what was seen says little: N tokens cannot show more than
log2 N bits. `JointUseMeter` therefore keeps how often each code was seen (its packed bytes and 8 more for each) and
reports what that can support, from below and from above. Tokens are taken as drawn from one distribution, each alone;
what neighbours tell about each other is the business of priors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bsq.codes import Codes, check_radices
from bsq.errors import CodesError, DataError
from bsq.metrics.usage import entropy_bits


@dataclass(frozen=True)
class JointUse:
    """How whole codes are used. In bits a code; `seen_bits` and `collision_bits` lie below the entropy, on average,
    `described_bits` above it."""

    tokens: int
    distinct: int  # different codes seen
    coverage: float  # estimated share, 0 … 1, of all tokens to come whose code was seen before (Good–Turing)
    seen_bits: float  # entropy of the histogram of codes; at most log2 of the tokens
    collision_bits: float | None  # −log2 of the chance that two tokens share a code; None if no two did
    estimated_bits: float | None  # Chao & Shen (2003), at most `described_bits`; None if nearly no code came twice
    described_bits: float  # what a code of digits needs that knows their balance and, for bits, one parent each


MIN_COVERAGE = 0.05  # below it, an estimate would rest on next to nothing


class JointUseMeter:
    """Counts whole codes of any length. Counts are integers: results know no batch size, order or processes."""

    def __init__(self, radices: Sequence[int]) -> None:
        self._radices = check_radices(radices)
        self._digits = [np.zeros(radix, np.int64) for radix in self._radices]
        self._pairs = np.zeros((len(self._radices),) * 2, np.int64)  # tokens in which both bits are 1
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []  # distinct packed codes, and how often each
        self._is_binary = set(self._radices) == {2}

    def add(self, codes: Codes) -> None:
        """Counts every token of `codes`; raises CodesError when its radices are others."""
        if codes.radices != self._radices:
            raise CodesError(f"counting codes of radices {self._radices[:8]}, got {codes.radices[:8]}")
        rows = codes.digits.reshape(-1, codes.length).cpu().numpy()
        if not len(rows):
            return
        for counts, column in zip(self._digits, rows.T, strict=True):
            counts += np.bincount(column, minlength=len(counts))
        if self._is_binary:
            ones = rows.astype(np.float64)  # sums of products of 0 and 1 are exact
            self._pairs += (ones.T @ ones).astype(np.int64)
        packed = np.packbits(rows, axis=1) if self._is_binary else np.ascontiguousarray(rows)
        self._keep(*_distinct(packed, np.ones(len(rows), np.int64)))

    def merge(self, other: JointUseMeter) -> None:
        """Adds what another process has counted."""
        if other._radices != self._radices:
            raise CodesError("cannot add up counts of different codebooks")
        for mine, theirs in zip(self._digits, other._digits, strict=True):
            mine += theirs
        self._pairs += other._pairs
        for codes, counts in other._seen:
            self._keep(codes, counts)

    def result(self) -> JointUse:
        """Raises DataError for fewer than two tokens."""
        tokens = int(self._digits[0].sum())
        if tokens < 2:
            raise DataError(f"an entropy of codes needs at least 2 tokens, got {tokens}")
        counts = self._counts()
        coverage = 1 - int((counts == 1).sum()) / tokens
        pairs = math.fsum(counts * (counts - 1.0))
        described = self._described_bits(tokens)
        return JointUse(
            tokens=tokens,
            distinct=len(counts),
            coverage=coverage,
            seen_bits=entropy_bits(counts),
            collision_bits=-math.log2(pairs / (tokens * (tokens - 1))) if pairs else None,
            estimated_bits=min(chao_shen_bits(counts), described) if coverage >= MIN_COVERAGE else None,
            described_bits=described,
        )

    def _keep(self, codes: np.ndarray, counts: np.ndarray) -> None:
        self._seen.append((codes, counts))
        # like a binary counter: an entry joins the one before it once it is as long, so each code moves log n times
        while len(self._seen) > 1 and len(self._seen[-1][0]) >= len(self._seen[-2][0]):
            parts = self._seen[-2:]
            joined = _distinct(np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]))
            self._seen[-2:] = [joined]

    def _counts(self) -> np.ndarray:
        """How often each distinct code was seen, in ascending order, so that sums do not depend on how codes came."""
        codes, counts = (np.concatenate(part) for part in zip(*self._seen, strict=True))
        return np.sort(_distinct(codes, counts)[1])

    def _described_bits(self, tokens: int) -> float:
        """Length of a description of all tokens, a token: digits by their balance, a bit by its parent where that pays.

        The parents are those of a tree of greatest mutual information (Chow & Liu 1968). Each parameter counts ½ log2 N
        bits, so that what looks dependent by chance is not taken for it.
        """
        price = math.log2(tokens) / (2 * tokens)
        bits = math.fsum(entropy_bits(counts) + (len(counts) - 1) * price for counts in self._digits)
        if not self._is_binary or len(self._digits) == 1:
            return bits
        return bits - _tree_gain(_mutual_information(self._pairs, tokens) - price)


def chao_shen_bits(counts: np.ndarray) -> float:
    """Entropy of a distribution of which codes were seen `counts` times, in bits (Chao & Shen 2003, Eq. 6 and 7).

    Shares are shrunk by the estimated coverage, and each term is divided by the chance that its code was seen at all.
    """
    tokens = int(counts.sum())
    singles = int((counts == 1).sum())
    coverage = 1 - min(singles, tokens - 1) / tokens  # all single: as if one were not, so that there is an estimate
    shares = coverage * counts / tokens
    was_seen = -np.expm1(tokens * np.log1p(-np.minimum(shares, 1 - 1e-16)))
    return math.fsum(-shares * np.log2(shares) / was_seen)


def _distinct(codes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, bytes) and their counts, equal rows joined."""
    keys = codes.view(np.dtype((np.void, codes.dtype.itemsize * codes.shape[1]))).reshape(-1)
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    totals = np.zeros(len(first), np.int64)
    np.add.at(totals, place.reshape(-1), counts)
    return codes[first], totals


def _mutual_information(both: np.ndarray, tokens: int) -> np.ndarray:
    """Bits (L, L) that two bits tell of each other, from how often both are 1; `both[i, i]` is how often bit i is."""
    ones = both.diagonal()
    table = [both, ones[:, None] - both, ones[None] - both, tokens - ones[:, None] - ones[None] + both]
    share = ones / tokens
    margins = [np.outer(share, share), np.outer(share, 1 - share), np.outer(1 - share, share)]
    margins.append(np.outer(1 - share, 1 - share))
    total = np.zeros(both.shape)
    for seen, expected in zip(table, margins, strict=True):
        joint = seen / tokens
        with np.errstate(divide="ignore", invalid="ignore"):
            total += np.where(joint > 0, joint * np.log2(joint / expected), 0.0)
    return total


def _tree_gain(gains: np.ndarray) -> float:
    """Sum of the edges above zero of the spanning forest of greatest gain (Prim)."""
    best = gains[0].copy()
    best[0] = -np.inf
    outside = np.ones(len(gains), bool)
    outside[0] = False
    taken = []
    for _ in range(len(gains) - 1):
        chosen = int(np.argmax(np.where(outside, best, -np.inf)))
        taken.append(max(0.0, float(best[chosen])))
        outside[chosen] = False
        best = np.maximum(best, gains[chosen])
    return math.fsum(taken)
