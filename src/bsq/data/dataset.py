"""A data set without an end. What enters: pictures, videos, a seed. What leaves: the crop at any position of a run.

Position p of a run is a pure function of (items, settings, seed, p): epoch p // n has its own permutation, and the
crop's random numbers come from (seed, p). So the number of workers changes nothing, and a run resumes from a counter.
An item that cannot be used is replaced by the next one of the permutation, and named. Items of streams come with the
position itself; which they are is the matter of `bsq.data.streams`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bsq.data.clips import ClipSettings, central_clip, random_clip
from bsq.data.pictures import open_picture
from bsq.data.stored import Encoded, Kind
from bsq.data.streams import InMemory, Reading, Refused, Stream, deliveries
from bsq.data.transforms import CropSettings, central_crop, random_crop
from bsq.errors import BsqError, DataError

ORDER, CROP = 0, 1
"""What a stream of random numbers is for: the same seed must not give the order and the crops the same numbers."""
GIB = 2**30


@dataclass(frozen=True, eq=False)
class Task:
    """The sample at `position` of a run: the one at `place` among those of its kind, or the first of `items`, which a
    stream delivered, that can be used.
    """

    position: int
    kind: Kind
    place: int
    items: tuple[InMemory, ...] = ()
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True, eq=False)
class Sample:
    """`pixels` uint8 (3, T, crop, crop); `unreadable` are those that this one stands in for."""

    position: int
    pixels: Tensor
    unreadable: tuple[Refused, ...]


class Items:
    """Samples of one kind: pictures, or clips of videos."""

    def __init__(
        self, source: Sequence[Encoded] | Stream, crop: CropSettings, seed: int, clips: ClipSettings | None = None
    ) -> None:
        self.source, self.crop, self.clips, self.seed = source, crop, clips, seed
        self.stream: Stream | None = None if isinstance(source, Sequence) else source
        self.stored: Sequence[Encoded] = source if isinstance(source, Sequence) else ()
        self._kept: dict[int, np.ndarray] = {}
        self._order: tuple[int, np.ndarray] | None = None
        if self.stream is None and not self.stored:
            raise DataError("a data set needs at least one picture")

    @property
    def word(self) -> str:
        return "pictures" if self.clips is None else "videos"

    def sample(self, task: Task) -> Sample:
        """Raises DataError if nothing that may stand there can be used."""
        refused = list(task.refused)
        for number, item in enumerate(task.items) if task.items else self._in_order(task.place):
            random = np.random.default_rng((self.seed, CROP, task.position))
            try:
                pixels = self._random(number if not task.items else None, item, random)
            except (BsqError, OSError) as error:
                refused.append(Refused(item.name, reason_of(error)))
                continue
            return Sample(task.position, pixels, tuple(refused))
        tried = len(task.items) or len(self.stored)
        raise DataError(f"none of {tried} {self.word} can be used, for example {refused[-1]}")

    def central(self, count: int) -> Tensor:
        """uint8 (count or fewer, 3, T, crop, crop): the middles of items spread evenly over what is stored, or of the
        first of a stream.
        """
        crops: list[Tensor] = []
        for number, item in self._spread(count):
            try:
                crops.append(self._central(number, item))
            except (BsqError, OSError):
                continue
            if len(crops) == count:
                break
        if not crops:
            raise DataError(f"none of the {self.word} chosen as samples can be read")
        return torch.stack(crops)

    def number_at(self, place: int, step: int = 0) -> int:
        """Which item stands `step` places after `place` in that place's epoch (around its end)."""
        epoch, within = divmod(place, len(self.stored))
        if self._order is None or self._order[0] != epoch:
            random = np.random.default_rng((self.seed, ORDER, epoch))
            self._order = epoch, random.permutation(len(self.stored))
        return int(self._order[1][(within + step) % len(self.stored)])

    def keep(self, gib: float) -> int:
        """Decode pictures into memory until `gib` GiB are full, before workers are forked. How many are kept."""
        room = int(gib * GIB)
        for number in range(len(self.stored)):
            try:
                picture = self._picture(number, self.stored[number])
            except (BsqError, OSError):
                continue
            if picture.nbytes > room:
                break
            room -= picture.nbytes
            self._kept[number] = picture
        return len(self._kept)

    @property
    def has_kept(self) -> bool:
        return bool(self._kept)

    def _in_order(self, place: int) -> Iterator[tuple[int, Encoded]]:
        for step in range(len(self.stored)):
            number = self.number_at(place, step)
            yield number, self.stored[number]

    def _spread(self, count: int) -> Iterator[tuple[int | None, Encoded]]:
        if self.stream is not None:
            for number, delivery in enumerate(deliveries(self.stream, Reading(self.seed, shuffle=1))):
                if number == 4 * count:
                    return
                yield None, delivery.item
        for number in np.linspace(0, len(self.stored) - 1, min(count, len(self.stored))).astype(int).tolist():
            yield number, self.stored[number]

    def _random(self, number: int | None, item: Encoded, random: np.random.Generator) -> Tensor:
        if self.clips is None:
            return as_clip(random_crop(self._picture(number, item), self.crop, random))
        return random_clip(item.read(), self.clips, self.crop, random)

    def _central(self, number: int | None, item: Encoded) -> Tensor:
        if self.clips is None:
            return as_clip(central_crop(self._picture(number, item), self.crop))
        return central_clip(item.read(), self.clips, self.crop)

    def _picture(self, number: int | None, item: Encoded) -> np.ndarray:
        """Decoded picture uint8 (H, W, 3), from memory if it is kept there."""
        if number in self._kept:
            return self._kept[number]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a conversion left out is of no interest thousands of times over
            return open_picture(item.read())


class TrainingData(Dataset[Sample]):
    """Pictures, clips, or both; indexed by tasks, or by positions where there is one kind and it is stored."""

    def __init__(self, pictures: Items | None, clips: Items | None) -> None:
        if pictures is None and clips is None:
            raise DataError("no data: neither pictures (data.source) nor videos (data.clips.source) are named")
        self.pictures, self.clips = pictures, clips

    @property
    def kinds(self) -> tuple[Items, ...]:
        return tuple(items for items in (self.pictures, self.clips) if items is not None)

    def __len__(self) -> int:
        """Stored items; positions go on beyond them. Streams do not say how many they have."""
        return sum(len(items.stored) for items in self.kinds)

    def __getitem__(self, task: Task | int) -> Sample:
        """Errors as `Items.sample`."""
        if isinstance(task, int):
            kind = Kind.PICTURES if self.pictures is not None else Kind.VIDEOS
            task = Task(task, kind, task)
        return self.of(task.kind).sample(task)

    def of(self, kind: Kind) -> Items:
        items = self.pictures if kind is Kind.PICTURES else self.clips
        assert items is not None
        return items

    def central(self, count: int) -> tuple[Tensor, ...]:
        """Of each kind uint8 (count or fewer, 3, T, crop, crop), as `Items.central`."""
        return tuple(items.central(count) for items in self.kinds)

    def describe(self) -> str:
        """ "4,486 pictures and a stream of videos"."""
        parts = [f"{len(i.stored):,} {i.word}" if i.stream is None else f"a stream of {i.word}" for i in self.kinds]
        return " and ".join(parts)


def reason_of(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def as_clip(picture: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) → (3, 1, H, W), a clip of one frame."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[:, None].contiguous()


def to_pixels(stored: Tensor) -> Tensor:
    """uint8 0 … 255 → float32 pixels in [−1, 1]."""
    return stored.float() / 127.5 - 1
