"""Bjøntegaard differences of a report. What enters: curves. What leaves: a `Comparison` per codec and measure.

PCHIP over log rate (`bench/bjontegaard.py`), of the curves of means over pictures; LPIPS counts downwards. Where curves
have no quality in common, or do not rise, there is no figure but a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bsq.bench.bjontegaard import (
    MIN_POINTS,
    Curve,
    NoOverlapError,
    common_share,
    quality_difference,
    rate_difference,
)
from bsq.bench.sweep import Point
from bsq.errors import DataError, NumericsError

NO_OVERLAP = "no overlap"
SMALL_SHARE = 0.25  # a mean over less of the anchor's range is marked in tables

MEASURES: dict[str, Callable[[Point], float | None]] = {
    "PSNR dB": lambda point: point.psnr,
    "MS-SSIM dB": lambda point: point.ms_ssim_db,
    "LPIPS": lambda point: None if point.lpips is None else -point.lpips,
}


class Curves(Protocol):
    """A report of points at several rates. A point has `codec`, `bits_per_pixel` and what the measures read."""

    @property
    def anchor(self) -> str: ...

    @property
    def labels(self) -> Mapping[str, str]: ...

    @property
    def points(self) -> Sequence[Any]: ...


Measures = Mapping[str, Callable[[Any], float | None]]


@dataclass(frozen=True)
class Comparison:
    """One codec beside the anchor in one measure."""

    codec: str
    measure: str
    rate_percent: float | None  # mean rate over the anchor's at equal quality; negative saves bits
    quality: float | None  # mean quality less the anchor's at equal rate, more is better (for LPIPS too)
    common_share: float  # share of the anchor's range of quality that `rate_percent` is a mean over
    reason: str  # why a figure is missing, else ""


def compare(report: Curves, measures: Measures = MEASURES) -> tuple[Comparison, ...]:
    """Every other codec beside `report.anchor`, in every measure that was taken."""
    return tuple(
        _compare(report, codec, measure, value)
        for codec in report.labels
        if codec != report.anchor
        for measure, value in measures.items()
        if all(value(point) is not None for point in report.points)
    )


def _compare(report: Curves, codec: str, measure: str, value: Callable[[Any], float | None]) -> Comparison:
    try:
        anchor, test = (_curve(report, name, value) for name in (report.anchor, codec))
    except (DataError, NumericsError) as error:
        return Comparison(codec, measure, None, None, 0.0, str(error))
    rate = quality = None
    reason = ""
    try:
        rate = rate_difference(anchor, test)
    except NoOverlapError:
        reason = NO_OVERLAP
    try:
        quality = quality_difference(anchor, test)
    except NoOverlapError:
        reason = NO_OVERLAP
    return Comparison(codec, measure, rate, quality, common_share(anchor, test), reason)


def _curve(report: Curves, codec: str, value: Callable[[Any], float | None]) -> Curve:
    """Points of a codec; where it cannot go as low it repeats its smallest file, which is one point of its curve."""
    found = {point.bits_per_pixel: value(point) for point in report.points if point.codec == codec}
    if len(found) < MIN_POINTS:
        raise DataError(f"fewer than {MIN_POINTS} points")
    try:
        return Curve.of(list(found), [quality for quality in found.values() if quality is not None])
    except DataError as error:
        raise DataError("quality does not grow with rate") from error
