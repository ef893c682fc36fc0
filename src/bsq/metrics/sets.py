"""What is kept of a set's features. What enters: `Features`, batch by batch. What leaves: moments and rows.

Holds no network, so processes can send each other what they measured (it can be pickled) and `merge` it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from torch import Tensor

from bsq.errors import DataError, SettingsError
from bsq.metrics.features import Features
from bsq.metrics.frechet import GaussianStatistics, Moments
from bsq.metrics.rows import RowStore

Kept = Literal["moments", "spatial moments", "rows", "logits"]
KEPT: tuple[Kept, ...] = ("moments", "spatial moments", "rows", "logits")


class FeatureSet:
    """Moments need memory that does not grow with the set; rows and logits 4 bytes a number and picture."""

    def __init__(self, kept: Collection[Kept]) -> None:
        unknown = sorted(set(kept) - set(KEPT))
        if unknown or not kept:
            raise SettingsError(f"cannot keep {unknown or 'nothing'} of features; there are {', '.join(KEPT)}")
        self._kept = frozenset(kept)
        self._count = 0
        self._moments: dict[Kept, GaussianStatistics] = {}
        self._rows: dict[Kept, RowStore] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, features: Features) -> None:
        """Adds B rows. Raises SettingsError when the network does not give what is to be kept, ShapeError or
        NumericsError when rows do not fit; then nothing is added.
        """
        goals = [self._goal(kept, features) for kept in sorted(self._kept)]
        for statistics, rows in goals:
            statistics.check(rows)
        for statistics, rows in goals:
            statistics.add(rows)
        self._count += len(features)

    def _goal(self, kept: Kept, features: Features) -> tuple[GaussianStatistics | RowStore, Tensor]:
        """What of the features is kept, and where."""
        match kept:
            case "moments":
                return self._moments_of(kept, features.pooled), features.pooled
            case "spatial moments":
                spatial = _given(features.spatial, "spatial features", "sFID")
                return self._moments_of(kept, spatial), spatial
            case "rows":
                return self._rows_of(kept, features.pooled), features.pooled
            case "logits":
                logits = _given(features.logits, "logits", "the inception score")
                return self._rows_of(kept, logits), logits
            case _:
                raise SettingsError(f"cannot keep {kept!r} of features")

    def merge(self, other: FeatureSet) -> None:
        """Adds what another process has measured. Raises SettingsError when it keeps other things."""
        if other._kept != self._kept:
            raise SettingsError(f"cannot put together sets that keep {sorted(self._kept)} and {sorted(other._kept)}")
        for kept, statistics in other._moments.items():
            self._moments.setdefault(kept, GaussianStatistics(statistics.dimension)).merge(statistics)
        for kept, rows in other._rows.items():
            self._rows.setdefault(kept, RowStore(rows.dimension)).merge(rows)
        self._count += other._count

    def moments(self, kept: Kept = "moments") -> Moments:
        """Raises DataError with fewer than 2 pictures or clips."""
        if kept not in self._moments:
            raise DataError("a Fréchet distance needs at least 2 pictures or clips of a set, got 0")
        return self._moments[kept].moments()

    def rows(self, kept: Kept = "rows") -> np.ndarray:
        """Float64 (N, D), in an order of their own. Raises DataError for an empty set."""
        if kept not in self._rows:
            raise DataError("no pictures were added")
        return self._rows[kept].rows()

    def _moments_of(self, kept: Kept, rows: Tensor) -> GaussianStatistics:
        if kept not in self._moments:
            self._moments[kept] = GaussianStatistics(rows.shape[1])
        return self._moments[kept]

    def _rows_of(self, kept: Kept, rows: Tensor) -> RowStore:
        if kept not in self._rows:
            self._rows[kept] = RowStore(rows.shape[1])
        return self._rows[kept]


def _given(part: Tensor | None, what: str, measure: str) -> Tensor:
    if part is None:
        raise SettingsError(f"{measure} needs {what}, which this network does not give; take Inception")
    return part
