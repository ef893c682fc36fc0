"""Clips to compare codecs on. What enters: files, folders, tars. What leaves: named frames, one clip after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import PurePath

import numpy as np

from bsq.data.steady import SteadyFrames
from bsq.data.stored import Encoded, Kind, find_stored
from bsq.data.streams import is_stream
from bsq.data.videos import open_video
from bsq.errors import DataError


@dataclass(frozen=True, eq=False)
class Clip:
    """A name, uint8 frames (T, H, W, 3) and how many there are a second."""

    name: str
    frames: np.ndarray
    rate: Fraction

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.frames.shape[1], self.frames.shape[2]


def find_clips(sources: Sequence[str], first: int | None) -> dict[str, Encoded]:
    """Videos by short names, in the order of the sources, only the `first` so many. Raises DataError."""
    if streamed := next((source for source in sources if is_stream(source)), None):
        raise DataError(f"{streamed} can only be read in order; give files, folders or tars on this machine")
    found: Sequence[Encoded] = find_stored(sources, Kind.VIDEOS)[:first]
    stems = Counter(_stem(item.name) for item in found)
    return {_stem(item.name) if stems[_stem(item.name)] == 1 else item.name: item for item in found}


def read_clip(name: str, item: Encoded, most: int | None) -> Clip:
    """The first frames of a video, at most so many, at its own constant rate. Raises MediaError, LimitError."""
    with open_video(item.read()) as video:
        steady = SteadyFrames(video)
        return Clip(name, np.stack(list(islice(steady, most))), steady.rate)


def _stem(name: str) -> str:
    return PurePath(name.rpartition(":")[2] or name).stem
