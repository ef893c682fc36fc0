"""Improved precision and recall (arXiv:1904.06991). What enters: two sets of features. What leaves: two shares.

A set's manifold is the union of balls around its rows, each as wide as the distance to the row's k-th nearest neighbour
in the set. Precision is the share of pictures inside the references' manifold, recall that of references inside the
pictures'. A row on the rim is inside. Distances are exact to float64: matrix products find the nearest, and whatever
they leave in doubt is computed from differences. So equal rows are at distance 0, and ties fall alike in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bsq.errors import DataError
from bsq.metrics.rows import check_sets

NEIGHBOURS = 3  # as in the paper and in ADM
BLOCK_ROWS = 1024
SPARE = 8  # candidates beyond the k nearest


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares, 0 … 1."""

    precision: float
    recall: float
    neighbours: int
    pictures: int
    references: int


def precision_recall(pictures: Tensor, references: Tensor, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """Takes features (N, D) and (M, D), more than `neighbours` of each. Raises ShapeError, NumericsError, DataError."""
    if neighbours < 1:
        raise DataError(f"precision and recall need at least 1 neighbour, got {neighbours}")
    shown, wanted = check_sets(pictures, references, neighbours + 1, f"precision and recall (k = {neighbours})")
    precision = share_inside(shown, wanted, squared_radii(wanted, neighbours))
    recall = share_inside(wanted, shown, squared_radii(shown, neighbours))
    return PrecisionRecall(precision, recall, neighbours, len(shown), len(wanted))


def squared_radii(rows: Tensor, neighbours: int) -> Tensor:
    """Squared distance (N,) of each row of (N, D) to its k-th nearest other row."""
    radii = torch.empty(len(rows), dtype=torch.float64)
    centred, error = _centred(rows, rows)[0], _rounding(rows, rows)
    candidates = min(neighbours + SPARE, len(rows) - 1)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = torch.arange(start, min(start + BLOCK_ROWS, len(rows)))
        rough = _rough(centred[block], centred)
        rough[torch.arange(len(block)), block] = torch.inf  # a row is no neighbour of itself
        values, nearest = rough.topk(candidates, largest=False)
        for i, row in enumerate(block.tolist()):
            exact = _exact(rows[row], rows[nearest[i]]).sort().values[neighbours - 1]
            if candidates < len(rows) - 1 and values[i, -1] - error <= exact:  # one left out may be nearer
                distances = _exact(rows[row], rows)
                distances[row] = torch.inf
                exact = distances.kthvalue(neighbours).values
            radii[row] = exact
    return radii


def share_inside(rows: Tensor, centres: Tensor, radii: Tensor) -> float:
    """Share of rows (N, D) that lie in at least one ball around `centres` (M, D) of squared `radii` (M,)."""
    inside = 0
    shifted, shifted_centres = _centred(rows, centres)
    error = _rounding(rows, centres)
    for start in range(0, len(rows), BLOCK_ROWS):
        margin = radii - _rough(shifted[start : start + BLOCK_ROWS], shifted_centres)
        surely = (margin > error).any(1)
        inside += int(surely.sum())
        for i in (~surely).nonzero().flatten().tolist():
            near = (margin[i] >= -error).nonzero().flatten()
            inside += bool((_exact(rows[start + i], centres[near]) <= radii[near]).any())
    return inside / len(rows)


def _exact(row: Tensor, rows: Tensor) -> Tensor:
    """Squared distances (N,) of one row (D,) from rows (N, D), the same bits both ways round."""
    return (rows - row).square().sum(1)


def _rough(one: Tensor, other: Tensor) -> Tensor:
    """Squared distances (N, M) by a matrix product, off by `_rounding` at most."""
    return one.square().sum(1)[:, None] + other.square().sum(1) - 2 * one @ other.T


def _centred(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets moved by one vector, which keeps distances and makes the products' errors small."""
    centre = other.mean(0)
    return one - centre, other - centre


def _rounding(one: Tensor, other: Tensor) -> float:
    """A generous bound of what rounding does to `_rough` and `_exact`: 8 (D + 8) ε times the largest squared norms."""
    largest = max(float(rows.square().sum(1).max()) for rows in _centred(one, other))
    scale = max(float(one.abs().max()), float(other.abs().max())) ** 2  # moving rows rounds them, too
    return 8 * (one.shape[1] + 8) * torch.finfo(torch.float64).eps * (largest + scale)
