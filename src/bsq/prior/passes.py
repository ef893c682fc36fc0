"""Fixed orders of decoding. What enters: a grid's size. What leaves: for each pass, the tokens it decodes.

All tokens of a pass are predicted at once, from the tokens of earlier passes. The quincunx order goes coarse to fine:
the last pass is one colour of the checkerboard, so that each of its tokens lies between four known ones; the pass
before it is one colour of the remaining (tilted) grid, and so on. The first pass takes whatever is left.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bsq.errors import SettingsError
from bsq.prior.base import Grid

MAX_PASSES = 12


def quincunx_map(height: int, width: int, passes: int) -> np.ndarray:
    """(h, w) int64, the pass of each token, 0 … passes − 1; pass p > 0 holds about 2^(p − passes) of all tokens.

    Small grids leave early passes empty. Raises SettingsError unless 1 ≤ passes ≤ 12.
    """
    if not 1 <= passes <= MAX_PASSES:
        raise SettingsError(f"an order of decoding has 1 to {MAX_PASSES} passes, got {passes}")
    rows, columns = np.indices((height, width))
    assigned = np.zeros((height, width), np.int64)
    stride = 1
    for p in range(passes - 1, 0, -1):
        on_lattice = (rows % stride == 0) & (columns % stride == 0)
        if (passes - 1 - p) % 2 == 0:
            chosen = on_lattice & ((rows // stride + columns // stride) % 2 == 1)
        else:
            chosen = on_lattice & (rows // stride % 2 == 1) & (columns // stride % 2 == 1)
            stride *= 2
        assigned[chosen] = p
    return assigned


def raster_map(height: int, width: int) -> np.ndarray:
    """(h, w) int64: one token a pass, row by row; for comparison with autoregressive models."""
    return np.arange(height * width, dtype=np.int64).reshape(height, width)


@lru_cache(maxsize=64)
def quincunx_passes(grid: Grid, passes: int) -> tuple[np.ndarray, ...]:
    """Flat int64 token indices of each pass that is not empty, all frames of the grid alike; ascending in a pass."""
    return split_passes(grid, quincunx_map(grid.height, grid.width, passes))


def split_passes(grid: Grid, assigned: np.ndarray) -> tuple[np.ndarray, ...]:
    """Flat int64 token indices of each pass of the (h, w) map `assigned`, without the empty ones."""
    every_frame = np.broadcast_to(assigned, (grid.frames, grid.height, grid.width)).reshape(-1)
    return tuple(np.flatnonzero(every_frame == p) for p in np.unique(assigned))
