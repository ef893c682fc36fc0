"""A data set without an end. What enters: stored pictures, a seed. What leaves: the crop at any position of a run.

Position p of a run is a pure function of (pictures, settings, seed, p): epoch p // n has its own permutation, and the
crop's random numbers come from (seed, p). So the number of workers changes nothing, and a run resumes from a counter.
A picture that cannot be read is replaced by the next one of the permutation, and named.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bsq.data.pictures import open_picture
from bsq.data.stored import Stored
from bsq.data.transforms import CropSettings, central_crop, random_crop
from bsq.errors import BsqError, DataError

ORDER, CROP = 0, 1
"""What a stream of random numbers is for: the same seed must not give the order and the crops the same numbers."""
GIB = 2**30


@dataclass(frozen=True, eq=False)
class Sample:
    """`pixels` uint8 (3, 1, crop, crop); `unreadable` names the pictures that this one stands in for."""

    position: int
    pixels: Tensor
    unreadable: tuple[str, ...]


class PictureDataset(Dataset[Sample]):
    """Crops by position. Decoded pictures may be kept in memory; forked workers share them."""

    def __init__(self, pictures: Sequence[Stored], crop: CropSettings, seed: int) -> None:
        if not pictures:
            raise DataError("a data set needs at least one picture")
        self.pictures = list(pictures)
        self.crop = crop
        self.seed = seed
        self._kept: dict[int, np.ndarray] = {}
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Pictures of one epoch; positions go on beyond it."""
        return len(self.pictures)

    def __getitem__(self, position: int) -> Sample:
        """Raises DataError if no picture can be read at all."""
        unreadable: list[str] = []
        random = np.random.default_rng((self.seed, CROP, position))
        for step in range(len(self.pictures)):
            number = self.number_at(position, step)
            try:
                picture = self.picture(number)
            except (BsqError, OSError):
                unreadable.append(self.pictures[number].name)
                continue
            return Sample(position, as_clip(random_crop(picture, self.crop, random)), tuple(unreadable))
        raise DataError(f"none of {len(self.pictures)} pictures can be read, for example {unreadable[0]}")

    def number_at(self, position: int, step: int = 0) -> int:
        """Which picture stands `step` places after `position` in that position's epoch (around its end)."""
        epoch, place = divmod(position, len(self.pictures))
        if self._order is None or self._order[0] != epoch:
            random = np.random.default_rng((self.seed, ORDER, epoch))
            self._order = epoch, random.permutation(len(self.pictures))
        return int(self._order[1][(place + step) % len(self.pictures)])

    def picture(self, number: int) -> np.ndarray:
        """Decoded picture uint8 (H, W, 3), from memory if it is kept there."""
        if number in self._kept:
            return self._kept[number]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a conversion left out is of no interest thousands of times over
            return open_picture(self.pictures[number].read())

    def keep(self, gib: float) -> int:
        """Decode pictures into memory until `gib` GiB are full, before workers are forked. How many are kept."""
        room = int(gib * GIB)
        for number in range(len(self.pictures)):
            try:
                picture = self.picture(number)
            except (BsqError, OSError):
                continue
            if picture.nbytes > room:
                break
            room -= picture.nbytes
            self._kept[number] = picture
        return len(self._kept)

    def central(self, count: int) -> Tensor:
        """uint8 (count or fewer, 3, 1, crop, crop): the middles of pictures spread evenly over the data set."""
        crops: list[Tensor] = []
        for number in np.linspace(0, len(self.pictures) - 1, min(count, len(self.pictures))).astype(int):
            try:
                crops.append(as_clip(central_crop(self.picture(int(number)), self.crop)))
            except (BsqError, OSError):
                continue
        if not crops:
            raise DataError("none of the pictures chosen as samples can be read")
        return torch.stack(crops)


def as_clip(picture: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) → (3, 1, H, W), a clip of one frame."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[:, None].contiguous()


def to_pixels(stored: Tensor) -> Tensor:
    """uint8 0 … 255 → float32 pixels in [−1, 1]."""
    return stored.float() / 127.5 - 1
