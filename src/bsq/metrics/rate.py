"""Rate. What enters: bytes of real files, or codes, and the sizes of their pictures. What leaves: bits per pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bsq.codes import Codes
from bsq.errors import DataError, ShapeError


def bits_per_pixel(byte_count: int, height: int, width: int, frames: int = 1) -> float:
    """Bits of a file of `byte_count` bytes for each pixel of its picture (or of each frame of its clip)."""
    if min(height, width, frames) < 1 or byte_count < 0:
        raise ShapeError(f"no rate for {byte_count} bytes and {frames} frames of {height}×{width}")
    return 8 * byte_count / (height * width * frames)


def raw_bits_per_pixel(codes: Codes, size: Sequence[int]) -> float:
    """Bits per pixel of packed codes without a prior, header or padding; `size` (H, W) is that of the picture."""
    _, frames, rows, columns, _ = codes.shape
    height, width = size
    return codes.bits_per_code * frames * rows * columns / (height * width * frames)


@dataclass(frozen=True)
class Rate:
    """Rate over a set of pictures."""

    pictures: int
    bytes: int
    bits_per_pixel: float  # mean over pictures of each picture's own rate
    pooled_bits_per_pixel: float  # all bits over all pixels


class RateMeter:
    """Adds up the rates of pictures, in any order."""

    def __init__(self) -> None:
        self._rates: list[float] = []
        self._bytes = 0
        self._pixels = 0

    def add(self, byte_count: int, height: int, width: int, frames: int = 1) -> None:
        self._rates.append(bits_per_pixel(byte_count, height, width, frames))
        self._bytes += byte_count
        self._pixels += height * width * frames

    def merge(self, other: RateMeter) -> None:
        """Adds what another process has counted."""
        self._rates += other._rates
        self._bytes += other._bytes
        self._pixels += other._pixels

    def result(self) -> Rate:
        """Raises DataError when nothing was added."""
        if not self._rates:
            raise DataError("no pictures were measured")
        mean = math.fsum(self._rates) / len(self._rates)
        return Rate(len(self._rates), self._bytes, mean, 8 * self._bytes / self._pixels)
