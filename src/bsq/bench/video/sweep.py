"""One clip through one codec at several rates. What enters: both, and budgets of bytes. What leaves: results.

As in `bench/sweep.py`: for each budget the largest stream that fits is sought, read again and measured. If even the
smallest is above the budget, that one is measured; its result says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bsq.bench.sweep import Search, Seconds
from bsq.bench.video.clips import Clip
from bsq.bench.video.elementary import VideoStream
from bsq.bench.video.judge import FrameScores, Judge, mean
from bsq.bench.video.rivals import VideoCodec
from bsq.errors import DataError
from bsq.metrics import bits_per_pixel, decibels


@dataclass(frozen=True)
class StreamResult:
    """One stream of one clip; measures are means over its frames."""

    clip: str
    frames: int
    height: int
    width: int
    codec: str
    target: int  # number of the budget, from 0
    budget_bytes: int
    over_budget: bool
    quality: float  # what the codec was asked for, on its own scale: −CRF, or bits a code
    bytes: int
    bits_per_pixel: float
    psnr: float  # dB
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_3: float | None
    lpips: float | None
    vmaf: float | None
    per_frame: FrameScores
    encoding_time: float  # seconds by the clock for the clip, the search left out
    decoding_time: float
    encoding_cpu: float
    decoding_cpu: float


@dataclass(frozen=True, eq=False)
class Written:
    """A result and the frames as they were read again, uint8 (T, H, W, 3)."""

    result: StreamResult
    frames: np.ndarray


@dataclass(frozen=True)
class VideoPoint:
    """Means over all clips of one codec at one rate; None as soon as one clip is too small for a measure."""

    codec: str
    target: int
    clips: int
    over_budget: int  # of how many clips the smallest stream was above the budget
    budget_bits_per_pixel: float
    bits_per_pixel: float
    bytes: float  # a clip
    psnr: float
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_3: float | None
    lpips: float | None
    vmaf: float | None
    encoding_rate: float  # frames a second by the clock, all frames over all seconds
    decoding_rate: float
    encoding_cpu: float  # seconds of processor a frame
    decoding_cpu: float

    @property
    def ms_ssim_db(self) -> float | None:
        return None if self.ms_ssim is None else decibels(self.ms_ssim)

    @property
    def ms_ssim_3_db(self) -> float | None:
        return None if self.ms_ssim_3 is None else decibels(self.ms_ssim_3)

    @staticmethod
    def of(results: Sequence[StreamResult]) -> VideoPoint:
        """From the results of one codec at one rate. Raises DataError when there are none."""
        if not results:
            raise DataError("no clips were measured")
        frames = sum(one.frames for one in results)

        def over_clips(name: str) -> Any:
            values = [getattr(one, name) for one in results]
            return None if None in values else math.fsum(values) / len(values)

        def total(name: str) -> float:
            return max(math.fsum(getattr(one, name) for one in results), 1e-9)

        budgets = [bits_per_pixel(one.budget_bytes, one.height, one.width, one.frames) for one in results]
        return VideoPoint(
            codec=results[0].codec,
            target=results[0].target,
            clips=len(results),
            over_budget=sum(one.over_budget for one in results),
            budget_bits_per_pixel=math.fsum(budgets) / len(budgets),
            encoding_rate=frames / total("encoding_time"),
            decoding_rate=frames / total("decoding_time"),
            encoding_cpu=total("encoding_cpu") / frames,
            decoding_cpu=total("decoding_cpu") / frames,
            **{name: over_clips(name) for name in MEANS},
        )


MEANS = ("bits_per_pixel", "bytes", "psnr", "ssim", "ms_ssim", "ms_ssim_3", "lpips", "vmaf")


@dataclass(frozen=True)
class Tried:
    """A stream and what writing it took."""

    stream: VideoStream
    seconds: Seconds


def sweep(judge: Judge, clip: Clip, codec: VideoCodec, budgets: Sequence[int]) -> list[Written]:
    """One result for each budget of bytes, in their order."""
    tried: dict[float, Tried] = {}

    def size(quality: float) -> int:
        tried[quality] = try_quality(clip, codec, quality)
        return tried[quality].stream.size

    search = Search(codec.qualities(), size)
    found = [(search.largest_within(budget), budget) for budget in budgets]
    return [
        measure(judge, clip, codec, quality, tried[quality], target, budget)
        for target, (quality, budget) in enumerate(found)
    ]


def every_quality(judge: Judge, clip: Clip, codec: VideoCodec) -> list[Written]:
    """One result for each quality of a codec that has few; the budget is the stream's own size."""
    streams = [(quality, try_quality(clip, codec, quality)) for quality in codec.qualities()]
    return [
        measure(judge, clip, codec, quality, tried, target, tried.stream.size)
        for target, (quality, tried) in enumerate(streams)
    ]


def try_quality(clip: Clip, codec: VideoCodec, quality: float) -> Tried:
    """Write one stream, by the clock."""
    return Tried(*Seconds.of(lambda: codec.encode(clip, quality)))


def measure(
    judge: Judge, clip: Clip, codec: VideoCodec, quality: float, tried: Tried, target: int, budget: int
) -> Written:
    """Read one stream, by the clock, and measure it."""
    frames, seconds = Seconds.of(lambda: codec.decode(tried.stream, clip))
    count, (height, width), size = len(clip.frames), clip.size, tried.stream.size
    scores = judge.scores(frames, clip)
    psnr = mean(scores.psnr)
    assert psnr is not None
    result = StreamResult(
        clip=clip.name,
        frames=count,
        height=height,
        width=width,
        codec=codec.name,
        target=target,
        budget_bytes=budget,
        over_budget=size > budget,
        quality=quality,
        bytes=size,
        bits_per_pixel=bits_per_pixel(size, height, width, count),
        psnr=psnr,
        ssim=mean(scores.ssim),
        ms_ssim=mean(scores.ms_ssim),
        ms_ssim_3=mean(scores.ms_ssim_3),
        lpips=mean(scores.lpips),
        vmaf=mean(scores.vmaf),
        per_frame=scores,
        encoding_time=tried.seconds.clock,
        decoding_time=seconds.clock,
        encoding_cpu=tried.seconds.cpu,
        decoding_cpu=seconds.cpu,
    )
    return Written(result, frames)
