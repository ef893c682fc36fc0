"""Learning rate and weights over a run. What enters: pictures seen. What leaves: a factor."""

from __future__ import annotations

import math

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from bsq.settings import Settings


class ScheduleSettings(Settings):
    """Linear warm-up over `warm_up` pictures from `start` times the learning rate, then a cosine down to `floor` times
    it, reached at `horizon` pictures (None: the end of the run) and kept.
    """

    warm_up: NonNegativeInt = 0
    start: float = Field(default=0.1, ge=0, le=1)
    floor: float = Field(default=0.5, ge=0, le=1)
    horizon: PositiveInt | None = None


def learning_rate_factor(settings: ScheduleSettings, seen: int, total: int) -> float:
    """The factor for a step that begins when `seen` of `total` pictures have been seen."""
    if seen < settings.warm_up:
        return settings.start + (1 - settings.start) * seen / settings.warm_up
    span = max(1, (settings.horizon or total) - settings.warm_up)
    progress = min(1.0, (seen - settings.warm_up) / span)
    return settings.floor + (1 - settings.floor) * (1 + math.cos(math.pi * progress)) / 2


class RampSettings(Settings):
    """A weight that goes linearly from `start` to `weight` over the first `ramp` pictures."""

    weight: NonNegativeFloat = 0.1
    start: NonNegativeFloat = 0.3
    ramp: NonNegativeInt = 0


def ramped(settings: RampSettings, seen: int) -> float:
    """The weight when `seen` pictures have been seen."""
    if seen >= settings.ramp:
        return settings.weight
    return settings.start + (settings.weight - settings.start) * seen / settings.ramp
