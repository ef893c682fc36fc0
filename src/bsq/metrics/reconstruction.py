"""Quality of a set of pictures. What enters: batches of pixels and references. What leaves: means over all pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from bsq.errors import DataError
from bsq.metrics.pixel import MS_SSIM_MIN_SIDE, decibels, ms_ssim, psnr, ssim

Distance = Callable[[Tensor, Tensor], Tensor]  # two (B, 3, H, W) or (B, 3, T, H, W) in [−1, 1] → (B·T,)


@dataclass(frozen=True)
class ReconstructionScores:
    """Means over pictures (over frames for clips)."""

    pictures: int
    psnr: float  # dB
    ssim: float
    ms_ssim: float | None  # None as soon as one picture is smaller than 161 pixels a side
    ms_ssim_db: float | None  # dB of the mean, −10·log10(1 − mean)
    lpips: float | None  # None without a perceptual distance


class ReconstructionMeter:
    """Keeps one number a picture and measure (8 bytes each) and sums them exactly, so no order or batch size matters.

    `perceptual` is a distance such as `bsq.frozen.lpips.load_lpips(...).distance`, or None.
    """

    def __init__(self, perceptual: Distance | None = None) -> None:
        self._perceptual = perceptual
        self._values: dict[str, list[float]] = {name: [] for name in ("psnr", "ssim", "ms_ssim", "lpips")}

    def add(self, pixels: Tensor, reference: Tensor) -> None:
        """Measures two batches as `bsq.metrics.pixel` describes."""
        self._values["psnr"] += psnr(pixels, reference).tolist()
        self._values["ssim"] += ssim(pixels, reference).tolist()
        if min(pixels.shape[-2:]) >= MS_SSIM_MIN_SIDE:
            self._values["ms_ssim"] += ms_ssim(pixels, reference).tolist()
        if self._perceptual is not None:
            self._values["lpips"] += self._perceptual(pixels, reference).double().tolist()

    def merge(self, other: ReconstructionMeter) -> None:
        """Adds what another process has measured."""
        for name, values in other._values.items():
            self._values[name] += values

    def result(self) -> ReconstructionScores:
        """Raises DataError when nothing was measured."""
        pictures = len(self._values["psnr"])
        if not pictures:
            raise DataError("no pictures were measured")
        similarity = self._mean("ms_ssim", pictures)
        return ReconstructionScores(
            pictures=pictures,
            psnr=math.fsum(self._values["psnr"]) / pictures,
            ssim=math.fsum(self._values["ssim"]) / pictures,
            ms_ssim=similarity,
            ms_ssim_db=None if similarity is None else decibels(similarity),
            lpips=self._mean("lpips", pictures),
        )

    def _mean(self, name: str, pictures: int) -> float | None:
        # a mean over the large pictures alone would look like one over all of them
        values = self._values[name]
        return math.fsum(values) / pictures if len(values) == pictures else None
