"""What adds up for one system. What enters: reconstructions, one sample at a time. What leaves: `SystemScores`.

Numbers are kept for each sample and summed exactly, moments of features and counts of codes in integers: so a result is
the same whatever the order of samples and the number of processes that measured them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from bsq.codes import Codes
from bsq.data.pictures import to_uint8
from bsq.errors import DataError
from bsq.metrics import (
    CodeUse,
    CodeUseMeter,
    JointEntropy,
    JointEntropyMeter,
    ReconstructionMeter,
    ReconstructionScores,
)
from bsq.metrics.features import Features
from bsq.metrics.frechet import frechet_distance
from bsq.metrics.pixel import MS_SSIM_3_MIN_SIDE, ms_ssim_3
from bsq.metrics.reconstruction import Distance
from bsq.metrics.sets import FeatureSet
from bsq.metrics.usage import EXACT_LIMIT


@dataclass(frozen=True, eq=False)
class Measured:
    """One sample of one system: all there is to add, once every system has done its part."""

    quality: ReconstructionMeter
    similarity_3: tuple[float, ...]  # MS-SSIM over three scales of each frame; empty for small ones
    bits: float
    pixels: int
    codes: Codes | None
    features: Features | None


@dataclass(frozen=True)
class SystemScores:
    """One system over all samples."""

    quality: ReconstructionScores
    ms_ssim_3: float | None  # None as soon as one frame is under 41 pixels
    bits_per_pixel: float  # mean over samples
    frechet: float | None
    code_use: CodeUse | None
    joint_entropy: JointEntropy | None  # estimates, of codebooks too large to count code by code


class Tally:
    """Adds up; processes send theirs to each other and `merge` them."""

    def __init__(self) -> None:
        self._quality = ReconstructionMeter()
        self._similarity_3: list[float] = []
        self._rates: list[float] = []
        self._codes: CodeUseMeter | None = None
        self._joint: JointEntropyMeter | None = None
        self._features: FeatureSet | None = None
        self.shown: dict[int, np.ndarray] = {}

    def add(self, sample: Measured) -> None:
        """Count one more sample."""
        self._quality.merge(sample.quality)
        self._similarity_3 += sample.similarity_3
        self._rates.append(sample.bits / sample.pixels)
        if sample.codes is not None:
            self._count(sample.codes)
        if sample.features is not None:
            self._features = self._features or FeatureSet({"moments"})
            self._features.add(sample.features)

    def _count(self, codes: Codes) -> None:
        if self._codes is None:
            self._codes = CodeUseMeter(codes.radices)
            if math.prod(codes.radices) > EXACT_LIMIT:
                self._joint = JointEntropyMeter(codes.radices)
        self._codes.add(codes)
        if self._joint is not None:
            self._joint.add(codes)

    def show(self, number: int, pixels: Tensor) -> None:
        """Keeps the first frame of (1, 3, T, H, W) for the contact sheet."""
        self.shown[number] = to_uint8(pixels[:, :, 0])

    def merge(self, other: Tally) -> None:
        """Adds what another process has measured."""
        self._quality.merge(other._quality)
        self._similarity_3 += other._similarity_3
        self._rates += other._rates
        self.shown |= other.shown
        if other._codes is not None:
            if self._codes is None:
                self._codes, self._joint = other._codes, other._joint
            else:
                self._codes.merge(other._codes)
                if self._joint is not None and other._joint is not None:
                    self._joint.merge(other._joint)
        if other._features is not None:
            if self._features is None:
                self._features = other._features
            else:
                self._features.merge(other._features)

    def scores(self, references: FeatureSet | None) -> SystemScores:
        """Raises DataError when nothing was measured, or too little for a Fréchet distance."""
        quality = self._quality.result()
        frechet = None
        if references is not None:
            if self._features is None:
                raise DataError("a Fréchet distance needs at least 2 pictures or clips, got 0")
            frechet = frechet_distance(references.moments(), self._features.moments())
        similar = self._similarity_3
        return SystemScores(
            quality=quality,
            ms_ssim_3=math.fsum(similar) / len(similar) if len(similar) == quality.pictures else None,
            bits_per_pixel=math.fsum(self._rates) / len(self._rates),
            frechet=frechet,
            code_use=None if self._codes is None else self._codes.result(),
            joint_entropy=None if self._joint is None else self._joint.result(),
        )


def quality_of(pixels: Tensor, reference: Tensor, perceptual: Distance | None) -> ReconstructionMeter:
    """One clip's, in a meter of its own: an error half-way leaves no trace in the sum."""
    meter = ReconstructionMeter(perceptual)
    meter.add(pixels, reference)
    bare = ReconstructionMeter()  # a meter with a network in it cannot be sent to another process
    bare.merge(meter)
    return bare


def similarity_3_of(pixels: Tensor, reference: Tensor) -> tuple[float, ...]:
    if min(pixels.shape[-2:]) < MS_SSIM_3_MIN_SIDE:
        return ()
    return tuple(ms_ssim_3(pixels, reference).tolist())
