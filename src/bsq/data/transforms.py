"""Pictures to training crops. What enters: uint8 RGB (H, W, 3) and random numbers. What leaves: uint8 crops."""

from __future__ import annotations

from typing import Self

import numpy as np
from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from bsq.settings import Settings


class CropSettings(Settings):
    """`crop` pixels a side are cut at random from a picture whose short side was scaled to `short_side` (None: as it
    is). Before that the cut is widened by a factor drawn from `zoom` (log-uniform; 2 shows twice as much at half the
    size). `flip` is the probability of mirroring left and right. Pictures smaller than the cut are enlarged.
    """

    crop: PositiveInt = 128
    short_side: PositiveInt | None = None
    zoom: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    flip: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom must rise, got {self.zoom}")
        return self


def random_crop(picture: np.ndarray, settings: CropSettings, random: np.random.Generator) -> np.ndarray:
    """A random square of `picture`, scaled once. Always draws four numbers, so that no setting shifts another's."""
    zoom, down, right, mirror = random.random(4)
    side = _side_in_picture(picture, settings, zoom)
    top, left = down * (picture.shape[0] - side), right * (picture.shape[1] - side)
    square = _cut(picture, top, left, side, settings.crop)
    return np.ascontiguousarray(square[:, ::-1] if mirror < settings.flip else square)


def central_crop(picture: np.ndarray, settings: CropSettings) -> np.ndarray:
    """The square in the middle, without zoom or flip: the same at every call."""
    side = _side_in_picture(picture, settings.model_copy(update={"zoom": (1.0, 1.0)}), 0.0)
    return _cut(picture, (picture.shape[0] - side) / 2, (picture.shape[1] - side) / 2, side, settings.crop)


def _side_in_picture(picture: np.ndarray, settings: CropSettings, draw: float) -> float:
    """Side of the cut in the picture's own pixels."""
    short = min(picture.shape[:2])
    low, high = settings.zoom
    zoom = low * (high / low) ** draw
    scale = 1.0 if settings.short_side is None else short / settings.short_side
    return min(settings.crop * zoom * scale, short)


def _cut(picture: np.ndarray, top: float, left: float, side: float, crop: int) -> np.ndarray:
    if side == crop:
        row, column = int(top), int(left)
        return np.ascontiguousarray(picture[row : row + crop, column : column + crop])
    # Pillow on the cut alone: a margin for the filter, not the whole picture.
    margin = 4 * max(1.0, side / crop)
    row, column = max(0, int(top - margin)), max(0, int(left - margin))
    part = picture[row : int(top + side + margin) + 1, column : int(left + side + margin) + 1]
    x, y = left - column, top - row
    # A square must not end outside the part by the last digit of a float.
    box = (x, y, min(x + side, part.shape[1]), min(y + side, part.shape[0]))
    image = Image.fromarray(np.ascontiguousarray(part))
    return np.asarray(image.resize((crop, crop), Image.Resampling.LANCZOS, box=box))
