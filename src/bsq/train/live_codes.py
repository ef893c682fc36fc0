"""Codes made as they are needed. What enters: pictures and a tokenizer. What leaves: batches of fresh crops' codes.

Each time a picture comes it is cut anew, at a random place: more variety than codes made once, for an encoding of every
sample. What stands at a position follows from the seed alone, so that a run resumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bsq.data.dataset import as_clip, to_pixels
from bsq.data.labels import labels_of
from bsq.data.loader import Positions, Share
from bsq.data.pictures import open_picture
from bsq.data.streams import Refused
from bsq.data.transforms import CropSettings, random_crop
from bsq.errors import BsqError, DataError
from bsq.tokenizer import Tokenizer
from bsq.train.tokens import LabelledPictures, TokenBatch, row_at, stored_pictures

CUTS = 10
"""Which stream of random numbers cuts are drawn from (others: see `bsq.data`)."""
STAND_INS = 16


class LiveCodeSettings(LabelledPictures, CropSettings):
    """Pictures that are cut at random each time they come."""

    kind: Literal["live"] = "live"


class LiveCodes:
    """The first `depth` digits of codes of random crops."""

    def __init__(
        self, settings: LiveCodeSettings, tokenizer: Tokenizer, depth: int, names: Sequence[str], seed: int
    ) -> None:
        """Raises DataError for streams, which have no random order, and for labels that are none of `names`."""
        self.settings, self.tokenizer, self.depth, self.seed = settings, tokenizer, depth, seed
        self.items = stored_pictures(settings.source)
        self.labels = labels_of(self.items, names)

    def describe(self) -> str:
        return f"codes of {len(self.items):,} pictures, made as they come"

    @property
    def grid(self) -> tuple[int, ...]:
        side = -(-self.settings.crop // self.tokenizer.patch)
        return 1, side, side

    def batches(self, share: Share, first: int, last: int) -> Iterator[TokenBatch]:
        order: dict[int, np.ndarray] = {}
        for positions in Positions(share, first, last):
            refused: list[Refused] = []
            taken = [self._take(position, order, refused) for position in positions]
            with torch.no_grad():
                codes = self.tokenizer.encode(to_pixels(torch.stack([crop for crop, _ in taken])), self.depth)
            labels = torch.tensor([label for _, label in taken])
            yield TokenBatch(codes.digits.cpu(), labels, torch.tensor(positions), tuple(refused))

    def _take(self, position: int, order: dict[int, np.ndarray], refused: list[Refused]) -> tuple[Tensor, int]:
        """Crop uint8 (3, 1, crop, crop) and label of a position; of the next picture where one cannot be read."""
        number = row_at(self.items, self.seed, position, order)
        for turn in range(STAND_INS):
            place = (number + turn) % len(self.items)
            try:
                picture = open_picture(self.items[place].read())
            except (BsqError, OSError) as error:
                refused.append(Refused(self.items[place].name, str(error)))
                continue
            random = np.random.default_rng((self.seed, CUTS, position))
            return as_clip(random_crop(picture, self.settings, random)), self.labels[place]
        raise DataError(f"{STAND_INS} pictures in a row cannot be read, the last of them {refused[-1]}")
