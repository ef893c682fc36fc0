"""Classical picture codecs as systems. What enters: a codec of the benches, a quality or rate. Leaves: a `System`.

What a file is charged for is its coded data alone, as in the benches (`bsq.bench.elementary`). A clip is coded frame by
frame: every frame a picture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bsq.bench.classical import Codec
from bsq.bench.sweep import Search
from bsq.data.pictures import to_pixels, to_uint8
from bsq.errors import SettingsError
from bsq.evaluate.systems.base import Reconstructed
from bsq.evaluate.systems.fitting import clip_of, frames_of, one_by_one


class ClassicalSystem:
    """A codec at one quality, or at the largest file of each picture that is not above a rate in bits per pixel."""

    currency = "file bits"
    parameters: int | None = None

    def __init__(self, name: str, codec: Codec, quality: float | None = None, rate: float | None = None) -> None:
        """One of `quality`, on the codec's own scale, and `rate`. Raises SettingsError."""
        if (quality is None) == (rate is None):
            raise SettingsError(f"{name}: give a quality or a rate, as in {codec.name}@q75 or {codec.name}@0.28bpp")
        scale = codec.qualities()
        if quality is not None and not scale[0] <= quality <= scale[-1]:
            raise SettingsError(f"{name}: {codec.label} has qualities {scale[0]:g} to {scale[-1]:g}, got {quality:g}")
        if rate is not None and rate <= 0:
            raise SettingsError(f"{name}: a rate is above 0 bits per pixel, got {rate:g}")
        self.name, self._codec, self._rate = name, codec, rate
        # The nearest there is: whole numbers for JPEG, cubes for WebP.
        self._quality = None if quality is None else min(scale, key=lambda one: abs(one - quality))
        aim = f"quality {self._quality:g}" if rate is None else f"largest file of each picture of at most {rate:g} bpp"
        self.description = f"{codec.description}; {aim}"
        self.notes: tuple[str, ...] = ()

    def reconstruct(self, pixels: Tensor) -> Reconstructed:
        """Raises MediaError for pictures that the format cannot hold."""
        clips, bits = [], []
        for clip in one_by_one(pixels):
            pairs = [self._through_file(to_uint8(frame[None])) for frame in frames_of(clip)]
            clips.append(clip_of(torch.cat([to_pixels(again) for again, _ in pairs])))
            bits.append(float(sum(size for _, size in pairs)))
        return Reconstructed(torch.cat(clips), tuple(bits))

    def _through_file(self, picture: np.ndarray) -> tuple[np.ndarray, int]:
        """The picture again, and the bits that its file is charged for."""
        if self._rate is None:
            assert self._quality is not None
            data = self._codec.encode(picture, self._quality)
        else:
            data = self._within(picture, int(self._rate * picture.shape[0] * picture.shape[1] / 8))
        return self._codec.decode(data), 8 * self._codec.charged(data)

    def _within(self, picture: np.ndarray, budget: int) -> bytes:
        """The largest file of at most `budget` bytes; the smallest there is, where none is so small."""
        files: dict[float, bytes] = {}

        def size(quality: float) -> int:
            files[quality] = self._codec.encode(picture, quality)
            return self._codec.charged(files[quality])

        return files[Search(self._codec.qualities(), size).largest_within(budget)]
