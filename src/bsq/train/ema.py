"""Average of the weights over training. What enters: a model after each step. What leaves: its slow-moving twin."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from pydantic import Field
from torch import nn

from bsq.settings import Settings
from bsq.train.parallel import local

Model = TypeVar("Model", bound=nn.Module)


class EmaSettings(Settings):
    """Each step keeps `decay` of the average; early on (1 + step) / (10 + step), to forget the start."""

    decay: float = Field(default=0.999, ge=0, lt=1)


class Ema(Generic[Model]):
    """`model` is the twin: averaged parameters, current buffers, evaluation mode."""

    def __init__(self, model: Model, settings: EmaSettings) -> None:
        self.settings = settings
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step `step` (counted from 0)."""
        decay = min(self.settings.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(local(self.model.parameters()), local(p.detach() for p in model.parameters()), 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
