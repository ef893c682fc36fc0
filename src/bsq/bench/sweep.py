"""One picture through one codec at several rates. What enters: both, and budgets of bytes. What leaves: results.

For each budget the largest file that fits is sought, written, read again and measured. If even the smallest file is
above the budget, that file is measured; its result says so. Bytes are those a codec is charged for
(`bench/elementary.py`).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from bsq.bench.classical import Codec
from bsq.data.pictures import to_pixels
from bsq.errors import DataError
from bsq.metrics import bits_per_pixel, decibels, ms_ssim, psnr
from bsq.metrics.pixel import MS_SSIM_MIN_SIDE
from bsq.metrics.reconstruction import Distance

T = TypeVar("T")

LPIPS_MIN_SIDE = 17  # of its SqueezeNet


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and its name."""

    name: str
    pixels: np.ndarray  # uint8 (H, W, 3)


@dataclass(frozen=True)
class FileResult:
    """One file of one picture."""

    picture: str
    codec: str
    target: int  # number of the budget, from 0
    budget_bits_per_pixel: float
    over_budget: bool
    quality: float  # what the codec was asked for, on its own scale; bits a code for ours
    bytes: int  # what the codec is charged for
    file_bytes: int  # the whole file
    bits_per_pixel: float  # of `bytes`
    file_bits_per_pixel: float
    psnr: float  # dB
    ms_ssim: float | None  # None for pictures under 161 pixels a side
    lpips: float | None  # None for pictures under 17 pixels a side
    encoding_time: float  # seconds by the clock, the search left out
    decoding_time: float
    encoding_cpu: float  # seconds of processor, which a busy machine hardly stretches
    decoding_cpu: float


@dataclass(frozen=True, eq=False)
class Written:
    """A result and the picture as it was read again, uint8 (H, W, 3)."""

    result: FileResult
    pixels: np.ndarray


@dataclass(frozen=True)
class Point:
    """Means over all pictures of one codec at one rate."""

    codec: str
    target: int
    budget_bits_per_pixel: float
    pictures: int
    over_budget: int  # how many pictures had no file within the budget
    bits_per_pixel: float
    file_bits_per_pixel: float
    psnr: float
    ms_ssim: float | None  # None as soon as one picture is under 161 pixels a side: no mean over some of them
    ms_ssim_db: float | None  # dB of the mean
    lpips: float | None  # likewise, under 17 pixels
    encoding_time: float
    decoding_time: float
    encoding_cpu: float
    decoding_cpu: float

    @staticmethod
    def of(files: Sequence[FileResult]) -> Point:
        """From the results of one codec at one rate. Raises DataError when there are none."""
        if not files:
            raise DataError("no pictures were measured")

        def mean(name: str) -> float | None:
            values = [getattr(file, name) for file in files]
            return None if None in values else math.fsum(values) / len(values)

        similarity = mean("ms_ssim")
        return Point(
            codec=files[0].codec,
            target=files[0].target,
            pictures=len(files),
            over_budget=sum(file.over_budget for file in files),
            ms_ssim=similarity,
            ms_ssim_db=None if similarity is None else decibels(similarity),
            lpips=mean("lpips"),
            **{name: mean(name) for name in MEANS},  # type: ignore[arg-type]
        )


MEANS = (
    "budget_bits_per_pixel",
    "bits_per_pixel",
    "file_bits_per_pixel",
    "psnr",
    "encoding_time",
    "decoding_time",
    "encoding_cpu",
    "decoding_cpu",
)


@dataclass(frozen=True)
class Scores:
    """How close pixels are to the picture; None where it is too small for a measure."""

    psnr: float
    ms_ssim: float | None
    lpips: float | None


class Judge:
    """One picture, and the scores of pixels that stand for it; equal pixels are measured once."""

    def __init__(self, picture: Picture, perceptual: Distance | None) -> None:
        self.picture = picture
        self._wanted = to_pixels(picture.pixels)
        self._perceptual = perceptual
        self._known: dict[bytes, Scores] = {}

    def scores(self, pixels: np.ndarray) -> Scores:
        """Of uint8 (H, W, 3)."""
        key = hashlib.sha256(pixels.tobytes()).digest()
        if key not in self._known:
            shown, wanted, side = to_pixels(pixels), self._wanted, min(pixels.shape[:2])
            distance = self._perceptual if side >= LPIPS_MIN_SIDE else None
            self._known[key] = Scores(
                psnr=float(psnr(shown, wanted)),
                ms_ssim=float(ms_ssim(shown, wanted)) if side >= MS_SSIM_MIN_SIDE else None,
                lpips=None if distance is None else float(distance(shown, wanted)),
            )
        return self._known[key]


