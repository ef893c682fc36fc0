"""The discriminator's side of training. What enters: pixels and their reconstructions. What leaves: terms and a better
judge.

With `NoAdversary` in its place everything else stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from bsq.errors import SettingsError
from bsq.losses.adversarial import AdversarialLoss, AdversarialSettings, GeneratorTerms, NoAdversarialSettings
from bsq.losses.discriminators import build_discriminator
from bsq.train.meter import Meter
from bsq.train.optimizers import AdamWSettings, build_optimizers, set_learning_rate
from bsq.train.parallel import (
    Replicated,
    clip_gradients,
    exchange,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizer,
)

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Taken:
    """A step that changed the model."""


@dataclass(frozen=True)
class Skipped:
    """A step whose loss or gradient was not a number; the model is as before (`step_in_backward`: or moved in part)."""

    reason: str


@dataclass(frozen=True, eq=False)
class Pair:
    """Pixels (B, 3, T, H, W) and what the tokenizer made of them, without gradient."""

    real: Tensor
    fake: Tensor


class NoAdversary:
    """Train without a discriminator."""

    def judge(self, fake: Tensor, step: int, other_loss: Tensor, last_layer: Tensor) -> GeneratorTerms | None:
        return None

    def train_step(
        self, pairs: Sequence[Pair], step: int, factor: float, autocast: Autocast, meter: Meter
    ) -> Taken | Skipped:
        return Taken()

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        return


class Adversary:
    """A discriminator, its loss and its optimizer.

    It is replicated however the tokenizer is shared, and never compiled: the R1 penalty differentiates twice, which
    neither FSDP2's hooks nor `torch.compile` go along with, and it is small beside the tokenizer.
    """

    def __init__(
        self, settings: AdversarialSettings, optimizer: AdamWSettings, clip: float | None, accelerator: Accelerator
    ) -> None:
        self.loss = AdversarialLoss(settings)
        self.clip = clip
        self.parallel = Replicated(accelerator)
        self.accelerator = accelerator
        self.network = build_discriminator(settings.discriminator).to(accelerator.device)
        (self.optimizer,) = build_optimizers(optimizer, self.network)
        self.model = self.parallel.share(self.network.train())

    def judge(self, fake: Tensor, step: int, other_loss: Tensor, last_layer: Tensor) -> GeneratorTerms | None:
        """The tokenizer's terms, see `AdversarialLoss.generator`; None before the discriminator takes part."""
        if not self.loss.active(step):
            return None
        return self.loss.generator(self.network, fake, step, other_loss, last_layer)

    def train_step(
        self, pairs: Sequence[Pair], step: int, factor: float, autocast: Autocast, meter: Meter
    ) -> Taken | Skipped:
        """One step of the discriminator on the micro-batches of training step `step`."""
        if not self.loss.active(step):
            return Taken()
        set_learning_rate([self.optimizer], factor)
        for number, pair in enumerate(pairs):
            with exchange(self.parallel, self.model, last=number == len(pairs) - 1):
                with autocast():
                    terms = self.loss.discriminator(self.model, pair.real, pair.fake, step)
                self.accelerator.backward(terms.loss / len(pairs))
            meter.add("discriminator", terms.classification.item(), len(pair.real))
            meter.add("real_logit", terms.real_logit.item(), len(pair.real))
            meter.add("fake_logit", terms.fake_logit.item(), len(pair.real))
            if terms.penalty is not None:
                meter.add("r1", terms.penalty.item(), len(pair.real))
        norm = clip_gradients(self.network.parameters(), self.clip)
        finite = math.isfinite(norm)
        if finite:
            self.optimizer.step()
            meter.add("discriminator_gradient_norm", norm)
        self.optimizer.zero_grad(set_to_none=True)
        return Taken() if finite else Skipped(f"the norm of the discriminator's gradient is {norm}")

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimizer, by name, for a checkpoint."""
        weights = module_tensors(self.network, "discriminator.")
        return weights | optimizer_tensors(self.optimizer, "discriminator_optimizer.")

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Mirror of `tensors`."""
        restore_module(self.network, tensors, "discriminator.")
        restore_optimizer(self.optimizer, tensors, "discriminator_optimizer.")


def build_adversary(
    settings: AdversarialSettings | NoAdversarialSettings,
    optimizer: AdamWSettings,
    clip: float | None,
    accelerator: Accelerator,
) -> Adversary | NoAdversary:
    """The discriminator and its optimizer, or their absence."""
    match settings:
        case NoAdversarialSettings():
            return NoAdversary()
        case AdversarialSettings():
            return Adversary(settings, optimizer, clip, accelerator)
        case _:
            raise SettingsError(f"no adversarial training for {settings!r}")
