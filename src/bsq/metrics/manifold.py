"""Improved precision and recall (arXiv:1904.06991). What enters: features of two sets. What leaves: two shares.

A set's manifold is the union of balls around its rows, each as wide as the distance to the row's k-th nearest other.
Precision is the share of samples inside the manifold of the references, recall the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bsq.errors import DataError, NumericsError, ShapeError

NEIGHBOURS = 3
BLOCK = 1024  # rows compared at once: 8·BLOCK·N bytes
TIE = 1e-12  # of |a|² + |b|²: distances this near to a radius count as equal to it


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares, 0 … 1."""

    precision: float
    recall: float
    neighbours: int
    references: int
    samples: int


def precision_recall(references: np.ndarray, samples: np.ndarray, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """Float64 rows (N, D) and (M, D). Raises DataError unless both sets have more rows than `neighbours`."""
    check_rows(references, samples)
    least = min(len(references), len(samples))
    if neighbours < 1 or least <= neighbours:
        raise DataError(f"precision and recall with {neighbours} neighbours need more pictures than that, got {least}")
    centre = references.mean(0)  # small norms keep the differences of squares exact
    references, samples = references - centre, samples - centre
    return PrecisionRecall(
        precision=_share_inside(references, samples, neighbours),
        recall=_share_inside(samples, references, neighbours),
        neighbours=neighbours,
        references=len(references),
        samples=len(samples),
    )


def check_rows(references: np.ndarray, samples: np.ndarray) -> None:
    """Raises ShapeError or NumericsError unless both are finite rows of one width."""
    for rows in (references, samples):
        if rows.ndim != 2 or not rows.shape[1]:
            raise ShapeError(f"expected features (N, D), got {rows.shape}")
        if not np.isfinite(rows).all():
            raise NumericsError("features hold NaN or infinity")
    if references.shape[1] != samples.shape[1]:
        raise ShapeError(
            f"cannot compare {references.shape[1]} features with {samples.shape[1]}; they come from two networks"
        )


def _share_inside(balls: np.ndarray, points: np.ndarray, neighbours: int) -> float:
    radii = _squared_radii(balls, neighbours)
    norms = (balls**2).sum(1)
    inside = 0
    for begin in range(0, len(points), BLOCK):
        block = points[begin : begin + BLOCK]
        slack = TIE * ((block**2).sum(1)[:, None] + norms[None])
        inside += int((_squared_distances(block, balls, norms) <= radii + slack).any(1).sum())
    return inside / len(points)


def _squared_radii(rows: np.ndarray, neighbours: int) -> np.ndarray:
    norms = (rows**2).sum(1)
    radii = np.empty(len(rows))
    for begin in range(0, len(rows), BLOCK):
        distances = _squared_distances(rows[begin : begin + BLOCK], rows, norms)
        # a row is its own nearest: the k-th other is the one after k, counted from 0
        own = np.arange(len(distances))
        distances[own, begin + own] = -1.0
        radii[begin : begin + BLOCK] = np.partition(distances, neighbours, axis=1)[:, neighbours]
    return radii


def _squared_distances(block: np.ndarray, rows: np.ndarray, norms: np.ndarray) -> np.ndarray:
    return np.maximum((block**2).sum(1)[:, None] + norms[None] - 2 * (block @ rows.T), 0.0)
