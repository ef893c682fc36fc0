"""Rows of tables. What enters: measures and values. What leaves: `Line`s, measured or published, in one form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum


class Form(Enum):
    """Which of the paper's tables."""

    RECONSTRUCTION = "Reconstruction"
    VIDEO = "Video"
    COMPRESSION = "Compression"
    GENERATION = "Generation"


MEASURED = "measured"
PUBLISHED_NETWORKS = ("inception", "adm", "stylegan", "i3d")
"""Those whose distances go by the names of FID and FVD, with their published weights."""
COMPARABLE = "comparable"
"""How the label of a network begins whose weights are the published ones (`bsq.metrics.features.FeatureNetwork`)."""


@dataclass(frozen=True)
class Measure:
    """A column: its heading, the decimals shown, and whether more is better (None: neither)."""

    name: str
    places: int
    more_is_better: bool | None = None


PARAMETERS = Measure("M params", 1)
BITS = Measure("bits / 8×8", 1)
BITS_PER_PIXEL = Measure("bpp", 4)
SPEED = Measure("img/s", 2, True)
PSNR = Measure("PSNR dB", 2, True)
SSIM = Measure("SSIM", 4, True)
MS_SSIM_DB = Measure("MS-SSIM dB", 2, True)
MS_SSIM_3 = Measure("MS-SSIM-3", 4, True)
CODE_USE = Measure("codes used %", 1, True)


def lpips(network: str) -> Measure:
    return Measure(f"LPIPS-{network}", 4, False)


def frechet(kind: str, features: str, label: str = COMPARABLE) -> Measure:
    """ "rFID (inception)", "rFVD (i3d)", but "Fréchet (squeeze)" and "Fréchet (inception, other weights)"."""
    known = features.partition(":")[0] in PUBLISHED_NETWORKS and label.startswith(COMPARABLE)
    return of_features(Measure(kind if known else "Fréchet", 2, False), features, label)


def inception_score(features: str, label: str = COMPARABLE) -> Measure:
    return of_features(Measure("IS", 2, True), features, label)


def precision(features: str, label: str = COMPARABLE) -> Measure:
    return of_features(Measure("precision", 3, True), features, label)


def recall(features: str, label: str = COMPARABLE) -> Measure:
    return of_features(Measure("recall", 3, True), features, label)


def of_features(measure: Measure, features: str, label: str) -> Measure:
    """With the network behind its name: values of two networks, or of other weights, never share a column.

    A file behind the network's name ("inception:FILE.pth") is left out: its hash is in the notes.
    """
    network = features.partition(":")[0]
    other = network in PUBLISHED_NETWORKS and not label.startswith(COMPARABLE)
    return replace(measure, name=f"{measure.name} ({network}{', other weights' if other else ''})")


@dataclass(frozen=True)
class Score:
    """A value, maybe infinite."""

    measure: Measure
    value: float


@dataclass(frozen=True)
class Line:
    """A system's row. `origin` is "measured", or where it was published; `remark` is below the table."""

    system: str
    scores: tuple[Score, ...]
    origin: str = MEASURED
    remark: str = ""

    def value(self, measure: Measure) -> float | None:
        return next((score.value for score in self.scores if score.measure == measure), None)

    @property
    def is_published(self) -> bool:
        return self.origin != MEASURED


ORDER = (
    *(PARAMETERS, BITS, BITS_PER_PIXEL, SPEED),
    *(PSNR, SSIM, MS_SSIM_DB, MS_SSIM_3),
)
"""The first columns; others follow as they are met."""


def columns(lines: Iterable[Line]) -> tuple[Measure, ...]:
    """All measures of the lines, each once."""
    met = dict.fromkeys(score.measure for line in lines for score in line.scores)
    return (*(measure for measure in ORDER if measure in met), *(measure for measure in met if measure not in ORDER))


def line(system: str, values: Iterable[tuple[Measure, float | None]], origin: str = MEASURED, remark: str = "") -> Line:
    """A line of what there is a value of."""
    return Line(system, tuple(Score(m, float(v)) for m, v in values if v is not None), origin, remark)
