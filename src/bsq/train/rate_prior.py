"""The prior's side of rate-aware training. What enters: codes of a step. What leaves: their bits, and a better prior.

With `NoRate` in its place everything else stays as it is.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from bsq.errors import CheckpointError
from bsq.prior.freeze import freeze, save_prior
from bsq.prior.rounding import Rounding
from bsq.prior.train import PriorTrainingSettings, build_optimizers
from bsq.quantizers.base import Quantized, Quantizer
from bsq.train.parallel import module_tensors, optimizer_tensors, restore_module, restore_optimizer
from bsq.train.rate import CodeRate, Counted, RateSettings
from bsq.train.schedule import ramped

CLIP = 1.0
"""The largest norm of the prior's gradient, as where it is trained alone (`bsq.prior.train`)."""


class NoRate:
    """Train without counting coded bits."""

    def count(self, quantized: Quantized, kept: Tensor | None, seen: int) -> None:
        return None

    def train_step(self, factor: float) -> None:
        return

    def forget(self) -> None:
        return

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        return

    def export(self, folder: Path, code_hash: str, seen: int) -> None:
        return


class RatePrior:
    """A prior that learns from the codes of each step, and its optimizers.

    Every process holds the whole of it and averages its gradients by hand: it is small, and is called in a shape of its
    own by every micro-batch.
    """

    def __init__(
        self, settings: RateSettings, quantizer: Quantizer, frames: int, pictures: int, accelerator: Accelerator
    ) -> None:
        self.settings, self.pictures, self.accelerator = settings, pictures, accelerator
        self.network = CodeRate(settings, quantizer, frames).to(accelerator.device).train()
        self.optimizers = build_optimizers(self.network.prior, PriorTrainingSettings(learning_rate=1.0))

    def count(self, quantized: Quantized, kept: Tensor | None, seen: int) -> Counted:
        """What the codes of one micro-batch cost, as a loss."""
        weight = ramped(self.settings, seen)
        draw = np.random.default_rng(int(torch.randint(2**62, ())))  # the step's own noise
        rounding = Rounding() if self._rounds(seen) else None
        bits = self.network(quantized, kept, weight, draw, rounding)
        mean = bits.mean()
        # Its value is the weighted one, its gradient is weighted on the way to the code only.
        return Counted(mean - (1 - weight) * mean.detach(), bits.detach())

    def _rounds(self, seen: int) -> bool:
        return seen >= (1 - self.settings.rounded) * self.pictures

    def train_step(self, factor: float) -> None:
        """Learn from the gradients of the step that was taken, at `factor` of the learning rate."""
        for parameter in self.network.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if self.accelerator.num_processes > 1:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.param_groups[0]["lr"] = self.settings.learning_rate * factor
                optimizer.step()
        self.forget()

    def forget(self) -> None:
        """Drop what a step that was skipped left behind."""
        self.network.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimizers, by name, for a checkpoint."""
        tensors = module_tensors(self.network, "rate.")
        for number, optimizer in enumerate(self.optimizers):
            tensors |= optimizer_tensors(optimizer, f"rate_optimizer{number}.")
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Mirror of `tensors`."""
        restore_module(self.network, tensors, "rate.")
        for number, optimizer in enumerate(self.optimizers):
            restore_optimizer(optimizer, tensors, f"rate_optimizer{number}.")

    def export(self, folder: Path, code_hash: str, seen: int) -> None:
        """Write the prior as integers beside the model, once it has begun to learn as such."""
        if not self._rounds(seen):
            return
        try:
            exact = freeze(copy.deepcopy(self.network.prior).cpu())
        except CheckpointError as error:
            # The tokenizer is worth writing without it.
            warnings.warn(f"the prior that learned alongside cannot be written: {error}", stacklevel=2)
            return
        save_prior(exact, folder, code_hash=code_hash, notes=f"learned alongside, from {seen:,} pictures")


def build_rate(
    settings: RateSettings | None, quantizer: Quantizer, frames: int, pictures: int, accelerator: Accelerator
) -> RatePrior | NoRate:
    return NoRate() if settings is None else RatePrior(settings, quantizer, frames, pictures, accelerator)
