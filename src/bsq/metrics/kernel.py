"""Kernel distance (KID, arXiv:1801.01401). What enters: features of two sets. What leaves: its mean over subsets.

The squared maximum mean discrepancy with the kernel (x·y/D + 1)³, unbiased, so that it may fall below 0; for few
pictures and their own reconstructions it does, as each lies near its partner. Subsets are drawn without replacement
from the rows in the order given, by a seeded generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bsq.errors import DataError
from bsq.metrics.manifold import check_rows

SUBSETS = 100
SUBSET_SIZE = 1000


@dataclass(frozen=True)
class KernelDistance:
    """Mean and deviation over subsets (by their number)."""

    mean: float
    deviation: float
    subsets: int
    subset_size: int  # smaller than asked for where a set has fewer rows
    seed: int


def kernel_distance(
    references: np.ndarray,
    samples: np.ndarray,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> KernelDistance:
    """Float64 rows (N, D) and (M, D). Raises DataError for sets of fewer than 2 rows, ShapeError or NumericsError."""
    check_rows(references, samples)
    size = min(subset_size, len(references), len(samples))
    if size < 2 or subsets < 1:
        raise DataError(f"a kernel distance needs subsets of 2 or more pictures, got {subsets} subsets of {size}")
    generator = np.random.Generator(np.random.PCG64(seed))
    values = []
    for _ in range(subsets):
        one = generator.choice(len(references), size, replace=False)
        other = generator.choice(len(samples), size, replace=False)
        values.append(squared_discrepancy(references[one], samples[other]))
    mean = math.fsum(values) / subsets
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / subsets)
    return KernelDistance(mean, deviation, subsets, size, seed)


def squared_discrepancy(one: np.ndarray, other: np.ndarray) -> float:
    """Unbiased squared discrepancy of two sets of rows (N, D), (M, D), N and M at least 2."""
    count, others = len(one), len(other)
    own, theirs = _kernel(one, one), _kernel(other, other)
    within = (own.sum() - np.trace(own)) / (count * (count - 1))
    beyond = (theirs.sum() - np.trace(theirs)) / (others * (others - 1))
    return float(within + beyond - 2 * _kernel(one, other).mean())


def _kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one @ other.T / one.shape[1] + 1.0) ** 3
