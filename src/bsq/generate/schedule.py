"""How much is still unknown. What enters: progress from 0 to 1. What leaves: a share that falls from 1 to 0.

In training the progress is drawn at random, in sampling it is the share of steps taken.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from bsq.errors import SettingsError

Schedule = Literal["cosine", "arccos", "linear"]


def unknown_share(schedule: Schedule, progress: Tensor) -> Tensor:
    """float64 in 0 … 1 → float64 (cosine: MaskGIT, arXiv:2202.04200; arccos: MaskBit, arXiv:2409.16211)."""
    match schedule:
        case "cosine":
            return (progress * (math.pi / 2)).cos()
        case "arccos":
            return progress.clamp(0, 1).acos() * (2 / math.pi)
        case "linear":
            return 1 - progress
        case other:
            raise SettingsError(f"no schedule {other!r}")


def left_after(schedule: Schedule, step: int, steps: int, total: Tensor, unknown: Tensor) -> Tensor:
    """How many of `total` (B,) int64 stay unknown after step `step` (from 0) of `steps`, where `unknown` (B,) are now.

    At least one becomes known in each step, and all in the last.
    """
    share = unknown_share(schedule, torch.tensor((step + 1) / steps, dtype=torch.float64))
    left = (total * share).floor().long() if step + 1 < steps else torch.zeros_like(total)
    return torch.minimum(left, unknown - 1).clamp(min=0)
