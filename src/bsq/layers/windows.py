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
        return self.cut(hidden).reshape(batch * self.count, frames, -1, width)

    def cut(self, hidden: Tensor) -> Tensor:
        """Whole windows (B, T, rows, columns, D) → (B, rows of windows, windows, T, window rows, window columns, D), a
        view.
        """
        size = self.window_rows, self.window_columns
        return hidden.unflatten(3, (-1, size[1])).unflatten(2, (-1, size[0])).permute(0, 2, 4, 1, 3, 5, 6)

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

    def strips(self, batch: int, tokens: int) -> list[Strip]:
        """The grids of a batch in strips of about so many tokens each, at least a row of windows."""
        if self.count == 1:
            return [Strip(self, 0, self.rows, self._of_strip(batch, 0, self.rows))]
        rows, columns = self.padded
        step = max(1, tokens // (batch * self.window_rows * columns)) * self.window_rows
        spans = [(start, min(start + step, rows)) for start in range(0, rows, step)]
        return [Strip(self, start, stop, self._of_strip(batch, start, stop)) for start, stop in spans]

    def _of_strip(self, batch: int, start: int, stop: int) -> Tensor | None:
        if self.regions is None:
            return None
        across = self.padded[1] // self.window_columns
        return self.regions[start // self.window_rows * across : stop // self.window_rows * across].repeat(batch, 1)


@dataclass(frozen=True)
class Strip:
    """Rows start … stop − 1, whole windows, of the shifted and padded grid. `regions` (B·windows, S) as of `Windows`.

    A block's windows see nothing of each other, so that strips can go through it one by one, in place.
    """

    windows: Windows
    start: int
    stop: int
    regions: Tensor | None

    def split(self, hidden: Tensor) -> Tensor:
        """Hidden (B, T, h, w, D) of the whole grid → the strip's tokens (B·windows, T, S, D); those in the grid itself
        where they lie there in this order.
        """
        windows, (batch, frames, *_, width) = self.windows, hidden.shape
        if windows.count == 1:
            return hidden.reshape(batch, frames, -1, width)
        if self._as_it_lies:
            band = hidden[:, :, self.start : self.stop]
        else:
            make = hidden.new_empty if windows.padded == (windows.rows, windows.columns) else hidden.new_zeros
            band = make(batch, frames, self.stop - self.start, windows.padded[1], width)
            for there, here in self._pieces():
                band[here] = hidden[there]
        return windows.cut(band).reshape(-1, frames, windows.window_rows * windows.window_columns, width)

    def join_into(self, hidden: Tensor, tokens: Tensor) -> None:
        """Mirror of `split`: writes the strip's tokens where they belong."""
        windows, (batch, frames, *_, width) = self.windows, hidden.shape
        if windows.count == 1:
            hidden.copy_(tokens.view_as(hidden))
            return
        if self._as_it_lies:
            band = hidden[:, :, self.start : self.stop]
        else:
            band = hidden.new_empty(batch, frames, self.stop - self.start, windows.padded[1], width)
        cut = windows.cut(band)
        if cut.data_ptr() != tokens.data_ptr():  # else they were written where they belong
            cut.copy_(tokens.view(cut.shape))
        if not self._as_it_lies:
            for there, here in self._pieces():
                hidden[there] = band[here]

    @property
    def _as_it_lies(self) -> bool:
        """Whether the strip is a piece of the grid, neither shifted nor padded."""
        return self.windows.shift == 0 and self.windows.padded == (self.windows.rows, self.windows.columns)

    def _pieces(self) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
        """Where in the grid, and where in the strip, what both have lies."""
        windows, (rows, columns) = self.windows, self.windows.padded
        down = _rolled(windows.rows, rows, self.start + windows.shift, self.stop + windows.shift)
        right = _rolled(windows.columns, columns, windows.shift, columns + windows.shift)
        whole = slice(None), slice(None)
        return [((*whole, r, c), (*whole, at_r, at_c)) for r, at_r in down for c, at_c in right]


def _rolled(size: int, padded: int, start: int, stop: int) -> list[tuple[slice, slice]]:
    """Of places start … stop − 1 of an axis that goes round after `padded`: those below `size`, and which they are."""
    found = []
    for begin, end, before in ((start, min(stop, padded), start), (0, stop - padded, start - padded)):
        end = min(end, size)
        if begin < end:
            found.append((slice(begin, end), slice(begin - before, end - before)))
    return found


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
