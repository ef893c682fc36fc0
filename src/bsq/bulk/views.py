"""Inputs to pixels. What enters: an encoded picture or video. What leaves: its views, uint8, a few frames at a time."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import assert_never

import numpy as np
from PIL import Image

from bsq.bulk.reading import Input
from bsq.bulk.settings import TokenizeSettings, ViewSettings
from bsq.data.pictures import read_picture
from bsq.data.steady import SteadyFrames
from bsq.data.transforms import CropSettings, central_cut, random_cut, size_of
from bsq.data.videos import open_video


@dataclass(frozen=True, eq=False)
class View:
    """`pixels` uint8 (T, H, W, 3): view `number` of the frames from `start` on."""

    number: int
    start: int
    pixels: np.ndarray


def views_of(given: Input, settings: TokenizeSettings, group: int) -> Iterator[View]:
    """All views of an input; of a video those of `group` frames, then of the next ones.

    Raises MediaError or LimitError, of a video perhaps after some views.
    """
    match settings.inputs:
        case "pictures":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's remarks on sloppy files
                picture = read_picture(given.data, settings.max_pixels).pixels
            yield from cut_views([picture], 0, given.key, settings.views)
        case "videos":
            yield from video_views(given, settings, group)
        case _:
            assert_never(settings.inputs)


def video_views(given: Input, settings: TokenizeSettings, group: int) -> Iterator[View]:
    """Views of each `group` frames in a row; the last may have fewer."""
    wanted = settings.frames
    rate = None if wanted.frame_rate is None else Fraction(wanted.frame_rate).limit_denominator(100_000)
    with open_video(given.data, settings.max_pixels) as video:
        frames = islice(iter(SteadyFrames(video, rate)), wanted.max_frames)
        start = 0
        while some := list(islice(frames, group)):
            yield from cut_views(some, start, given.key, settings.views)
            start += len(some)


def cut_views(frames: list[np.ndarray], start: int, key: str, settings: ViewSettings) -> Iterator[View]:
    """Frames of one size (H, W, 3) → each view of them, the same cut of every frame of an input."""
    for number in range(settings.views):
        yield View(number, start, np.stack([one_view(frame, key, number, settings) for frame in frames]))


def one_view(picture: np.ndarray, key: str, number: int, settings: ViewSettings) -> np.ndarray:
    """View `number` of a picture (H, W, 3): 0 is the middle, further ones are drawn by the key and the seed."""
    if settings.size is None:
        return picture
    if settings.crop == "none":
        return scaled(picture, settings.size)
    square = CropSettings(crop=settings.size, short_side=settings.size)
    if number == 0:
        return central_cut(size_of(picture), square).apply(picture)
    square = square.model_copy(update={"zoom": (settings.zoom, 1.0), "flip": settings.flip})
    return random_cut(size_of(picture), square, chance(key, number, settings.seed)).apply(picture)


def scaled(picture: np.ndarray, short_side: int) -> np.ndarray:
    """The whole picture, its short side `short_side` pixels."""
    height, width = size_of(picture)
    scale = Fraction(short_side, min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def chance(key: str, number: int, seed: int) -> np.random.Generator:
    """Random numbers of one view of one input."""
    drawn = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return np.random.default_rng((seed, number, drawn))


def hash_of(data: bytes | Path) -> str:
    """SHA-256 (hex). Raises OSError."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with open(data, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
