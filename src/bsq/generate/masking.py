"""What a generator has to guess in training. What enters: positions of a run. What leaves: which groups are known.

All of it is a function of seed and position alone, so a run resumes, and is shared by processes, without a trace.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from bsq.generate.noise import DROP, FRAME, MASK, RATIO, uniform
from bsq.generate.order import best
from bsq.generate.schedule import Schedule, unknown_share
from bsq.settings import Settings


class MaskingSettings(Settings):
    """How samples are masked.

    schedule         the share of unknown groups is this schedule's at a progress drawn evenly
    label_smoothing  share of the target that is spread over all values of a group
    class_dropout    share of samples whose class is hidden, for guidance (PAPER: 0.2)
    frames           each: every frame of a clip has a share of its own; last: clips end with a frame drawn at random,
                     and only that one is masked, as in continuation
    """

    schedule: Schedule = "cosine"
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    class_dropout: float = Field(default=0.2, ge=0, le=1)
    frames: Literal["each", "last"] = "each"


def draw_known(settings: MaskingSettings, seed: int, positions: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Bool (B, T, h, w, G) for the shape (T, h, w, G); at least one group of a masked frame is unknown."""
    frames, places = shape[0], shape[1] * shape[2] * shape[3]
    shares = unknown_share(settings.schedule, uniform(seed, RATIO, 0, positions, frames))
    hidden = (shares * places).ceil().long().clamp(min=1)
    if settings.frames == "last" and frames > 1:
        last = (uniform(seed, FRAME, 0, positions, 1) * frames).long()
        hidden = hidden * (torch.arange(frames, device=positions.device) == last)
    draws = [uniform(seed, MASK, t, positions, places) for t in range(frames)]
    known = torch.stack([~best(draw, hidden[:, t]) for t, draw in enumerate(draws)], 1)
    return known.view(len(positions), *shape)


def drop_classes(settings: MaskingSettings, seed: int, positions: Tensor, labels: Tensor, none: int) -> Tensor:
    """Labels (B,), −1 for none, → classes of which some are hidden: `none`."""
    hidden = uniform(seed, DROP, 0, positions, 1)[:, 0] < settings.class_dropout
    return torch.where(hidden | (labels < 0), none, labels)
