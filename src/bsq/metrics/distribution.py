"""Distances of two sets of pictures. What enters: reference and sample pictures. What leaves: `DistributionScores`.

rFID is the Fréchet distance of pictures and their reconstructions, gFID of pictures and generated ones. The results are
the same whatever the batches, the order and the number of processes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from bsq.errors import DataError, SettingsError
from bsq.frozen.files import sha256
from bsq.metrics.features import FeatureNetwork, Rounding, rounded
from bsq.metrics.frechet import Moments, frechet_distance, load_moments, save_moments
from bsq.metrics.inception_score import SPLITS, InceptionScore, inception_score
from bsq.metrics.kernel import KernelDistance, kernel_distance
from bsq.metrics.manifold import PrecisionRecall, precision_recall
from bsq.metrics.sets import FeatureSet, Kept

Measure = Literal["fid", "sfid", "inception score", "precision and recall", "kid"]
MEASURES: tuple[Measure, ...] = ("fid", "sfid", "inception score", "precision and recall", "kid")
FID_ALONE: tuple[Measure, ...] = ("fid",)
FROM_MOMENTS = frozenset({"fid", "sfid", "inception score"})


@dataclass(frozen=True)
class DistributionScores:
    """Every measure that was asked for; None for the others."""

    network: str
    weights_sha256: str | None
    label: str  # "comparable …" or "not comparable: …"
    rounding: Rounding
    references: int | None  # None for statistics whose file does not say
    samples: int
    fid: float | None
    sfid: float | None
    inception_score: InceptionScore | None  # of the samples
    precision_recall: PrecisionRecall | None
    kid: KernelDistance | None
    notes: tuple[str, ...]  # what a reader must know


class DistributionMeter:
    """Adds up features of references and samples. `references` and `samples` are what other processes send here."""

    def __init__(
        self,
        network: FeatureNetwork,
        measures: Collection[Measure] = FID_ALONE,
        rounding: Rounding = "uint8",
        statistics: Path | str | None = None,
        splits: int = SPLITS,
    ) -> None:
        """`statistics`: an `.npz` of reference moments in place of reference pictures (fid, sfid)."""
        unknown = sorted(set(measures) - set(MEASURES))
        if unknown or not measures:
            raise SettingsError(f"no measures {unknown or '(none given)'}; there are {', '.join(MEASURES)}")
        if statistics is not None and not set(measures) <= FROM_MOMENTS:
            raise SettingsError("precision, recall and KID need reference pictures; statistics hold only their moments")
        self._network = network
        self._measures = frozenset(measures)
        self._rounding: Rounding = rounding
        self._splits = splits
        self._stored = None if statistics is None else load_moments(statistics)
        self._source = None if statistics is None else Path(statistics)
        kept = _kept(self._measures)
        self.references = FeatureSet(kept - {"logits"} or {"moments"})
        self.samples = FeatureSet(kept)

    def add_references(self, pixels: Tensor) -> None:
        """Float (B, 3, H, W) in [−1, 1]."""
        if self._stored is not None:
            raise SettingsError("the references are stored statistics; pictures cannot be added to them")
        self.references.add(self._network.pictures(rounded(pixels, self._rounding)))

    def add_samples(self, pixels: Tensor) -> None:
        """Float (B, 3, H, W) in [−1, 1]."""
        self.samples.add(self._network.pictures(rounded(pixels, self._rounding)))

    def merge(self, other: DistributionMeter) -> None:
        """Adds what another meter has measured with the same network."""
        mine, theirs = self._network, other._network
        if (mine.name, mine.weights_sha256) != (theirs.name, theirs.weights_sha256):
            raise SettingsError(f"cannot put together features of {mine.name} and {theirs.name}")
        self.references.merge(other.references)
        self.samples.merge(other.samples)

    def save_references(self, path: Path | str) -> None:
        """Writes the references' moments as an `.npz`, to be given as `statistics` later."""
        if not self._measures & {"fid", "sfid"} or self._stored is not None:
            raise SettingsError("no moments of references to save: they are counted for fid and sfid from pictures")
        spatial = self.references.moments("spatial moments") if "sfid" in self._measures else None
        save_moments(path, self.references.moments(), spatial)

    def result(self) -> DistributionScores:
        """Raises DataError when a set has too few pictures for a measure."""
        wanted = self._measures
        pictures = None if wanted <= {"inception score"} else self._count()
        score = kernel = manifold = None
        if "inception score" in wanted:
            score = inception_score(self.samples.rows("logits"), self._splits)
        if "precision and recall" in wanted:
            manifold = precision_recall(self.references.rows(), self.samples.rows())
        if "kid" in wanted:
            kernel = kernel_distance(self.references.rows(), self.samples.rows())
        return DistributionScores(
            network=self._network.name,
            weights_sha256=self._network.weights_sha256,
            label=self._network.label,
            rounding=self._rounding,
            references=pictures,
            samples=len(self.samples),
            fid=self._frechet("moments") if "fid" in wanted else None,
            sfid=self._frechet("spatial moments") if "sfid" in wanted else None,
            inception_score=score,
            precision_recall=manifold,
            kid=kernel,
            notes=self._notes(),
        )

    def _frechet(self, kept: Kept) -> float:
        return frechet_distance(self._reference_moments(kept), self.samples.moments(kept))

    def _reference_moments(self, kept: Kept) -> Moments:
        if self._stored is None:
            return self.references.moments(kept)
        pooled, spatial = self._stored
        moments = pooled if kept == "moments" else spatial
        if moments is None:
            raise DataError("the stored statistics have no mu_s and sigma_s, which sFID needs")
        return moments

    def _count(self) -> int | None:
        return len(self.references) if self._stored is None else self._stored[0].count

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if self._source is not None:
            notes.append(f"references are the statistics {self._source.name}, SHA-256 {sha256(self._source)}")
        for name, kept in (("fid", "moments"), ("sfid", "spatial moments")):
            if name in self._measures:
                notes += few(name, self._reference_moments(kept), self.samples.moments(kept))  # type: ignore[arg-type]
        return tuple(notes)


def few(measure: str, references: Moments, samples: Moments) -> list[str]:
    """A note when a covariance is of fewer rows than it has columns, as its distance is then far too high."""
    counts = [moments.count for moments in (references, samples) if moments.count is not None]
    if counts and min(counts) <= samples.dimension:
        return [
            f"{measure}: {min(counts)} pictures or clips for {samples.dimension} features; the value is biased upward"
        ]
    return []


def _kept(measures: frozenset[Measure]) -> set[Kept]:
    kept: set[Kept] = set()
    for measure in measures:
        match measure:
            case "fid":
                kept.add("moments")
            case "sfid":
                kept |= {"moments", "spatial moments"}
            case "inception score":
                kept.add("logits")
            case "precision and recall" | "kid":
                kept.add("rows")
            case _:
                raise SettingsError(f"no measure {measure!r}; there are {', '.join(MEASURES)}")
    return kept
