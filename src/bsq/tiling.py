"""Pictures larger than a model with learned positions. What enters: pixels or digits of any grid. What leaves: the
other.

Encoding cuts the grid into tiles of the model's size, the last one of each axis flush with the edge. Decoding adds
tiles half a tile apart and blends what they say with weights that fall towards each tile's border, so that no seam is
left. Models with windows need none of this: see `bsq.parts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tiling:
    """Size of a tile in tokens."""

    rows: int
    columns: int


def cut_tiles(pixels: Tensor, tiling: Tiling, patch: int, encode: Callable[[Tensor, int, int], Tensor]) -> Tensor:
    """Pixels (B, 3, T, h·p, w·p), at least a tile, → digits (B, T, h, w, L) by `encode` of one tile at a
    time, given its first row and column."""
    rows, columns = pixels.shape[-2] // patch, pixels.shape[-1] // patch
    digits: Tensor | None = None
    for top in starts(rows, tiling.rows, tiling.rows):
        for left in starts(columns, tiling.columns, tiling.columns):
            tile = pixels[
                ...,
                top * patch : (top + tiling.rows) * patch,
                left * patch : (left + tiling.columns) * patch,
            ]
            part = encode(tile, top, left)
            if digits is None:
                digits = part.new_empty(*part.shape[:2], rows, columns, part.shape[-1])
            digits[:, :, top : top + tiling.rows, left : left + tiling.columns] = part
    assert digits is not None
    return digits


def blend_tiles(digits: Tensor, tiling: Tiling, patch: int, decode: Callable[[Tensor, int, int], Tensor]) -> Tensor:
    """Digits (B, T, h, w, L), at least a tile, → pixels (B, 3, T, h·p, w·p) by `decode` of overlapping
    tiles, given their first row and column."""
    batch, frames, rows, columns, _ = digits.shape
    if (rows, columns) == (tiling.rows, tiling.columns):
        return decode(digits, 0, 0)
    total = torch.zeros(batch, 3, frames, rows * patch, columns * patch, dtype=torch.float32, device=digits.device)
    weights = torch.zeros(rows * patch, columns * patch, dtype=torch.float32, device=digits.device)
    weight = _hat(tiling.rows * patch, digits.device)[:, None] * _hat(tiling.columns * patch, digits.device)
    for top in starts(rows, tiling.rows, max(1, tiling.rows // 2)):
        for left in starts(columns, tiling.columns, max(1, tiling.columns // 2)):
            tile = decode(digits[:, :, top : top + tiling.rows, left : left + tiling.columns], top, left)
            window = (
                ...,
                slice(top * patch, (top + tiling.rows) * patch),
                slice(left * patch, (left + tiling.columns) * patch),
            )
            total[window] += tile.float() * weight
            weights[window] += weight
    return total / weights


def starts(size: int, tile: int, step: int) -> list[int]:
    """Where tiles of `tile` begin on an axis of `size` ≥ tile: every `step`, and the last flush with the end."""
    last = size - tile
    return [*range(0, last, step), last]


def _hat(size: int, device: torch.device) -> Tensor:
    """Weights that rise linearly from the border to the middle and are nowhere zero."""
    place = torch.arange(size, dtype=torch.float32, device=device)
    return torch.minimum(place + 0.5, size - 0.5 - place)
