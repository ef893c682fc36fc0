"""Classical codecs of pictures and videos as systems. What enters: a codec of the benches, an aim. Leaves: a `System`.

What a file is charged for is its coded data alone, as in the benches (`bsq.bench.elementary`). Through a codec of
pictures a clip goes frame by frame, every frame a file; all of them are written at one quality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bsq.bench.classical import Codec
from bsq.bench.sweep import Search
from bsq.bench.video.clips import Clip
from bsq.bench.video.rivals import RivalCodec
from bsq.data.pictures import to_pixels, to_uint8
from bsq.errors import SettingsError
from bsq.evaluate.systems.base import Reconstructed
from bsq.evaluate.systems.fitting import clip_of, frames_of, one_by_one
from bsq.evaluate.systems.names import shown_spec

FRAME_RATE = Fraction(25)  # encoders of videos want one; a clip has none of its own here


@dataclass(frozen=True)
class AtQuality:
    """One quality on the codec's own scale."""

    quality: float


@dataclass(frozen=True)
class AtRate:
    """The largest file of each picture or clip that is not above a rate."""

    bits_per_pixel: float


@dataclass(frozen=True)
class LikeSystem:
    """The largest file that is not above what another system of the same table spent on the same picture or clip."""

    leader: str


@dataclass(frozen=True)
class WithinBits:
    """The largest file that is not above so many bits, whatever its picture."""

    bits: float


Aim = AtQuality | AtRate | LikeSystem | WithinBits


@dataclass(frozen=True, eq=False)
class CodedClip:
    """The bytes that a file is charged for, and its frames uint8 (T, H, W, 3), read when they are wanted."""

    charged: int
    read: Callable[[], np.ndarray]


class Coder(Protocol):
    """Frames through files at one quality; larger qualities give larger files."""

    name: str
    label: str
    description: str

    def qualities(self) -> Sequence[float]: ...

    def code(self, frames: np.ndarray, quality: float) -> CodedClip:
        """uint8 (T, H, W, 3) → files. Raises MediaError for what the format cannot hold."""
        ...


