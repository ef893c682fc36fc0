"""Kernel distance, KID (arXiv:1801.01401). What enters: two sets of features. What leaves: unbiased squared MMD.

The kernel is (x·y / D + 1)³. Everything is float64, a block of rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bsq.errors import DataError
from bsq.metrics.rows import check_sets

BLOCK_ROWS = 1024


@dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation over subsets."""

    mean: float
    deviation: float  # between subsets (divided by their number)
    subsets: int
    subset_size: int
    seed: int


def kernel_distance(pictures: Tensor, references: Tensor) -> float:
    """The unbiased estimate from all pairs; no chance in it, and negative for sets that are closer than chance.

    Takes (N, D) and (M, D), at least 2 of each. Raises ShapeError, NumericsError, DataError.
    """
    one, other = check_sets(pictures, references, least=2, measure="a kernel distance")
    n, m = len(one), len(other)
    within = (_sum(one, one) - _diagonal(one)) / (n * (n - 1)) + (_sum(other, other) - _diagonal(other)) / (m * (m - 1))
    return within - 2 * _sum(one, other) / (n * m)


def kernel_distance_of_subsets(
    pictures: Tensor, references: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0
) -> KernelDistance:
    """As published: `kernel_distance` of `subsets` random draws of `size` rows of each set, without replacement.

    The draws depend on the order of the rows and on `seed`. Raises DataError for sets smaller than `size`.
    """
    one, other = check_sets(pictures, references, least=2, measure="a kernel distance")
    if subsets < 1 or size < 2 or min(len(one), len(other)) < size:
        raise DataError(
            f"cannot draw {subsets} subsets of {size} from {len(one)} pictures and {len(other)} references; "
            "lower the size (2 or more), or use the estimate from all pairs"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(subsets):
        here, there = (torch.randperm(len(rows), generator=generator)[:size] for rows in (one, other))
        drawn.append(kernel_distance(one[here], other[there]))
    values = torch.tensor(drawn, dtype=torch.float64)
    return KernelDistance(float(values.mean()), float(values.std(correction=0)), subsets, size, seed)


def _sum(one: Tensor, other: Tensor) -> float:
    """Σ of the kernel over all pairs."""
    width = one.shape[1]
    total = torch.zeros((), dtype=torch.float64)
    for block in one.split(BLOCK_ROWS):
        for facing in other.split(BLOCK_ROWS):
            total += (block @ facing.T / width + 1).pow(3).sum()
    return float(total)


def _diagonal(rows: Tensor) -> float:
    return float((rows.square().sum(1) / rows.shape[1] + 1).pow(3).sum())
