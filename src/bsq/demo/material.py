"""What people drop on the page. What enters: a file. What leaves: a picture or a clip that one request may take.

The file is whatever somebody uploads, so every size is held against the page's bounds before it is computed with.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from bsq.data.files import plain_reason
from bsq.data.kinds import is_video
from bsq.data.pictures import read_picture
from bsq.data.steady import SteadyFrames
from bsq.data.videos import open_video
from bsq.errors import MediaError


@dataclass(frozen=True)
class Bounds:
    """What one request may take.

    file          bytes of an upload; larger ones are refused
    pixels        of a picture or frame; larger ones are refused before they are decoded
    quick         pixels that a picture is scaled down to for a quick look
    measured      pixels on which pictures are measured and compared; of larger ones that many in the middle
    clip_pixels   pixels that the frames of a clip are scaled down to
    frames        of a clip, or of a .bsq video, whose frames together have at most `pixels`; the rest is left out
    """

    file: int = 200_000_000
    pixels: int = 50_000_000
    quick: int = 1_000_000
    measured: int = 500_000
    clip_pixels: int = 130_000
    frames: int = 48


class Size(StrEnum):
    """How large a picture is coded."""

    quick = "quick look"
    full = "full size"


@dataclass(frozen=True, eq=False)
class Material:
    """A picture, which is one frame without a rate, or a clip: frames uint8 (H, W, 3) of one size."""

    name: str
    frames: tuple[np.ndarray, ...]
    rate: Fraction | None
    notes: tuple[str, ...]

    @property
    def is_clip(self) -> bool:
        return self.rate is not None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of a frame."""
        height, width, _ = self.frames[0].shape
        return height, width

    @property
    def stem(self) -> str:
        """What files made of it are called."""
        return Path(self.name).stem or "picture"


def read_upload(path: Path, bounds: Bounds) -> bytes:
    """An uploaded file's bytes. Raises MediaError."""
    try:
        if path.stat().st_size > bounds.file:
            raise MediaError(f"{path.name} has {path.stat().st_size:,} bytes; this page takes {bounds.file:,}")
        return path.read_bytes()
    except OSError as error:
        raise MediaError(f"cannot read {path.name}: {plain_reason(error)}") from error


def read_material(path: Path, size: Size, bounds: Bounds) -> Material:
    """A picture or clip of any kind that bsq reads. Raises MediaError, LimitError, MissingDependencyError."""
    file = io.BytesIO(read_upload(path, bounds))
    file.name = path.name  # messages name the file as its owner does
    if is_video(file, path.name):
        return _read_clip(file, path.name, bounds)
    picture = read_picture(file, bounds.pixels)
    pixels, notes = picture.pixels, [*picture.notes]
    if size is Size.quick and (small := fit(pixels, bounds.quick)) is not pixels:
        notes.append(f"{told_size(pixels)} shown at {told_size(small)} for a quick look; full size codes every pixel")
        pixels = small
    return Material(path.name, (pixels,), None, tuple(notes))


def _read_clip(file: io.BytesIO, name: str, bounds: Bounds) -> Material:
    with open_video(file, bounds.pixels) as video:
        steady = SteadyFrames(video)
        frames, first = [], ""
        for frame in islice(steady, bounds.frames):
            frames.append(fit(frame, bounds.clip_pixels))
            first = first or told_size(frame)
        more = (steady.expected or 0) > len(frames)
        notes = [*video.notes, *steady.notes()]
    if told_size(frames[0]) != first:
        notes.append(f"{first} frames are scaled down to {told_size(frames[0])}; `bsq encode` takes them as they are")
    if more:
        notes.append(f"only the first {len(frames)} frames are used here; `bsq encode` takes clips of any length")
    return Material(name, tuple(frames), steady.rate, tuple(notes))


def fit(picture: np.ndarray, pixels: int) -> np.ndarray:
    """uint8 (H, W, 3) scaled down to at most so many pixels; the same array if it is no larger."""
    height, width, _ = picture.shape
    if height * width <= pixels:
        return picture
    scale = math.sqrt(pixels / (height * width))
    wanted = max(1, int(width * scale)), max(1, int(height * scale))
    return np.asarray(Image.fromarray(picture).resize(wanted, Image.Resampling.LANCZOS))


def middle(picture: np.ndarray, pixels: int) -> np.ndarray:
    """At most so many pixels around the middle of a picture, in its shape; the same array if it is no larger."""
    height, width, _ = picture.shape
    if height * width <= pixels:
        return picture
    scale = math.sqrt(pixels / (height * width))
    rows, columns = max(1, int(height * scale)), max(1, int(width * scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(picture[top : top + rows, left : left + columns])


def told_size(picture: np.ndarray) -> str:
    """768×512."""
    return f"{picture.shape[1]}×{picture.shape[0]}"
