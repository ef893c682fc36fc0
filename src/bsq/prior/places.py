"""The order in which places are coded. What enters: a grid. What leaves: batches of tokens, and their neighbours."""

from __future__ import annotations

import numpy as np

from bsq.prior.base import Grid
from bsq.prior.passes import quincunx_passes

PASSES = 6
NEAR = ((-1, 0), (0, -1), (0, 1), (1, 0))
DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))
FAR = ((-2, 0), (0, -2), (0, 2), (2, 0))
NEIGHBOURS = len(NEAR) + len(DIAGONAL) + len(FAR) + 1  # the last is the same place in the frame before


class Places:
    """The tokens of a grid in the order they are coded, and their neighbours."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        frame, row, column = np.indices((grid.frames, grid.height, grid.width)).reshape(3, -1, 1)
        rows = row + np.array([dy for dy, _ in NEAR + DIAGONAL + FAR])
        columns = column + np.array([dx for _, dx in NEAR + DIAGONAL + FAR])
        inside = (rows >= 0) & (rows < grid.height) & (columns >= 0) & (columns < grid.width)
        around = np.where(inside, (frame * grid.height + rows) * grid.width + columns, grid.tokens)
        before = ((frame - 1) * grid.height + row) * grid.width + column
        # (N, 13) flat indices; N stands for a neighbour that is not there.
        self.neighbours = np.concatenate([around, np.where(frame > 0, before, grid.tokens)], axis=1)

    def batches(self, size: int) -> list[np.ndarray]:
        """Tokens in the order of coding, in batches that lie within one pass of one frame."""
        picture = Grid(1, self.grid.height, self.grid.width)
        return [
            tokens[i : i + size] + frame * picture.tokens
            for frame in range(self.grid.frames)
            for tokens in quincunx_passes(picture, PASSES)
            for i in range(0, len(tokens), size)
        ]
