"""Fréchet distance of two Gaussians (arXiv:1706.08500). What enters: rows of features. What leaves: one number.

‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½, all in float64. Means and covariances are gathered in one pass (Chan, Golub
& LeVeque 1983) over blocks of a fixed number of rows, so that the same rows in the same order give the same bits in
batches of any size; another order, or another number of processes, changes the last bits only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from torch import Tensor

from bsq.errors import DataError, NumericsError, ShapeError

BLOCK_ROWS = 256


class Covariance(Enum):
    """What the sum of squares is divided by."""

    SAMPLE = "n − 1"  # pytorch-fid, ADM
    POPULATION = "n"  # StyleGAN, StyleGAN-V


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean (D,) and covariance (D, D), float64, of `count` rows (None: not known)."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None = None

    @property
    def width(self) -> int:
        return len(self.mean)

    @property
    def is_rank_deficient(self) -> bool:
        """Whether there were too few rows for a covariance of full rank."""
        return self.count is not None and self.count <= self.width


class GaussianStatistics:
    """Gathers mean and covariance of rows, batch by batch, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = np.zeros(0)
        self._squares = np.zeros((0, 0))  # Σ (x − mean)(x − mean)ᵀ
        self._waiting: list[np.ndarray] = []
        self._waiting_rows = 0

    @property
    def count(self) -> int:
        return self._count + self._waiting_rows

    def add(self, rows: Tensor | np.ndarray) -> None:
        """Adds rows (B, D). Raises ShapeError when D is another than before, NumericsError for NaN or infinity."""
        found = _as_rows(rows)
        width = self._width()
        if width is not None and found.shape[1] != width:
            raise ShapeError(f"features of {found.shape[1]} numbers cannot join features of {width}")
        self._waiting.append(found)
        self._waiting_rows += len(found)
        if self._waiting_rows >= BLOCK_ROWS:
            joined = np.concatenate(self._waiting)
            whole = len(joined) - len(joined) % BLOCK_ROWS
            for start in range(0, whole, BLOCK_ROWS):
                self._fold(joined[start : start + BLOCK_ROWS])
            self._waiting, self._waiting_rows = [joined[whole:].copy()], len(joined) - whole

    def merge(self, other: GaussianStatistics) -> None:
        """Adds what another process has gathered; `other` stays as it is."""
        if other._waiting_rows:
            self.add(np.concatenate(other._waiting))
        if other._count:
            width = self._width()
            if width is not None and len(other._mean) != width:
                raise ShapeError(f"features of {len(other._mean)} numbers cannot join features of {width}")
            self._join(other._count, other._mean, other._squares)

    def result(self, covariance: Covariance = Covariance.SAMPLE) -> Gaussian:
        """Raises DataError for fewer than two rows."""
        if self.count < 2:
            raise DataError(
                "a Fréchet distance (FID, FVD) needs at least 2 pictures or clips on each side, for a covariance; "
                f"got {self.count}"
            )
        total = GaussianStatistics()
        total._count, total._mean, total._squares = self._count, self._mean, self._squares
        if self._waiting_rows:
            total._fold(np.concatenate(self._waiting))
        match covariance:
            case Covariance.SAMPLE:
                divisor = total._count - 1
            case Covariance.POPULATION:
                divisor = total._count
            case _:
                raise DataError(f"no covariance {covariance!r}")
        return Gaussian(total._mean.copy(), total._squares / divisor, total._count)

    def _width(self) -> int | None:
        if self._count:
            return len(self._mean)
        return self._waiting[0].shape[1] if self._waiting else None

    def _fold(self, block: np.ndarray) -> None:
        mean = block.mean(0)
        centred = block - mean
        self._join(len(block), mean, centred.T @ centred)

    def _join(self, count: int, mean: np.ndarray, squares: np.ndarray) -> None:
        if not self._count:
            self._count, self._mean, self._squares = count, mean, squares
            return
        total = self._count + count
        apart = mean - self._mean
        self._squares = self._squares + squares + np.outer(apart, apart) * (self._count * count / total)
        self._mean = self._mean + apart * (count / total)
        self._count = total


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Fréchet distance (squared, as FID reports it). Raises ShapeError when the widths differ, NumericsError for NaN.

    tr (Σ₁Σ₂)^½ is the sum of singular values of Σ₁^½ Σ₂^½, with square roots from symmetric eigendecompositions.
    Eigenvalues that cannot be told from rounding (below D·ε times the largest) count as zero: their roots would be
    noise of 1e-8, a thousand times over where there are fewer rows than numbers in a row.
    """
    if one.width != other.width:
        raise ShapeError(f"features of {one.width} and of {other.width} numbers have no Fréchet distance")
    for part in (one.mean, one.covariance, other.mean, other.covariance):
        if not np.isfinite(part).all():
            raise NumericsError("the statistics hold NaN or infinity")
    first, second = _root(one.covariance), _root(other.covariance)
    overlap = float(np.linalg.svd(first.T @ second, compute_uv=False).sum()) if first.size and second.size else 0.0
    apart = one.mean - other.mean
    return float(apart @ apart + np.trace(one.covariance) + np.trace(other.covariance) - 2 * overlap)


def _root(covariance: np.ndarray) -> np.ndarray:
    """R (D, rank) with R Rᵀ = covariance."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    largest = values[-1]
    if values[0] < -1e-3 * max(largest, 0.0):
        raise NumericsError(f"not a covariance: eigenvalues from {values[0]:.3g} to {largest:.3g}")
    kept = values > len(values) * np.finfo(np.float64).eps * largest
    return vectors[:, kept] * np.sqrt(values[kept])


def _as_rows(rows: Tensor | np.ndarray) -> np.ndarray:
    found = rows.detach().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
    if found.ndim != 2 or not found.shape[1]:
        raise ShapeError(f"expected features (B, D), got {found.shape}")
    found = found.astype(np.float64)  # a copy: the caller may go on to change its own
    if not np.isfinite(found).all():
        raise NumericsError("the features hold NaN or infinity")
    return found
