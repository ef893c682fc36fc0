"""What is measured on. What enters: folders, files, tars, globs, `.npz` samples. What leaves: prepared pictures, clips.

A number names a sample: processes that share the work open the data again and take every n-th one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Protocol as Interface

import numpy as np

from bsq.data.clips import ClipSettings, clip_times
from bsq.data.pictures import open_picture
from bsq.data.stored import Encoded, Kind, find_stored
from bsq.data.streams import is_stream
from bsq.data.videos import open_video
from bsq.errors import BsqError, DataError, LimitError, MediaError
from bsq.evaluate.npz import SampleFile
from bsq.evaluate.protocols import Protocol

UNREADABLE = (MediaError, LimitError, DataError, OSError)
"""What may be wrong with one sample of many."""


class Samples(Interface):
    """Pictures or clips, by number."""

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """For reports: without the folders of this machine."""
        ...

    def read(self, number: int) -> np.ndarray:
        """uint8 (T, H, W, 3), prepared; T = 1 for pictures. Raises one of UNREADABLE."""
        ...


class Pictures:
    """Pictures of folders, tars and files."""

    def __init__(self, items: Sequence[Encoded], protocol: Protocol) -> None:
        self._items, self._protocol = items, protocol

    def __len__(self) -> int:
        return len(self._items)

    def name(self, number: int) -> str:
        return short_name(self._items[number].name)

    def read(self, number: int) -> np.ndarray:
        item = self._items[number]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a conversion left out is of no interest thousands of times over
            try:
                picture = open_picture(item.read())
                return self._protocol.prepare(picture)[None]
            except UNREADABLE as error:
                raise renamed(error, self.name(number)) from error


class Clips:
    """The middle of each video."""

    def __init__(self, items: Sequence[Encoded], protocol: Protocol) -> None:
        self._items, self._protocol = items, protocol

    def __len__(self) -> int:
        return len(self._items)

    def name(self, number: int) -> str:
        return short_name(self._items[number].name)

    def read(self, number: int) -> np.ndarray:
        protocol = self._protocol
        try:
            with open_video(self._items[number].read()) as video:
                rate = protocol.frame_rate or float(video.rate or 25)
                wanted = ClipSettings(source=("",), frames=protocol.frames, frame_rate=rate)
                times: list[Fraction] = clip_times(video, wanted, 0.5)
                return np.stack([protocol.prepare(frame) for frame in video.at(times)])
        except UNREADABLE as error:
            raise renamed(error, self.name(number)) from error


class StoredSamples:
    """Pictures of an `.npz`, as guided-diffusion writes them."""

    def __init__(self, path: Path, protocol: Protocol, first: int | None) -> None:
        self._file, self._protocol = SampleFile(path), protocol
        self._count = min(len(self._file), first or len(self._file))

    def __len__(self) -> int:
        return self._count

    def name(self, number: int) -> str:
        return f"{self._file.path.name}[{number}]"

    def read(self, number: int) -> np.ndarray:
        try:
            return self._protocol.prepare(self._file.read(number))[None]
        except MediaError as error:
            raise renamed(error, self.name(number)) from error


def open_samples(sources: Sequence[str], kind: Kind, protocol: Protocol, first: int | None = None) -> Samples:
    """The first so many pictures or videos of the sources. Raises DataError for none, or what cannot be searched."""
    if streamed := next((source for source in sources if is_stream(source)), None):
        raise DataError(f"{streamed} can only be read in order; give folders, tars or .npz files on this machine")
    packed = [source for source in sources if source.endswith(".npz")]
    if packed and (len(sources) > 1 or kind is not Kind.PICTURES):
        raise DataError(f"{packed[0]} holds pictures, and is given alone")
    if packed:
        return StoredSamples(Path(packed[0]), protocol, first)
    items = find_stored(sources, kind)[:first]
    match kind:
        case Kind.PICTURES:
            return Pictures(items, protocol)
        case Kind.VIDEOS:
            return Clips(items, protocol)
        case _:
            raise AssertionError(kind)


def short_name(name: str) -> str:
    """ "photos.tar:a/b.webp" for "/data/photos.tar:a/b.webp", "b.png" for "/data/a/b.png"."""
    path, colon, member = name.partition(".tar:")
    return f"{PurePath(path).name}.tar:{member}" if colon else PurePath(name).name


def renamed(error: Exception, name: str) -> BsqError:
    """The error with the sample's name in front, where Pillow only knew its bytes."""
    reason = str(error).removeprefix("the picture ").removeprefix("the video ")
    kind = type(error) if isinstance(error, BsqError) else MediaError
    return kind(reason if reason.startswith(name) else f"{name} {reason}")
