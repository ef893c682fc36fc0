"""Average of the weights over training. What enters: a model after each step. What leaves: its slow-moving twin."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import nn

from bsq.settings import Settings
from bsq.train.parallel import local

Model = TypeVar("Model", bound=nn.Module)


class EmaSettings(Settings):
    """A step keeps `decay` of the average, to the power of `every` when only every so many steps are taken in.

    Before `start` pictures were seen the twin is the model itself; after that the average forgets its own start: the
    n-th weights since then are kept by (1 + n) / (10 + n) at most.
    """

    decay: float = Field(default=0.999, ge=0, lt=1)
    every: PositiveInt = 1
    start: NonNegativeInt = 0


class Ema(Generic[Model]):
    """`model` is the twin: averaged parameters, current buffers, evaluation mode. `batch` pictures make a step."""

    def __init__(self, model: Model, settings: EmaSettings, batch: int = 1) -> None:
        self.settings = settings
        self.start = settings.start // batch
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step `step` (counted from 0)."""
        if step >= self.start and (step + 1) % self.settings.every:
            return
        new = 1 - self._decay(step - self.start)
        torch._foreach_lerp_(local(self.model.parameters()), local(p.detach() for p in model.parameters()), new)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)

    def _decay(self, step: int) -> float:
        """How much of the average is kept, `step` steps after its start."""
        if step < 0:
            return 0.0
        taken = step // self.settings.every
        return min(self.settings.decay**self.settings.every, (1 + taken) / (10 + taken))
