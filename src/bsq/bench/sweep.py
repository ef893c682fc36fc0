"""One picture through one codec at several rates. What enters: both, and budgets of bytes. What leaves: results.

For each budget the largest file that fits is sought, written, read again and measured. If even the smallest file is
above the budget, that file is measured; its result says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bsq.bench.classical import Codec
from bsq.data.pictures import to_pixels
from bsq.errors import DataError
from bsq.metrics import bits_per_pixel, decibels, ms_ssim, psnr
from bsq.metrics.pixel import MS_SSIM_MIN_SIDE
from bsq.metrics.reconstruction import Distance


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
    bytes: int
    bits_per_pixel: float
    psnr: float  # dB
    ms_ssim: float | None  # None for pictures under 161 pixels a side
    lpips: float | None
    encoding_time: float  # seconds, the search left out
    decoding_time: float


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
    psnr: float
    ms_ssim: float | None  # None as soon as one picture is under 161 pixels a side
    ms_ssim_db: float | None  # dB of the mean
    lpips: float | None
    encoding_time: float
    decoding_time: float

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


MEANS = ("budget_bits_per_pixel", "bits_per_pixel", "psnr", "encoding_time", "decoding_time")


def sweep(picture: Picture, codec: Codec, budgets: Sequence[int], perceptual: Distance | None) -> list[Written]:
    """One result for each budget of bytes, in their order."""
    search = Search(codec.qualities(), lambda quality: len(codec.encode(picture.pixels, quality)))
    return [
        _measure(picture, codec, search.largest_within(budget), target, budget, perceptual)
        for target, budget in enumerate(budgets)
    ]


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


def _measure(
    picture: Picture, codec: Codec, quality: float, target: int, budget: int, perceptual: Distance | None
) -> Written:
    started = time.perf_counter()
    data = codec.encode(picture.pixels, quality)
    encoded = time.perf_counter()
    again = codec.decode(data)
    decoded = time.perf_counter()
    shown, wanted = to_pixels(again), to_pixels(picture.pixels)
    height, width = wanted.shape[-2:]
    result = FileResult(
        picture=picture.name,
        codec=codec.name,
        target=target,
        budget_bits_per_pixel=bits_per_pixel(budget, height, width),
        over_budget=len(data) > budget,
        bytes=len(data),
        bits_per_pixel=bits_per_pixel(len(data), height, width),
        psnr=float(psnr(shown, wanted)),
        ms_ssim=float(ms_ssim(shown, wanted)) if min(height, width) >= MS_SSIM_MIN_SIDE else None,
        lpips=None if perceptual is None else float(perceptual(shown, wanted)),
        encoding_time=encoded - started,
        decoding_time=decoded - encoded,
    )
    return Written(result, again)
