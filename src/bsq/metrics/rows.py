"""Rows of features kept whole. What enters: rows, batch by batch. What leaves: all of them, in an order of their own.

Rows are put in the order of a hash of their bytes. So what is drawn from them, or summed over them, depends neither on
batches, nor on the order in which they came, nor on the processes that measured them.
"""

from __future__ import annotations

import hashlib

import numpy as np
from torch import Tensor

from bsq.errors import NumericsError, ShapeError


class RowStore:
    """Keeps rows (N, D) in float32, the precision that networks give them in: 4·N·D bytes."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._parts: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def add(self, rows: Tensor) -> None:
        """Rows (B, D), floating point. Raises as `check` does and then adds nothing."""
        self.check(rows)
        self._parts.append(rows.detach().cpu().float().numpy().copy())

    def check(self, rows: Tensor) -> None:
        """Raises ShapeError or NumericsError unless rows can be added."""
        if rows.ndim != 2 or rows.shape[1] != self.dimension or not rows.is_floating_point():
            raise ShapeError(f"expected features (B, {self.dimension}), got {rows.dtype} {tuple(rows.shape)}")
        if not bool(rows.isfinite().all()):
            raise NumericsError("the features of a picture hold NaN or infinity")

    def merge(self, other: RowStore) -> None:
        """Adds what another process has kept."""
        if other.dimension != self.dimension:
            raise ShapeError(f"cannot put together rows of {self.dimension} and {other.dimension} features")
        self._parts += other._parts

    def rows(self) -> np.ndarray:
        """Float64 (N, D) in the order of the rows' hashes."""
        if not self._parts:
            return np.zeros((0, self.dimension))
        whole = np.concatenate(self._parts)
        order = sorted(range(len(whole)), key=lambda i: hashlib.blake2b(whole[i].tobytes(), digest_size=16).digest())
        return whole[order].astype(np.float64)
