"""Which tokens see each other inside a frame: all of them, or those of a window. What enters: hidden on its grid.
What leaves: rows of tokens for attention, and back.

Windows are shifted by half their size in every second block, so that information crosses their borders and no seam is
left. Shifting rolls the grid around; tokens that come together from opposite edges, and padding, are told apart by
region numbers: a token attends only within its region.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from bsq.settings import Settings


class FullAttentionSettings(Settings):
    """Every token sees the whole frame: quadratic in pixels."""

    kind: Literal["full"] = "full"


class WindowAttentionSettings(Settings):
    """Tokens see a window of `size` × `size` tokens, shifted by half in every second block: linear in pixels."""

    kind: Literal["windows"] = "windows"
    size: int = Field(default=8, ge=2, multiple_of=2)


@dataclass(frozen=True)
class Windows:
    """How a (h, w) grid is cut into windows of rows × columns tokens; one window for attention over everything.

    `regions` (windows, S) int32 numbers the tokens that may see each other, or is None where all of a window may.
    """

    rows: int
    columns: int
    window_rows: int
    window_columns: int
    shift: int
    regions: Tensor | None

    @property
    def padded(self) -> tuple[int, int]:
        return -(-self.rows // self.window_rows) * self.window_rows, -(
            -self.columns // self.window_columns
        ) * self.window_columns

    @property
    def count(self) -> int:
        """Windows of one frame."""
        rows, columns = self.padded
        return rows // self.window_rows * (columns // self.window_columns)

    def split(self, hidden: Tensor) -> Tensor:
        """Hidden (B, T, h, w, D) → tokens (B·windows, T, S, D), S = window rows · window columns."""
        batch, frames, _, _, width = hidden.shape
        if self.count == 1:
            return hidden.reshape(batch, frames, -1, width)
        rows, columns = self.padded
        hidden = F.pad(hidden, (0, 0, 0, columns - self.columns, 0, rows - self.rows))
        if self.shift:
            hidden = hidden.roll((-self.shift, -self.shift), (2, 3))
        cut = hidden.view(
            batch, frames, rows // self.window_rows, self.window_rows, columns // self.window_columns, -1, width
        )
        return cut.permute(0, 2, 4, 1, 3, 5, 6).reshape(batch * self.count, frames, -1, width)

    def join(self, tokens: Tensor) -> Tensor:
        """Mirror of `split`."""
        frames, width = tokens.shape[1], tokens.shape[-1]
        batch = tokens.shape[0] // self.count
        if self.count == 1:
            return tokens.view(batch, frames, self.rows, self.columns, width)
        rows, columns = self.padded
        cut = tokens.view(
            batch,
            rows // self.window_rows,
            columns // self.window_columns,
            frames,
            self.window_rows,
            self.window_columns,
            width,
        )
        hidden = cut.permute(0, 3, 1, 4, 2, 5, 6).reshape(batch, frames, rows, columns, width)
        if self.shift:
            hidden = hidden.roll((self.shift, self.shift), (2, 3))
        return hidden[:, :, : self.rows, : self.columns]


def cut_windows(
    settings: FullAttentionSettings | WindowAttentionSettings, block: int, rows: int, columns: int, device: torch.device
) -> Windows:
    """The windows of a transformer's block number `block` (from 0) on a grid of rows × columns tokens."""
    match settings:
        case FullAttentionSettings():
            return Windows(rows, columns, rows, columns, 0, None)
        case WindowAttentionSettings(size=size):
            if rows <= size and columns <= size:
                return Windows(rows, columns, rows, columns, 0, None)
            shift = size // 2 if block % 2 else 0
            windows = Windows(rows, columns, size, size, shift, None)
            return Windows(rows, columns, size, size, shift, _regions(windows, device))
        case _:
            raise AssertionError(settings)


def _regions(windows: Windows, device: torch.device) -> Tensor | None:
    padded = windows.padded
    if not windows.shift and padded == (windows.rows, windows.columns):
        return None
    # Along an axis: 0 in place, 1 brought round by the roll, 2 padding. Unequal marks never meet.
    marks = []
    for size, total in zip((windows.rows, windows.columns), padded, strict=True):
        mark = torch.zeros(total, dtype=torch.int32, device=device)
        mark[: windows.shift] = 1
        mark[size:] = 2
        marks.append(mark)
    grid = (marks[0][:, None] * 3 + marks[1]).view(1, 1, *padded, 1)
    bare = Windows(*padded, windows.window_rows, windows.window_columns, windows.shift, None)
    return bare.split(grid).reshape(windows.count, -1)
