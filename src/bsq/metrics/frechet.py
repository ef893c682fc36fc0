"""Fréchet distance of two sets of features. What enters: rows of features. What leaves: moments, and their distance.

Features are rounded to whole multiples of 2⁻²⁹ and their sums and products counted in integers, so means and
covariances are the same to the last bit however the rows are cut into batches, ordered or spread over processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bsq.errors import DataError, NumericsError, ShapeError

STEP = 2.0**-29  # finer than float32 for features above 1/64
LIMB = 2.0**20  # a feature is high·2²⁰ + low steps, so products of parts of up to 2¹² rows are exact in float64
LARGEST = 2.0**10  # of a feature
LEAST = 2.0**-10  # of the largest feature of a set: of smaller ones, steps would leave too little
AT_ONCE = 2**12  # rows, at most
ROUNDING = 1e-6  # of the largest variance: what stored float32 may be below 0 by
WAITING = 2**9  # rows that are multiplied together, as D² products cost the same for one row as for some


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean (D,) and covariance (D, D) of a set, float64. `count` is None for statistics whose files do not say."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None = None

    def __post_init__(self) -> None:
        width = self.mean.shape[0] if self.mean.ndim == 1 else 0
        if not width or self.covariance.shape != (width, width):
            raise ShapeError(
                f"moments need a mean (D,) and a covariance (D, D), got {self.mean.shape} and {self.covariance.shape}"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()):
            raise NumericsError("the mean or covariance of features holds NaN or infinity")

    @property
    def dimension(self) -> int:
        return len(self.mean)


class GaussianStatistics:
    """Count, sum and sum of products of rows, exact. Needs 24·D² bytes, and the last few hundred rows."""

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise ShapeError(f"features need a dimension of 1 or more, got {dimension}")
        self.dimension = dimension
        self.count = 0
        self._sum = np.zeros((2, dimension), np.int64)  # high and low parts
        self._products = np.zeros((3, dimension, dimension), np.int64)  # high·high, high·low, low·low
        self._waiting: list[np.ndarray] = []
        self._largest = 0.0

    def add(self, rows: Tensor) -> None:
        """Rows (B, D), floating point. Raises as `check` does and then adds nothing."""
        self._largest = max(self._largest, self.check(rows))
        steps = np.rint(rows.detach().cpu().double().numpy() / STEP)
        self.count += len(steps)
        self._waiting.append(steps)
        if sum(map(len, self._waiting)) >= WAITING:
            self._multiply()

    def check(self, rows: Tensor) -> float:
        """The largest feature; raises ShapeError or NumericsError unless rows can be added."""
        if rows.ndim != 2 or rows.shape[1] != self.dimension or not rows.is_floating_point():
            raise ShapeError(f"expected features (B, {self.dimension}), got {rows.dtype} {tuple(rows.shape)}")
        largest = float(rows.detach().abs().max()) if rows.numel() else 0.0
        if not math.isfinite(largest):
            raise NumericsError("the features of a picture hold NaN or infinity")
        if largest >= LARGEST:
            raise NumericsError(f"a feature is {largest:.4g}; statistics take features below {LARGEST:.0f}, scale them")
        return largest

    def _multiply(self) -> None:
        whole = np.concatenate(self._waiting) if self._waiting else np.zeros((0, self.dimension))
        self._waiting = []
        for begin in range(0, len(whole), AT_ONCE):
            self._count_in(whole[begin : begin + AT_ONCE])

    def _count_in(self, steps: np.ndarray) -> None:
        high = np.rint(steps / LIMB)
        low = steps - high * LIMB
        self._sum += np.stack([high.sum(0), low.sum(0)]).astype(np.int64)
        for total, left, right in zip(self._products, (high, high, low), (high, low, low), strict=True):
            total += (left.T @ right).astype(np.int64)  # whole numbers below 2⁵³: no rounding, in any order

    def merge(self, other: GaussianStatistics) -> None:
        """Adds what another process has counted."""
        if other.dimension != self.dimension:
            raise ShapeError(f"cannot add up statistics of {self.dimension} and {other.dimension} features")
        self.count += other.count
        self._largest = max(self._largest, other._largest)
        self._waiting += other._waiting
        self._sum += other._sum
        self._products += other._products

    def __getstate__(self) -> dict[str, Any]:
        self._multiply()
        return self.__dict__

    def moments(self) -> Moments:
        """Mean and covariance (by N − 1, as numpy.cov).

        Raises DataError with fewer than 2 rows, NumericsError when all features are tiny and not all are 0.
        """
        if self.count < 2:
            raise DataError(f"a covariance needs at least 2 pictures or clips, got {self.count}")
        if 0 < self._largest < LEAST:
            raise NumericsError(
                f"the largest feature is {self._largest:.4g}; statistics take sets whose largest is {LEAST:.4g} or "
                "more, scale them"
            )
        self._multiply()
        total = self._sum[0] * int(LIMB) + self._sum[1]
        centre = (total + self.count // 2) // self.count  # the mean, rounded to a step
        high, crossed, low = self._about(centre).astype(np.float64)
        products = (high * LIMB + crossed + crossed.T) * LIMB + low
        rest = (total - self.count * centre).astype(np.float64)  # half a step a row at most
        covariance = (products - np.outer(rest, rest / self.count)) * STEP**2 / (self.count - 1)
        mean = (centre + rest / self.count) * STEP
        return Moments(mean, (covariance + covariance.T) / 2, self.count)

    def _about(self, centre: np.ndarray) -> np.ndarray:
        """The products (3, D, D) of rows less `centre` (D,), still whole: floats would lose a covariance far from 0."""
        high = np.rint(centre / LIMB).astype(np.int64)
        parts = (high, centre - high * int(LIMB))
        moved = self._products.copy()
        for product, (left, right) in zip(moved, ((0, 0), (0, 1), (1, 1)), strict=True):
            product -= np.outer(parts[left], self._sum[right]) + np.outer(self._sum[left], parts[right])
            product += self.count * np.outer(parts[left], parts[right])
        return moved


def frechet_distance(one: Moments, other: Moments) -> float:
    """|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁ Σ₂)^½, squared as is usual, and never below 0.

    The last trace is the sum of the singular values of Σ₁^½ Σ₂^½, with roots by symmetric eigendecomposition.
    Eigenvalues that float64 cannot tell from 0 are taken as 0.
    """
    if one.dimension != other.dimension:
        raise ShapeError(f"cannot compare {one.dimension} features with {other.dimension}; they come from two networks")
    gap = one.mean - other.mean
    cross = float(np.linalg.svd(_factor(one.covariance) @ _factor(other.covariance).T, compute_uv=False).sum())
    spread = float(np.trace(one.covariance) + np.trace(other.covariance))
    return max(0.0, float(gap @ gap) + spread - 2 * cross)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """Λ^½ Vᵀ (R, D) of the R eigenvalues that are not 0."""
    values, vectors = np.linalg.eigh(covariance)
    least = max(float(values[-1]), 0.0) * len(values) * np.finfo(np.float64).eps
    kept = values > least
    return np.sqrt(values[kept])[:, None] * vectors[:, kept].T


def save_moments(path: Path | str, pooled: Moments, spatial: Moments | None = None) -> None:
    """Writes `mu`, `sigma` (as pytorch-fid does) and, where given, `mu_s`, `sigma_s` (as guided-diffusion does)."""
    arrays: dict[str, Any] = {"mu": pooled.mean, "sigma": pooled.covariance}
    if pooled.count is not None:
        arrays["count"] = np.int64(pooled.count)
    if spatial is not None:
        arrays |= {"mu_s": spatial.mean, "sigma_s": spatial.covariance}
    with Path(path).open("wb") as out:  # numpy would add a suffix to a bare name
        np.savez(out, **arrays)


def load_moments(path: Path | str) -> tuple[Moments, Moments | None]:
    """Pooled and, where the file has them, spatial moments of an `.npz`. Raises DataError; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in ("mu", "sigma", "mu_s", "sigma_s", "count") if name in found}
    except Exception as error:  # of the file, of zip, of zlib, of numpy: none of them is ours
        raise DataError(f"{path} cannot be read as statistics (.npz with mu and sigma): {error}") from error
    if "mu" not in arrays or "sigma" not in arrays:
        raise DataError(f"{path} has no mu and sigma; statistics of pytorch-fid or guided-diffusion have both")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or (name == "count" and array.shape != ()):
            raise DataError(f"{path}: {name} holds no real numbers, or too many: {array.dtype} {array.shape}")
    count = int(arrays["count"]) if "count" in arrays else None
    pooled = _stored(path, arrays["mu"], arrays["sigma"], count)
    if "mu_s" not in arrays or "sigma_s" not in arrays:
        return pooled, None
    return pooled, _stored(path, arrays["mu_s"], arrays["sigma_s"], count)


def _stored(path: Path | str, mean: np.ndarray, covariance: np.ndarray, count: int | None) -> Moments:
    moments = Moments(mean.astype(np.float64), covariance.astype(np.float64), count)
    variances = moments.covariance.diagonal()
    if variances.min() < -ROUNDING * np.abs(variances).max():
        raise DataError(f"{path} holds variances below 0: {variances.min():.4g}")
    return moments
