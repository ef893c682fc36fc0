"""Bjøntegaard differences. What enters: two rate–quality curves. What leaves: their mean distance in either.

ITU-T VCEG-M33: curves are interpolated over log rate and averaged where they overlap. `cubic_*` fit one cubic
polynomial, as the original does; the others interpolate piecewise with monotone cubics (PCHIP), as JVET-T2010 does.
Nothing is ever extrapolated: curves without a common range do not compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bsq.errors import DataError, NumericsError

MIN_POINTS = 4
Integral = Callable[[np.ndarray, np.ndarray, float, float], float]  # of the curve through (x, y), from low to high


class NoOverlapError(DataError):
    """Two curves have no range in common."""


@dataclass(frozen=True, eq=False)
class Curve:
    """At least four points of rate (any unit, > 0) and quality (in dB or any unit in which more is better)."""

    rates: np.ndarray
    qualities: np.ndarray

    @staticmethod
    def of(rates: Sequence[float], qualities: Sequence[float]) -> Curve:
        """Sorted by rate. DataError unless quality strictly grows with rate, NumericsError for NaN or infinity."""
        x, y = np.asarray(rates, np.float64), np.asarray(qualities, np.float64)
        if x.shape != y.shape or x.ndim != 1 or len(x) < MIN_POINTS:
            raise DataError(f"a rate–quality curve needs {MIN_POINTS} or more points, got {x.shape} and {y.shape}")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise NumericsError("a rate–quality curve holds NaN or infinity")
        order = np.argsort(x)
        x, y = x[order], y[order]
        if x[0] <= 0 or (np.diff(x) <= 0).any() or (np.diff(y) <= 0).any():
            raise DataError("quality must strictly grow with rate, and rates be positive, for a Bjøntegaard difference")
        return Curve(x, y)


def rate_difference(anchor: Curve, test: Curve) -> float:
    """Mean rate of `test` over `anchor` at equal quality, in %; negative saves bits. NoOverlapError."""
    return _rate_difference(anchor, test, pchip_integral)


def quality_difference(anchor: Curve, test: Curve) -> float:
    """Mean quality of `test` minus `anchor` at equal rate, in units of quality. NoOverlapError."""
    return _quality_difference(anchor, test, pchip_integral)


def common_share(anchor: Curve, test: Curve) -> float:
    """The share, 0 … 1, of the anchor's range of quality that `rate_difference` is a mean over."""
    low, high = max(anchor.qualities[0], test.qualities[0]), min(anchor.qualities[-1], test.qualities[-1])
    return max(0.0, float((high - low) / (anchor.qualities[-1] - anchor.qualities[0])))


def cubic_rate_difference(anchor: Curve, test: Curve) -> float:
    """`rate_difference` by one cubic polynomial a curve, as in VCEG-M33."""
    return _rate_difference(anchor, test, cubic_integral)


def cubic_quality_difference(anchor: Curve, test: Curve) -> float:
    """`quality_difference` by one cubic polynomial a curve, as in VCEG-M33."""
    return _quality_difference(anchor, test, cubic_integral)


def _rate_difference(anchor: Curve, test: Curve, integral: Integral) -> float:
    low, high = _overlap(anchor.qualities, test.qualities)
    areas = [integral(c.qualities, np.log(c.rates), low, high) for c in (test, anchor)]
    return float(100 * np.expm1((areas[0] - areas[1]) / (high - low)))


def _quality_difference(anchor: Curve, test: Curve, integral: Integral) -> float:
    low, high = _overlap(np.log(anchor.rates), np.log(test.rates))
    areas = [integral(np.log(c.rates), c.qualities, low, high) for c in (test, anchor)]
    return float((areas[0] - areas[1]) / (high - low))


def _overlap(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    low, high = max(one[0], other[0]), min(one[-1], other[-1])
    if low >= high:
        raise NoOverlapError("the two curves do not overlap; measure them at common rates or qualities")
    return float(low), float(high)


def cubic_integral(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """∫ of the least-squares cubic polynomial through (x, y)."""
    antiderivative = np.polyint(np.polyfit(x, y, 3))
    return float(np.polyval(antiderivative, high) - np.polyval(antiderivative, low))


def pchip_integral(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """∫ of the piecewise cubic Hermite polynomial through (x, y), with the slopes of `pchip_slopes`."""
    slopes = pchip_slopes(x, y)
    total = 0.0
    for i, width in enumerate(np.diff(x)):
        start, end = max(low, x[i]) - x[i], min(high, x[i + 1]) - x[i]
        if end <= start:
            continue
        secant = (y[i + 1] - y[i]) / width
        quadratic = (3 * secant - 2 * slopes[i] - slopes[i + 1]) / width
        cubic = (slopes[i] + slopes[i + 1] - 2 * secant) / width**2
        antiderivative = np.polyint([cubic, quadratic, slopes[i], y[i]])
        total += float(np.polyval(antiderivative, end) - np.polyval(antiderivative, start))
    return total


def pchip_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes that keep a monotone curve monotone (Fritsch & Butland 1984; one-sided three-point ends)."""
    widths, secants = np.diff(x), np.diff(y) / np.diff(x)
    before, after = 2 * widths[1:] + widths[:-1], widths[1:] + 2 * widths[:-1]
    inner = np.zeros(len(x) - 2)
    same = secants[1:] * secants[:-1] > 0
    inner[same] = ((before + after)[same]) / (before[same] / secants[:-1][same] + after[same] / secants[1:][same])
    first = _end_slope(widths[0], widths[1], secants[0], secants[1])
    last = _end_slope(widths[-1], widths[-2], secants[-1], secants[-2])
    return np.array([first, *inner, last])


def _end_slope(near_width: float, far_width: float, near: float, far: float) -> float:
    slope = ((2 * near_width + far_width) * near - near_width * far) / (near_width + far_width)
    if slope * near <= 0:
        return 0.0
    if near * far <= 0 and abs(slope) > 3 * abs(near):
        return 3 * near
    return slope
