"""Windows of a grid whose size is not known yet. What enters: hidden (B, 1, h, w, D). What leaves: rows of tokens, and
back.

`bsq.layers.windows` rolls and pads, and leaves out what a grid does not need; a traced program must hold for every
grid. So here rows and columns are gathered by index, and tokens always carry region numbers. A token sees the same
tokens in the same order either way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bsq.layers.windows import FullAttentionSettings, WindowAttentionSettings

PADDING = 2


@dataclass(frozen=True)
class Axis:
    """One axis of the grid in windows of `window` tokens: which token stands in each place, which region it belongs to,
    and in which place each token stands.
    """

    window: int
    taken: Tensor
    region: Tensor
    place: Tensor

    @staticmethod
    def cut(tokens: int, window: int, shift: int, device: torch.device) -> Axis:
        """Windows rolled by `shift`, the last one padded with copies of the last token, which nobody else sees."""
        total = (tokens + window - 1) // window * window
        source = torch.arange(total, device=device) + shift
        source = torch.where(source >= total, source - total, source)
        place = torch.arange(tokens, device=device) - shift
        return Axis(
            window,
            taken=source.clamp(max=tokens - 1),
            region=torch.where(source >= tokens, PADDING, (source < shift).int()),
            place=torch.where(place < 0, place + total, place),
        )


@dataclass(frozen=True)
class GatheredWindows:
    """Mirror images `split` and `join`, as of `bsq.layers.windows.Windows`, for one frame."""

    rows: Axis
    columns: Axis

    @property
    def regions(self) -> Tensor:
        """Integers (windows, S): tokens of unequal numbers do not see each other."""
        grid = self.rows.region[:, None] * (PADDING + 1) + self.columns.region
        return self._cut(grid[None, None, :, :, None])[:, 0, :, 0]

    def split(self, hidden: Tensor) -> Tensor:
        """Hidden (B, 1, h, w, D) → tokens (B·windows, 1, S, D)."""
        return self._cut(hidden.index_select(2, self.rows.taken).index_select(3, self.columns.taken))

    def join(self, tokens: Tensor, batch: int) -> Tensor:
        """Mirror of `split`."""
        down, right = self.rows.window, self.columns.window
        across = self.columns.taken.shape[0] // right
        cut = tokens.reshape(batch, -1, across, 1, down, right, tokens.shape[-1])
        grid = cut.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)
        return grid.index_select(2, self.rows.place).index_select(3, self.columns.place)

    def _cut(self, grid: Tensor) -> Tensor:
        cut = grid.unflatten(3, (-1, self.columns.window)).unflatten(2, (-1, self.rows.window))
        return cut.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5).flatten(0, 2)


def gather_windows(
    settings: FullAttentionSettings | WindowAttentionSettings, block: int, rows: int, columns: int, device: torch.device
) -> GatheredWindows | None:
    """The windows of block number `block` on that grid, as `bsq.layers.windows.cut_windows`; None: one window, all."""
    match settings:
        case FullAttentionSettings():
            return None
        case WindowAttentionSettings(size=size):
            if rows <= size and columns <= size:
                return None
            shift = size // 2 if block % 2 else 0
            return GatheredWindows(Axis.cut(rows, size, shift, device), Axis.cut(columns, size, shift, device))
        case _:
            raise AssertionError(settings)