class PictureCoder:
    """Every frame a picture."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.name, self.label, self.description = codec.name, codec.label, codec.description

    def qualities(self) -> Sequence[float]:
        return self._codec.qualities()

    def code(self, frames: np.ndarray, quality: float) -> CodedClip:
        files = [self._codec.encode(frame, quality) for frame in frames]
        charged = sum(map(self._codec.charged, files))
        return CodedClip(charged, lambda: np.stack([self._codec.decode(data) for data in files]))


class VideoCoder:
    """A clip is one run of the encoder. Qualities are negative CRFs."""

    def __init__(self, codec: RivalCodec) -> None:
        self._codec = codec
        self.name, self.label, self.description = codec.name, codec.label, codec.description

    def qualities(self) -> Sequence[float]:
        return self._codec.qualities()

    def code(self, frames: np.ndarray, quality: float) -> CodedClip:
        clip = Clip("a clip", frames, FRAME_RATE)
        stream = self._codec.encode(clip, quality)
        return CodedClip(stream.size, lambda: self._codec.decode(stream, clip))


class CodecSystem:
    """A codec and an aim. One with `LikeSystem` reconstructs nothing itself, but `within` what its leader spent."""

    currency = "file bits"
    parameters: int | None = None

    def __init__(self, name: str, coder: Coder, aim: Aim) -> None:
        """Raises SettingsError for qualities and rates that there are not."""
        self.name, self._coder = name, coder
        self.aim = checked_aim(name, coder, aim)
        self.description = f"{coder.description}; {words(self.aim)}"
        self.notes: tuple[str, ...] = ()

    def within(self, bits: float) -> CodecSystem:
        """The same codec held to so many bits a picture or clip."""
        return CodecSystem(self.name, self._coder, WithinBits(bits))

    def settled(self, pixels: Tensor, bits: float | None = None) -> CodecSystem:
        """The same codec at the quality that its aim, or a budget of bits, leads to on a clip (1, 3, T, H, W): timed,
        it searches nothing.
        """
        aimed = self if bits is None else self.within(bits)
        return CodecSystem(self.name, self._coder, AtQuality(aimed._search(to_frames(pixels))[0]))

    def reconstruct(self, pixels: Tensor) -> Reconstructed:
        """Raises MediaError for pictures that the format cannot hold."""
        clips, bits = [], []
        for clip in one_by_one(pixels):
            _, coded = self._search(to_frames(clip))
            clips.append(clip_of(torch.cat([to_pixels(frame) for frame in coded.read()])))
            bits.append(8.0 * coded.charged)
        return Reconstructed(torch.cat(clips), tuple(bits))

    def reconstruct_together(self, pixels: Tensor) -> Tensor:
        """Files are written one by one."""
        return self.reconstruct(pixels).pixels

    def _search(self, frames: np.ndarray) -> tuple[float, CodedClip]:
        """The quality that the aim leads to, and the files at it."""
        match self.aim:
            case AtQuality(quality):
                return quality, self._coder.code(frames, quality)
            case AtRate(rate):
                return self._largest(frames, int(rate * frames[..., 0].size / 8))
            case WithinBits(bits):
                return self._largest(frames, int(bits / 8))
            case LikeSystem(leader):
                raise SettingsError(f"{self.name}: there is no system {leader!r} in this table to be held to")
            case _:
                raise AssertionError(self.aim)

    def _largest(self, frames: np.ndarray, budget: int) -> tuple[float, CodedClip]:
        """Of at most `budget` bytes; the smallest there is, where none is so small."""
        tried: dict[float, CodedClip] = {}

        def size(quality: float) -> int:
            tried[quality] = self._coder.code(frames, quality)
            return tried[quality].charged

        quality = Search(self._coder.qualities(), size).largest_within(budget)
        return quality, tried[quality]


def to_frames(clip: Tensor) -> np.ndarray:
    """(1, 3, T, H, W) → uint8 (T, H, W, 3), rounded."""
    return np.stack([to_uint8(frame[None]) for frame in frames_of(clip)])


def checked_aim(name: str, coder: Coder, aim: Aim) -> Aim:
    """The aim, its quality the nearest that there is (whole numbers for JPEG, cubes for WebP). Raises SettingsError."""
    scale = coder.qualities()
    match aim:
        case AtQuality(quality):
            if not scale[0] <= quality <= scale[-1]:
                raise SettingsError(f"{name}: {coder.label} has {scale_words(scale)}, got {quality_words(quality)}")
            return AtQuality(min(scale, key=lambda one: abs(one - quality)))
        case AtRate(rate) if rate <= 0:
            raise SettingsError(f"{name}: a rate is above 0 bits per pixel, got {rate:g}")
        case _:
            return aim


def scale_words(scale: Sequence[float]) -> str:
    """Qualities from low to high, CRFs from the best on, and how to ask for one."""
    if scale[0] < 0:
        return f"CRFs {-scale[-1]:g} to {-scale[0]:g} (@crf{-scale[len(scale) // 2]:g})"
    return f"qualities {scale[0]:g} to {scale[-1]:g} (@q{scale[len(scale) // 2]:g})"


def quality_words(quality: float) -> str:
    return f"quality {quality:g}" if quality >= 0 else f"CRF {-quality:g}"


def words(aim: Aim) -> str:
    """For reports: what a codec is made to aim at."""
    match aim:
        case AtQuality(quality):
            return quality_words(quality)
        case AtRate(rate):
            return f"largest file of each picture or clip of at most {rate:g} bpp"
        case LikeSystem(leader):
            return f"largest file of each picture or clip of at most the bits of {shown_spec(leader)}"
        case WithinBits(bits):
            return f"largest file of at most {bits:g} bits"
        case _:
            raise AssertionError(aim)
