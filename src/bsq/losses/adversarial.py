"""Adversarial loss. What enters: a discriminator, real pixels, reconstructions. What leaves: the terms of each step.

A training loop calls `AdversarialLoss.generator` in the step of the tokenizer and `AdversarialLoss.discriminator` in
the step of the discriminator, from the first step for which `active(step)` holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from bsq.errors import SettingsError
from bsq.losses.discriminators import DiscriminatorSettings, StyleGan2Settings
from bsq.quantizers.base import all_reduced_mean
from bsq.settings import Settings


class FixedWeightSettings(Settings):
    """The same weight at every step."""

    kind: Literal["fixed"] = "fixed"
    value: NonNegativeFloat = 0.1


class AdaptiveWeightSettings(Settings):
    """VQGAN's weight: the gradients of both losses in the decoder's last layer get equal norms, times `scale`."""

    kind: Literal["adaptive"] = "adaptive"
    scale: NonNegativeFloat = 0.1
    maximum: PositiveFloat = 1e4


class R1Settings(Settings):
    """Gradient penalty on real pixels (arXiv:1801.04406), taken every few discriminator steps (arXiv:1912.04958)."""

    gamma: PositiveFloat = 10.0
    every: PositiveInt = 16


class NoAdversarialSettings(Settings):
    """Train without a discriminator."""

    kind: Literal["none"] = "none"


class AdversarialSettings(Settings):
    """The paper's choice by default; hinge loss, adaptive weight, a patch discriminator and no R1 give VQGAN's."""

    kind: Literal["adversarial"] = "adversarial"
    loss: Literal["non_saturating", "hinge"] = "non_saturating"
    weight: Annotated[FixedWeightSettings | AdaptiveWeightSettings, Field(discriminator="kind")] = FixedWeightSettings()
    r1: R1Settings | None = R1Settings()
    start_step: NonNegativeInt = 0
    discriminator: DiscriminatorSettings = StyleGan2Settings()


AnyAdversarialSettings = Annotated[NoAdversarialSettings | AdversarialSettings, Field(discriminator="kind")]


@dataclass(frozen=True, eq=False)
class GeneratorTerms:
    """Scalars of the tokenizer's step."""

    loss: Tensor  # unweighted, with gradient to the reconstruction
    weight: Tensor  # without gradient; add weight · loss to the objective


@dataclass(frozen=True, eq=False)
class DiscriminatorTerms:
    """Scalars of the discriminator's step; `loss` is the one to differentiate, the others are for the log."""

    loss: Tensor  # classification + penalty · every on penalty steps
    classification: Tensor
    penalty: Tensor | None  # (γ/2)·‖∇D‖², None on steps without it
    real_logit: Tensor
    fake_logit: Tensor


class AdversarialLoss:
    """Non-saturating or hinge loss with lazy R1. Holds no parameters: the discriminator is handed in."""

    def __init__(self, settings: AdversarialSettings) -> None:
        self.settings = settings

    def active(self, step: int) -> bool:
        """Whether the discriminator takes part in training step `step` (counted from 0)."""
        return step >= self.settings.start_step

    def generator(
        self, discriminator: nn.Module, fake: Tensor, step: int, other_loss: Tensor, last_layer: Tensor
    ) -> GeneratorTerms:
        """Terms of the tokenizer's step; zero before `start_step`.

        `discriminator` is the plain module, not its data-parallel wrapper: it gets no gradients here. `fake` are
        reconstructed pixels; `other_loss` the weighted sum of the other reconstruction terms and `last_layer` the
        decoder's last weight, both used by the adaptive weight only.
        """
        if not self.active(step):
            return GeneratorTerms(fake.new_zeros((), dtype=torch.float32), fake.new_zeros((), dtype=torch.float32))
        with frozen(discriminator):
            loss = self._generator_loss(discriminator(fake).float())
        match self.settings.weight:
            case FixedWeightSettings(value=value):
                weight = torch.full((), value, device=fake.device)
            case AdaptiveWeightSettings() as adaptive:
                weight = adaptive_weight(other_loss, loss, last_layer, adaptive)
            case other:
                raise SettingsError(f"no adversarial weight for {other!r}")
        return GeneratorTerms(loss, weight)

    def discriminator(self, discriminator: nn.Module, real: Tensor, fake: Tensor, step: int) -> DiscriminatorTerms:
        """Terms of the discriminator's step; `fake` is detached here.

        On every `r1.every`-th step, counted from `start_step`, the loss contains the penalty. The penalty is
        differentiated twice: float32 and bfloat16 autocast work, `torch.compile` and float16 loss scaling do not.
        """
        r1 = self.settings.r1
        penalized = r1 is not None and (step - self.settings.start_step) % r1.every == 0
        real = real.detach().requires_grad_(penalized)
        real_logits, fake_logits = discriminator(real).float(), discriminator(fake.detach()).float()
        classification = self._discriminator_loss(real_logits, fake_logits)
        loss, penalty = classification, None
        if r1 is not None and penalized:
            penalty = r1.gamma / 2 * squared_gradient(real_logits, real)
            loss = loss + penalty * r1.every
        return DiscriminatorTerms(loss, classification, penalty, real_logits.mean(), fake_logits.mean())

    def _generator_loss(self, fake: Tensor) -> Tensor:
        match self.settings.loss:
            case "non_saturating":
                return F.softplus(-fake).mean()
            case "hinge":
                return -fake.mean()
            case other:
                raise SettingsError(f"no adversarial loss {other!r}")

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        match self.settings.loss:
            case "non_saturating":
                return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2
            case "hinge":
                return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
            case other:
                raise SettingsError(f"no adversarial loss {other!r}")


def squared_gradient(logits: Tensor, pixels: Tensor) -> Tensor:
    """Mean over all that is judged of ‖∇ Σ logits‖² with respect to pixels (B, …): over pictures, whole clips, or the
    frames of clips that are judged one by one (`logits` then has B·T rows). Itself differentiable; at least float32.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pixels, create_graph=True)
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    return gradient.square().sum() / len(logits)


def adaptive_weight(
    other_loss: Tensor, adversarial_loss: Tensor, last_layer: Tensor, settings: AdaptiveWeightSettings
) -> Tensor:
    """scale · min(‖∇ other_loss‖ / (‖∇ adversarial_loss‖ + 1e-4), maximum), ∇ by `last_layer`.

    A float32 scalar without gradient. Eq. 7, arXiv:2012.09841. Several processes average both gradients first, so
    that all of them take the weight of the batch as a whole.
    """
    (other,) = torch.autograd.grad(other_loss, last_layer, retain_graph=True)
    (adversarial,) = torch.autograd.grad(adversarial_loss, last_layer, retain_graph=True)
    other, adversarial = all_reduced_mean(other.float()), all_reduced_mean(adversarial.float())
    ratio = other.norm() / (adversarial.norm() + 1e-4)
    return settings.scale * ratio.clamp(max=settings.maximum).detach()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Within, the network's parameters take no gradients; gradients still flow through it to its input."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