@dataclass(frozen=True)
class Seconds:
    """By the clock, and of processor in all threads."""

    clock: float
    cpu: float

    @staticmethod
    def of(work: Callable[[], T]) -> tuple[T, Seconds]:
        """The result of `work`, and its seconds."""
        clock, cpu = time.perf_counter(), time.process_time()
        result = work()
        return result, Seconds(time.perf_counter() - clock, time.process_time() - cpu)


@dataclass(frozen=True)
class Tried:
    """A file and what writing it took."""

    data: bytes
    seconds: Seconds


def sweep(judge: Judge, codec: Codec, budgets: Sequence[int]) -> list[Written]:
    """One result for each budget of bytes, in their order."""
    tried: dict[float, Tried] = {}

    def size(quality: float) -> int:
        tried[quality] = try_quality(judge.picture, codec, quality)
        return codec.charged(tried[quality].data)

    search = Search(codec.qualities(), size)
    found = [(search.largest_within(budget), budget) for budget in budgets]
    return [
        measure(judge, codec, quality, tried[quality], target, budget) for target, (quality, budget) in enumerate(found)
    ]


def every_quality(judge: Judge, codec: Codec) -> list[Written]:
    """One result for each quality of a codec that has few; the budget is the file's own size."""
    files = [(quality, try_quality(judge.picture, codec, quality)) for quality in codec.qualities()]
    return [
        measure(judge, codec, quality, file, target, codec.charged(file.data))
        for target, (quality, file) in enumerate(files)
    ]


def try_quality(picture: Picture, codec: Codec, quality: float) -> Tried:
    """Write one file, by the clock."""
    return Tried(*Seconds.of(lambda: codec.encode(picture.pixels, quality)))


def measure(judge: Judge, codec: Codec, quality: float, file: Tried, target: int, budget: int) -> Written:
    """Read one file, by the clock, and measure it."""
    pixels, seconds = Seconds.of(lambda: codec.decode(file.data))
    height, width, _ = judge.picture.pixels.shape
    size, scores = codec.charged(file.data), judge.scores(pixels)
    result = FileResult(
        picture=judge.picture.name,
        codec=codec.name,
        target=target,
        budget_bits_per_pixel=bits_per_pixel(budget, height, width),
        over_budget=size > budget,
        quality=quality,
        bytes=size,
        file_bytes=len(file.data),
        bits_per_pixel=bits_per_pixel(size, height, width),
        file_bits_per_pixel=bits_per_pixel(len(file.data), height, width),
        psnr=scores.psnr,
        ms_ssim=scores.ms_ssim,
        lpips=scores.lpips,
        encoding_time=file.seconds.clock,
        decoding_time=seconds.clock,
        encoding_cpu=file.seconds.cpu,
        decoding_cpu=seconds.cpu,
    )
    return Written(result, pixels)


class Search:
    """Finds qualities by the sizes of their files; remembers sizes, since writing a file may take seconds."""

    def __init__(self, qualities: Sequence[float], size: Callable[[float], int]) -> None:
        self._qualities = qualities
        self._write = size
        self._sizes: dict[int, int] = {}

    def largest_within(self, budget: int) -> float:
        """The largest quality whose file has at most `budget` bytes, else the smallest quality.

        Sizes that do not grow everywhere are taken as if they did: some file within the budget is found whose next
        larger quality is above it.
        """
        low, high = 0, len(self._qualities) - 1
        if self._size(low) > budget or low == high:
            return self._qualities[low]
        if self._size(high) <= budget:
            return self._qualities[high]
        low = max(i for i, size in self._sizes.items() if size <= budget)
        high = min(i for i, size in self._sizes.items() if size > budget and i > low)
        tries = 0
        while high - low > 1:
            tries += 1
            middle = (low + high) // 2 if tries % 3 == 0 else self._guess(low, high, budget)
            if self._size(middle) <= budget:
                low = middle
            else:
                high = middle
        return self._qualities[low]

    def _guess(self, low: int, high: int, budget: int) -> int:
        """Between two known sizes, as if the logarithm of size grew evenly."""
        bottom, top = math.log(max(1, self._sizes[low])), math.log(max(1, self._sizes[high]))
        share = (math.log(max(1, budget)) - bottom) / max(top - bottom, 1e-9)
        return min(max(low + round(share * (high - low)), low + 1), high - 1)

    def _size(self, index: int) -> int:
        if index not in self._sizes:
            self._sizes[index] = self._write(self._qualities[index])
        return self._sizes[index]
