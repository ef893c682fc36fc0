"""Guidance by the class. What enters: logits with the class and without it. What leaves: logits that stress it.

logits = without + (1 + w)·(with − without) = with + w·(with − without): w = 0 is the class alone (PAPER: α = w).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from bsq.errors import SettingsError
from bsq.settings import Settings


class ConstantGuidance(Settings):
    """The same weight in every step."""

    kind: Literal["constant"] = "constant"
    weight: NonNegativeFloat = 0.5


class LinearGuidance(Settings):
    """From 0 in the first step to `weight` in the last."""

    kind: Literal["linear"] = "linear"
    weight: NonNegativeFloat = 2.0


class PowerCosineGuidance(Settings):
    """weight·(1 − cos(π·progress^power)) / 2: late the larger `power` is (arXiv:2306.09305)."""

    kind: Literal["power-cosine"] = "power-cosine"
    weight: NonNegativeFloat = 3.0
    power: PositiveFloat = 2.0


class IntervalGuidance(Settings):
    """`weight` from progress `start` to `end`, 0 before and after (arXiv:2404.07724). Steps of weight 0 look once
    rather than twice.
    """

    kind: Literal["interval"] = "interval"
    weight: NonNegativeFloat = 2.0
    start: float = Field(default=0.5, ge=0, le=1)
    end: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"guidance from {self.start} to {self.end} is none; start must not be above end")
        return self


Guidance = ConstantGuidance | LinearGuidance | PowerCosineGuidance | IntervalGuidance
GuidanceSettings = Annotated[Guidance, Field(discriminator="kind")]


def guidance_weight(settings: Guidance, step: int, steps: int) -> float:
    """The weight in step `step` (from 0) of `steps`; a lone step has the whole weight."""
    progress = step / (steps - 1) if steps > 1 else 1.0
    match settings:
        case ConstantGuidance(weight=weight):
            return weight
        case LinearGuidance(weight=weight):
            return weight * progress
        case PowerCosineGuidance(weight=weight, power=power):
            return weight * (1 - math.cos(math.pi * progress**power)) / 2
        case IntervalGuidance(weight=weight, start=start, end=end):
            return weight if start <= progress <= end else 0.0
        case other:
            raise SettingsError(f"no guidance {other!r}")


def guide(with_class: Tensor, without: Tensor, weight: float) -> Tensor:
    """Logits of equal shapes → logits."""
    return with_class + weight * (with_class - without)
