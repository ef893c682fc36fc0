"""How close frames are to a clip. What enters: both, uint8 (T, H, W, 3). What leaves: a number a frame, and means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bsq.bench.sweep import LPIPS_MIN_SIDE
from bsq.bench.video.clips import Clip
from bsq.bench.video.vmaf import VMAF_MIN_SIDE, Vmaf
from bsq.data.pictures import to_pixels
from bsq.metrics.pixel import MS_SSIM_3_MIN_SIDE, MS_SSIM_MIN_SIDE, SSIM_MIN_SIDE, ms_ssim, ms_ssim_3, psnr, ssim
from bsq.metrics.reconstruction import Distance


@dataclass(frozen=True)
class FrameScores:
    """A number a frame; None where frames are too small for a measure, or nobody asked for it."""

    psnr: tuple[float, ...]
    ssim: tuple[float, ...] | None
    ms_ssim: tuple[float, ...] | None  # five scales, 161 pixels a side
    ms_ssim_3: tuple[float, ...] | None  # three scales, 41 pixels a side
    lpips: tuple[float, ...] | None
    vmaf: tuple[float, ...] | None


@dataclass(frozen=True)
class Judge:
    """What frames are measured with."""

    perceptual: Distance | None
    vmaf: Vmaf | None

    def scores(self, frames: np.ndarray, clip: Clip) -> FrameScores:
        """Frame by frame, so that one pair is in memory as floats."""
        side = min(clip.size)
        measures = {
            "psnr": psnr,
            "ssim": ssim if side >= SSIM_MIN_SIDE else None,
            "ms_ssim": ms_ssim if side >= MS_SSIM_MIN_SIDE else None,
            "ms_ssim_3": ms_ssim_3 if side >= MS_SSIM_3_MIN_SIDE else None,
            "lpips": self.perceptual if side >= LPIPS_MIN_SIDE else None,
        }
        taken = {name: measure for name, measure in measures.items() if measure is not None}
        values: dict[str, list[float]] = {name: [] for name in taken}
        for shown, wanted in zip(frames, clip.frames, strict=True):
            pair = to_pixels(shown), to_pixels(wanted)
            for name, measure in taken.items():
                values[name].append(float(measure(*pair)))
        found = {name: tuple(values[name]) if name in values else None for name in measures}
        vmaf = None if self.vmaf is None or side < VMAF_MIN_SIDE else self.vmaf.scores(frames, clip)
        return FrameScores(**found, vmaf=vmaf)  # type: ignore[arg-type]


def mean(values: Sequence[float] | None) -> float | None:
    """Of the frames of a clip."""
    return None if values is None else math.fsum(values) / len(values)
