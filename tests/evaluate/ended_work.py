"""Work whose second process dies or fails, or that tells of its process.

It imports next to nothing, since every process imports it anew.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bsq.errors import DataError


@dataclass
class Count:
    """Adds up."""

    number: int

    def merge(self, other: Any) -> None:
        self.number += other.number


@dataclass(frozen=True)
class Ended:
    how: str

    def share(self, number: int, count: int, told: Callable[[], None]) -> Count:
        told()
        match (number, self.how):
            case (1, "killed"):
                os.kill(os.getpid(), signal.SIGKILL)
            case (1, "refused"):
                raise DataError("the disk is gone")
            case (1, "buggy"):
                raise ValueError("a bug")
            case (_, "threads"):
                return Count(int(os.environ.get("OPENBLAS_NUM_THREADS", 0)))
        return Count(10 + number)
