"""Sets of feature rows. What enters: tensors (N, D). What leaves: the same, checked, or in an order of their own."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from bsq.errors import DataError, NumericsError, ShapeError


def check_sets(pictures: Tensor, references: Tensor, least: int, measure: str) -> tuple[Tensor, Tensor]:
    """Both sets as float64. Raises ShapeError, NumericsError, and DataError for fewer than `least` rows in either."""
    for name, rows in (("pictures", pictures), ("references", references)):
        if not isinstance(rows, Tensor) or rows.ndim != 2 or not rows.shape[1]:
            raise ShapeError(f"expected features (N, D) of {name}, got {getattr(rows, 'shape', type(rows))}")
        if len(rows) < least:
            raise DataError(f"{measure} needs at least {least} {name}, got {len(rows)}")
        if not bool(rows.isfinite().all()):
            raise NumericsError(f"features of {name} hold NaN or infinity")
    if pictures.shape[1] != references.shape[1]:
        raise ShapeError(
            f"features of pictures and references differ in width: {pictures.shape[1]}, {references.shape[1]}"
        )
    return pictures.detach().double(), references.detach().double()


def order_by_content(rows: Tensor) -> Tensor:
    """Indices (N,) that put rows into the order of their SHA-256: as good as random, yet the same however they came.

    What is drawn or split from rows in this order does not depend on batches, order or processes.
    """
    table = rows.detach().double().contiguous().cpu().numpy()
    keys = [hashlib.sha256(row.tobytes()).digest() for row in table]
    return torch.tensor(sorted(range(len(keys)), key=keys.__getitem__), dtype=torch.int64)
