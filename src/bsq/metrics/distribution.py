"""Distance of two sets of pictures or clips. What enters: pixels of either. What leaves: scores, and what they are of.

`FrechetMeter` gathers statistics in constant memory: FID and rFID (sFID beside them) with a network of pictures, FVD
and rFVD with one of clips. `DistributionMeter` keeps all features (4 bytes a number for networks in float32) and adds
what needs them: inception score, precision and recall, kernel distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from bsq.errors import DataError
from bsq.metrics.features import FeatureNetwork, Features, NetworkIdentity
from bsq.metrics.frechet import Covariance, Gaussian, GaussianStatistics, frechet_distance
from bsq.metrics.inception_score import InceptionScore, inception_score
from bsq.metrics.kernel import KernelDistance, kernel_distance, kernel_distance_of_subsets
from bsq.metrics.manifold import NEIGHBOURS, PrecisionRecall, precision_recall
from bsq.metrics.reference import ReferenceStatistics
from bsq.metrics.rows import order_by_content


@dataclass(frozen=True)
class FrechetScores:
    """Fréchet distances, and all that they depend on besides the pictures."""

    network: NetworkIdentity
    covariance: Covariance
    pictures: int  # or clips
    references: int | None  # None: the reference statistics do not say
    frechet: float  # FID, rFID, FVD or rFVD
    spatial_frechet: float | None  # sFID; None if the network or the reference has no spatial features
    notes: tuple[str, ...]  # what a reader of the number must know

    @property
    def label(self) -> str:
        """Whose number it is: "… , not comparable" unless it may stand beside published ones."""
        return self.network.label


@dataclass(frozen=True)
class Draws:
    """How sets are split and drawn from; the defaults are those of published scores."""

    splits: int = 10  # of the inception score
    neighbours: int = NEIGHBOURS  # of precision and recall
    subsets: int = 100  # of the kernel distance
    subset_size: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class DistributionScores:
    """All scores of a set of pictures against references. What cannot be had is None, and a note says why."""

    frechet: FrechetScores
    inception: InceptionScore | None
    manifold: PrecisionRecall | None
    kernel: float | None  # unbiased, from all pairs
    kernel_of_subsets: KernelDistance | None
    notes: tuple[str, ...]


class FrechetMeter:
    """Fréchet distance of pictures from references, or from the stored statistics of references.

    Copies that travel between processes (pickled) leave the network behind: they are there to be merged.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        reference: ReferenceStatistics | None = None,
        covariance: Covariance = Covariance.SAMPLE,
    ) -> None:
        """Raises DataError when `reference` was made with another network."""
        self.identity = network.identity
        self._network: FeatureNetwork | None = network
        self._covariance = covariance
        self._reference = reference
        self._doubts = () if reference is None else reference.doubts(network.identity)
        self._pictures, self._references = _Side(), _Side()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_network": None}

    def features(self, pixels: Tensor) -> Features:
        """What the network says of pictures (B, 3, H, W) or clips (B, 3, T, H, W), as it takes them."""
        if self._network is None:
            raise DataError("this meter came from another process, without its network: merge it, but add elsewhere")
        return self._network.features(pixels)

    def add(self, pixels: Tensor) -> None:
        """Adds pictures or clips."""
        self.add_features(self.features(pixels))

    def add_reference(self, pixels: Tensor) -> None:
        """Adds references. Raises DataError when their statistics were given."""
        self.add_reference_features(self.features(pixels))

    def add_features(self, features: Features) -> None:
        """Adds pictures of which this network's features are known."""
        self._pictures.add(features)

    def add_reference_features(self, features: Features) -> None:
        """Adds references of which this network's features are known."""
        if self._reference is not None:
            raise DataError("the reference statistics were given; references cannot be added to them")
        self._references.add(features)

    def merge(self, other: FrechetMeter) -> None:
        """Adds what another process has gathered."""
        if self.identity != other.identity:
            raise DataError(f"cannot add up features of {self.identity.label} and of {other.identity.label}")
        self._pictures.merge(other._pictures)
        self._references.merge(other._references)

    @property
    def has_reference(self) -> bool:
        """Whether the statistics of the references were given."""
        return self._reference is not None

    def reference_statistics(self) -> ReferenceStatistics:
        """Of the references so far, to be saved and used again; those that were given, if any were."""
        if self._reference is not None:
            return self._reference
        return self._references.statistics(self._covariance, self.identity)

    def result(self) -> FrechetScores:
        """Raises DataError for fewer than two pictures or references."""
        shown, wanted = self._pictures.statistics(self._covariance, self.identity), self.reference_statistics()
        spatial = None
        if shown.spatial is not None and wanted.spatial is not None:
            spatial = frechet_distance(shown.spatial, wanted.spatial)
        return FrechetScores(
            network=self.identity,
            covariance=self._covariance,
            pictures=self._pictures.pooled.count,
            references=wanted.pooled.count,
            frechet=frechet_distance(shown.pooled, wanted.pooled),
            spatial_frechet=spatial,
            notes=(*self._doubts, *_rank_notes("pictures", shown.pooled), *_rank_notes("references", wanted.pooled)),
        )


