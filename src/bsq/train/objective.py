"""What a tokenizer is trained for. What enters: pixels and reconstructions. What leaves: one loss, and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from bsq.losses.adversarial import AnyAdversarialSettings, NoAdversarialSettings
from bsq.losses.perceptual import NoPerceptualSettings, PerceptualSettings, perceptual_loss
from bsq.losses.reconstruction import ReconstructionSettings, reconstruction_loss
from bsq.settings import Settings
from bsq.tokenizer import Reconstruction
from bsq.train.rate import RateSettings
from bsq.train.schedule import RampSettings, ramped

KEPT = 2
"""Which stream of random numbers the kept digits are drawn from (`bsq.data.dataset` has 0 and 1)."""


class LossSettings(Settings):
    """Weights of the terms. `entropy` has its own ramp; `commitment`, `codebook` and `kl` act where the quantizer has
    such a term. `rate` counts the bits that codes take in a file (`bsq.train.rate`).
    """

    reconstruction: ReconstructionSettings = ReconstructionSettings()
    entropy: RampSettings = RampSettings()
    commitment: NonNegativeFloat = 0.0
    codebook: NonNegativeFloat = 1.0
    kl: NonNegativeFloat = 1e-6
    perceptual: PerceptualSettings = NoPerceptualSettings()
    adversarial: AnyAdversarialSettings = NoAdversarialSettings()
    rate: RateSettings | None = None


class NestedSettings(Settings):
    """Nested dropout: for each picture one of `choices` is drawn, and only so many digits reach the decoder."""

    choices: tuple[PositiveInt, ...] = Field(min_length=1)


def draw_kept(settings: NestedSettings, seed: int, positions: Tensor) -> Tensor:
    """int64 (B,): the digits kept at these positions of the run; a function of seed and position alone."""
    draws = [
        np.random.default_rng((seed, KEPT, position)).integers(len(settings.choices)) for position in positions.tolist()
    ]
    return torch.tensor([settings.choices[draw] for draw in draws])


@dataclass(frozen=True, eq=False)
class Objective:
    """`loss` is differentiated, `distance` its weighted reconstruction and perceptual terms alone; `terms` are float32
    scalars, detached and unweighted (but `reconstruction`, the weighted sum of its distances); `squared` (B,) errors.
    """

    loss: Tensor
    distance: Tensor
    terms: Mapping[str, Tensor]
    squared: Tensor


class TokenizerObjective(nn.Module):
    """The weighted sum of reconstruction, the quantizer's own terms, and the perceptual term.

    The adversarial term and the rate, which need networks that are trained too, are added by the step.
    """

    def __init__(self, settings: LossSettings) -> None:
        super().__init__()
        self.settings = settings
        self.perceptual = perceptual_loss(settings.perceptual).requires_grad_(False)

    def forward(self, again: Reconstruction, pixels: Tensor, seen: int) -> Objective:
        """`pixels` (B, 3, T, H, W) in [−1, 1] and their reconstruction, when `seen` pictures had been seen."""
        s = self.settings
        reconstruction = reconstruction_loss(again.pixels, pixels, s.reconstruction)
        terms = {"reconstruction": reconstruction.loss, **reconstruction.distances}
        distance = reconstruction.loss
        if self.perceptual.weight:
            terms["perceptual"] = self.perceptual(again.pixels.float(), pixels)
            distance = distance + self.perceptual.weight * terms["perceptual"]
        loss, quantizer = distance, again.quantized.terms
        weights = {
            "entropy": ramped(s.entropy, seen),
            "commitment": s.commitment,
            "codebook": s.codebook,
            "kl": s.kl,
        }
        for name, weight in weights.items():
            terms[name] = getattr(quantizer, name)
            if weight and terms[name].requires_grad:
                loss = loss + weight * terms[name]
        terms["sample_entropy"], terms["code_entropy"] = quantizer.sample_entropy, quantizer.code_entropy
        detached = {name: term.detach() for name, term in terms.items()}
        return Objective(loss, distance, detached, reconstruction.squared)
