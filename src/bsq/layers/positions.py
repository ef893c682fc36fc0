"""Where a token stands. What enters: grid sizes. What leaves: hidden with learned positions added, or rotary tables.

Learned positions (the paper) are a table of one row per place and one per frame, and fix the grid's size. Rotary
positions turn queries and keys by angles that depend on row, column and frame, so that scores depend on differences
alone and any size will do. Inside a window, coordinates count from the window's corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from bsq.errors import ShapeError
from bsq.settings import Settings

# About the spread of a freshly initialised patch embedding, so that neither drowns the other.
OFFSET_STD = 0.15


class LearnedPositionsSettings(Settings):
    """A table for a grid of `rows` × `columns` tokens and up to `frames` frames (1: pictures only)."""

    kind: Literal["learned"] = "learned"
    rows: PositiveInt
    columns: PositiveInt
    frames: PositiveInt = 1


class LearnedPositions(nn.Module):
    """Adds P_s[place] + P_t[frame] to hidden (PAPER: §3.3; P_t starts at zero, and is absent when frames = 1)."""

    def __init__(self, settings: LearnedPositionsSettings, width: int) -> None:
        super().__init__()
        self.settings = settings
        self.places = nn.Parameter(torch.randn(settings.rows * settings.columns, width) * 0.02)
        self.frames = nn.Parameter(torch.zeros(settings.frames, width)) if settings.frames > 1 else None

    def forward(self, hidden: Tensor, first: int = 0) -> Tensor:
        """Hidden (B, T, h, w, D) of frames first … first + T − 1 → the same shape. The grid must be the table's."""
        stop, (rows, columns) = first + hidden.shape[1], hidden.shape[2:4]
        table = self.settings
        if (rows, columns) != (table.rows, table.columns) or stop > table.frames:
            raise ShapeError(
                f"learned positions are for {table.rows}×{table.columns} tokens and up to {table.frames} frames, "
                f"got {rows}×{columns} and {stop}"
            )
        hidden = hidden + self.places.view(rows, columns, -1)
        if self.frames is not None:
            hidden = hidden + self.frames[first:stop, None, None]
        return hidden


class RotaryPositionsSettings(Settings):
    """Rotary angles position·base^(−i/n) over n pairs an axis; a quarter of the pairs go to time, the rest to rows,
    columns.

    `base` sets the slowest turn: about 2π·base tokens.
    """

    kind: Literal["rotary"] = "rotary"
    base: PositiveFloat = Field(default=100.0, gt=1.0)


class Offset(nn.Module):
    """Adds one learned vector to every token of hidden (…, D): what is left of a table of positions when rotary angles
    replace it.

    It is needed: the LayerNorm that follows would otherwise hide how bright and how contrasted a patch is.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(width) * OFFSET_STD)

    def forward(self, hidden: Tensor, first: int = 0) -> Tensor:
        return hidden + self.vector


@dataclass(frozen=True)
class Rotary:
    """Cosines and sines (T·S, head width) of the angles of the S tokens of each of T frames. The halves of a head are
    turned into each other: cosines are there twice, sines negative in the first half.
    """

    cos: Tensor
    sin: Tensor

    def turn(self, x: Tensor) -> Tensor:
        """Queries or keys (…, N, head width), turned. Computed in float32, returned in x's type.

        Not by `cat` of two halves: inductor's gradient of that leaves memory unwritten on some CPUs (torch 2.13).
        """
        return (x * self.cos + x.roll(x.shape[-1] // 2, dims=-1) * self.sin).to(x.dtype)


def rotary_table(
    settings: RotaryPositionsSettings,
    frames: int,
    rows: int,
    columns: int,
    head_width: int,
    device: torch.device,
    first: int = 0,
) -> Rotary:
    """Angles of a (T, h, w) grid of frames first … first + T − 1, row-major, for heads of `head_width` (even)."""
    pairs = head_width // 2
    time_pairs = pairs // 4
    row_pairs = (pairs - time_pairs) // 2
    axes = [(first, frames, time_pairs), (0, rows, row_pairs), (0, columns, pairs - time_pairs - row_pairs)]
    angles = []
    for axis, (start, size, count) in enumerate(axes):
        speeds = settings.base ** (-torch.arange(count, dtype=torch.float64, device=device) / max(count, 1))
        angle = torch.arange(start, start + size, dtype=torch.float64, device=device)[:, None] * speeds
        shape = [1, 1, 1, count]
        shape[axis] = size
        angles.append(angle.view(shape).expand(frames, rows, columns, count))
    table = torch.cat(angles, dim=-1).reshape(frames * rows * columns, pairs)
    cos, sin = table.cos().float(), table.sin().float()
    return Rotary(torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1))