class DistributionMeter:
    """What `FrechetMeter` measures, and inception score, precision and recall, and kernel distances.

    Splits and subsets are taken in the order of the features' hashes: no result depends on the order of pictures.
    """

    def __init__(self, frechet: FrechetMeter, draws: Draws | None = None) -> None:
        """`frechet` must be empty still; `draws` None: as published."""
        self._frechet = frechet
        self._draws = draws or Draws()
        self._pictures, self._references = _Rows(), _Rows()

    @property
    def identity(self) -> NetworkIdentity:
        return self._frechet.identity

    def add(self, pixels: Tensor) -> None:
        """Adds pictures (B, 3, H, W) or clips (B, 3, T, H, W), as the network takes them."""
        features = self._frechet.features(pixels)
        self._frechet.add_features(features)
        self._pictures.add(features)

    def add_reference(self, pixels: Tensor) -> None:
        """Adds references. Where their statistics were given, these stand for the Fréchet distance."""
        features = self._frechet.features(pixels)
        if not self._frechet.has_reference:
            self._frechet.add_reference_features(features)
        self._references.add(features)

    def merge(self, other: DistributionMeter) -> None:
        """Adds what another process has gathered."""
        self._frechet.merge(other._frechet)
        self._pictures.merge(other._pictures)
        self._references.merge(other._references)

    def reference_statistics(self) -> ReferenceStatistics:
        """As `FrechetMeter.reference_statistics`."""
        return self._frechet.reference_statistics()

    def result(self) -> DistributionScores:
        """Raises DataError for fewer than two pictures or references."""
        frechet = self._frechet.result()
        notes: list[str] = []
        inception = self._inception(notes)
        shown, wanted = self._pictures.pooled(), self._references.pooled()
        if shown is None or wanted is None:
            notes.append("no precision, recall and kernel distance: of the references only statistics were given")
            return DistributionScores(frechet, inception, None, None, None, tuple(notes))
        manifold, subsets = self._manifold(shown, wanted, notes), self._subsets(shown, wanted, notes)
        return DistributionScores(frechet, inception, manifold, kernel_distance(shown, wanted), subsets, tuple(notes))

    def _inception(self, notes: list[str]) -> InceptionScore | None:
        rows, splits = self._pictures.probabilities(), self._draws.splits
        if rows is None:
            notes.append(f"no inception score: {self.identity.name} has no classes")
            return None
        if len(rows) < splits:
            notes.append(f"no inception score: {splits} splits need as many pictures, got {len(rows)}")
            return None
        return inception_score(rows[order_by_content(rows)], splits)

    def _manifold(self, shown: Tensor, wanted: Tensor, notes: list[str]) -> PrecisionRecall | None:
        least, neighbours = min(len(shown), len(wanted)), self._draws.neighbours
        if least <= neighbours:
            notes.append(f"no precision and recall: {neighbours} neighbours need more than {least} on each side")
            return None
        return precision_recall(shown, wanted, neighbours)

    def _subsets(self, shown: Tensor, wanted: Tensor, notes: list[str]) -> KernelDistance | None:
        least, draws = min(len(shown), len(wanted)), self._draws
        if least < draws.subset_size:
            notes.append(f"no kernel distance of subsets: they need {draws.subset_size} on each side, got {least}")
            return None
        one, other = (rows[order_by_content(rows)] for rows in (shown, wanted))
        return kernel_distance_of_subsets(one, other, draws.subsets, draws.subset_size, draws.seed)


class _Side:
    """Statistics of one set."""

    def __init__(self) -> None:
        self.pooled, self.spatial = GaussianStatistics(), GaussianStatistics()

    def add(self, features: Features) -> None:
        self.pooled.add(features.pooled)
        if features.spatial is not None:
            self.spatial.add(features.spatial)

    def merge(self, other: Self) -> None:
        self.pooled.merge(other.pooled)
        self.spatial.merge(other.spatial)

    def statistics(self, covariance: Covariance, identity: NetworkIdentity) -> ReferenceStatistics:
        spatial = self.spatial.result(covariance) if self.spatial.count else None
        return ReferenceStatistics(
            self.pooled.result(covariance), spatial, identity.name, identity.weights_sha256, identity.preparation
        )


class _Rows:
    """All features of one set."""

    def __init__(self) -> None:
        self._pooled: list[Tensor] = []
        self._probabilities: list[Tensor] = []

    def add(self, features: Features) -> None:
        self._pooled.append(_compact(features.pooled))
        if features.probabilities is not None:
            self._probabilities.append(_compact(features.probabilities))

    def merge(self, other: Self) -> None:
        self._pooled += other._pooled
        self._probabilities += other._probabilities

    def pooled(self) -> Tensor | None:
        return torch.cat(self._pooled).double() if self._pooled else None

    def probabilities(self) -> Tensor | None:
        return torch.cat(self._probabilities).double() if self._probabilities else None


def _compact(rows: Tensor) -> Tensor:
    """The same numbers in half the memory where they all came from float32."""
    single = rows.float()
    return single if bool(torch.equal(single.double(), rows)) else rows


def _rank_notes(name: str, gaussian: Gaussian) -> tuple[str, ...]:
    if not gaussian.is_rank_deficient:
        return ()
    return (
        f"{gaussian.count} {name} for features of {gaussian.width} numbers: the covariance has not full rank, and the "
        "distance is biased upwards; compare it only with distances of as many pictures",
    )
