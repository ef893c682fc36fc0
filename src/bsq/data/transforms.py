"""Pictures to training crops. What enters: uint8 RGB (H, W, 3) and random numbers. What leaves: uint8 crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from bsq.settings import Settings

# BT.601 without offsets: luma 0 … 255 and two differences of colour around 0.
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
FROM_YCC = np.linalg.inv(TO_YCC)
MIDDLE = 127.5


class CropSettings(Settings):
    """`crop` pixels a side are cut at random from a picture whose short side was scaled to `short_side` (None: as it
    is). Before that the cut is widened by a factor drawn from `zoom` (log-uniform; 2 shows twice as much at half the
    size). `flip` is the probability of mirroring left and right, `grey` that of leaving the colour out (luma of BT.601
    in all three channels), `recolour` that of other colours (`Recolour`) where colour is left. Pictures smaller than
    the cut are enlarged.
    """

    crop: PositiveInt = 128
    short_side: PositiveInt | None = None
    zoom: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    flip: float = Field(default=0.0, ge=0, le=1)
    grey: float = Field(default=0.0, ge=0, le=1)
    recolour: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom must rise, got {self.zoom}")
        return self


@dataclass(frozen=True)
class Recolour:
    """Other colours for the same picture, so that a model sees those that few photographs have: in YCbCr (BT.601) hues
    turned by `angle` and `saturation` times as strong, luma with `contrast` about its middle and moved by `shift`.
    """

    angle: float
    saturation: float
    contrast: float
    shift: float

    @classmethod
    def drawn(cls, random: np.random.Generator) -> Self:
        """Any hue, saturation 0 … 3, contrast 0.5 … 1.5, shift ±64 levels."""
        angle, saturation, contrast, shift = random.random(4)
        return cls(2 * np.pi * angle, 3 * saturation, 0.5 + contrast, 128 * (shift - 0.5))

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) → the same; what no screen shows is clipped."""
        planes = picture @ TO_YCC.T
        turned = self.saturation * np.exp(1j * self.angle) * (planes[..., 1] + 1j * planes[..., 2])
        luma = (planes[..., 0] - MIDDLE) * self.contrast + MIDDLE + self.shift
        changed = np.stack([luma, turned.real, turned.imag], -1) @ FROM_YCC.T
        return changed.round().clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Cut:
    """A square of a picture: corner and side in the picture's own pixels, the side it is scaled to, mirrored or not,
    with its colour, without it, or with another.
    """

    top: float
    left: float
    side: float
    crop: int
    mirrored: bool
    grey: bool = False
    recolour: Recolour | None = None

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) → (crop, crop, 3)."""
        square = _cut(picture, self.top, self.left, self.side, self.crop)
        if self.grey:
            square = np.asarray(Image.fromarray(square).convert("L").convert("RGB"))
        elif self.recolour is not None:
            square = self.recolour.apply(square)
        return np.ascontiguousarray(square[:, ::-1] if self.mirrored else square)


def random_cut(size: tuple[int, int], settings: CropSettings, random: np.random.Generator) -> Cut:
    """A random square of a picture of (height, width). Draws four numbers, whatever is set, so that no setting shifts
    another's; further ones where greys or other colours are asked for.
    """
    zoom, down, right, mirror = random.random(4)
    grey, other = random.random(2) if settings.grey or settings.recolour else (1.0, 1.0)
    recolour = Recolour.drawn(random) if other < settings.recolour else None
    side = _side_in_picture(size, settings, zoom)
    top, left = down * (size[0] - side), right * (size[1] - side)
    return Cut(top, left, side, settings.crop, mirror < settings.flip, grey < settings.grey, recolour)


def central_cut(size: tuple[int, int], settings: CropSettings) -> Cut:
    """The square in the middle, without zoom or flip: the same at every call."""
    side = _side_in_picture(size, settings.model_copy(update={"zoom": (1.0, 1.0)}), 0.0)
    return Cut((size[0] - side) / 2, (size[1] - side) / 2, side, settings.crop, False)


def random_crop(picture: np.ndarray, settings: CropSettings, random: np.random.Generator) -> np.ndarray:
    """A random square of `picture`, scaled once."""
    return random_cut(size_of(picture), settings, random).apply(picture)


def central_crop(picture: np.ndarray, settings: CropSettings) -> np.ndarray:
    """The square in the middle of `picture`, scaled once."""
    return central_cut(size_of(picture), settings).apply(picture)


def size_of(picture: np.ndarray) -> tuple[int, int]:
    return picture.shape[0], picture.shape[1]


def _side_in_picture(size: tuple[int, int], settings: CropSettings, draw: float) -> float:
    """Side of the cut in the picture's own pixels."""
    short = min(size)
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
