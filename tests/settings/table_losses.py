"""Losses and discriminators: terms, their weights and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from entries import Row, rows

from bsq.errors import BsqError
from bsq.losses.adversarial import (
    AdaptiveWeightSettings,
    AdversarialLoss,
    AdversarialSettings,
    FixedWeightSettings,
    R1Settings,
)
from bsq.losses.discriminators import ClipStyleGan2Settings, PatchSettings, StyleGan2Settings, build_discriminator
from bsq.losses.perceptual import LpipsSettings
from bsq.losses.reconstruction import ReconstructionSettings, reconstruction_loss
from bsq.quantizers.base import Quantized, QuantizerTerms
from bsq.tokenizer import Reconstruction
from bsq.train.objective import LossSettings, TokenizerObjective

PATCH = {"kind": "patch", "width": 4, "layers": 2}


def judge(settings: AdversarialSettings, folder: Path) -> Any:
    """Both sides of training steps 0, 1 and 3."""
    torch.manual_seed(0)
    loss, network = AdversarialLoss(settings), build_discriminator(settings.discriminator)
    real, last_layer = torch.rand(2, 3, 1, 16, 16) * 2 - 1, torch.ones(3, 1, 1, 1, requires_grad=True)
    fake = (torch.rand(2, 3, 1, 16, 16) * 2 - 1) * last_layer
    seen: list[Any] = []
    for step in (0, 1, 3):
        seen += [loss.active(step), loss.generator(network, fake, step, fake.abs().mean(), last_layer)]
        seen += [loss.discriminator(network, real, fake, step)]
    return seen


def weigh(settings: Any, folder: Path) -> Any:
    return judge(AdversarialSettings(weight=settings, discriminator=PATCH, r1=None), folder)


def penalize(settings: R1Settings, folder: Path) -> Any:
    return judge(AdversarialSettings(r1=settings, discriminator=PATCH), folder)


def tell_apart(settings: Any, folder: Path) -> Any:
    """Logits of four clips of sides 8 and 32, or why there are none."""
    torch.manual_seed(0)
    network = build_discriminator(settings)
    seen: list[Any] = []
    for frames, side in ((2, 8), (2, 32), (1, 8)):
        try:
            seen.append(network(torch.rand(4, 3, frames, side, side) * 2 - 1))
        except BsqError as error:
            seen.append(str(error))
    return seen


def measure(settings: ReconstructionSettings, folder: Path) -> Any:
    one, other = torch.rand(2, 2, 3, 1, 97, 97, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return reconstruction_loss(one, other, settings)


def perceive(settings: LpipsSettings, folder: Path) -> Any:
    """The objective of two pictures; networks whose weights are elsewhere say so."""
    one, other = torch.rand(2, 1, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    terms = QuantizerTerms.build(one.device)
    again = Reconstruction(one, Quantized(one, None, terms))
    return TokenizerObjective(LossSettings(perceptual=settings))(again, other, 0)


GAN = {"discriminator": PATCH, "r1": {"every": 2}}
STYLE = {"resolution": 8, "channel_base": 64, "channel_max": 8, "minibatch_group": 4}
ADAPTIVE = {"kind": "adaptive", "scale": 0.5}

TABLE: list[Row] = [
    *rows(FixedWeightSettings, weigh, {}, value=0.3),
    *rows(AdaptiveWeightSettings, weigh, {}, scale=0.3, maximum=1e-3),
    *rows(R1Settings, penalize, {"every": 2}, gamma=5.0, every=3),
    *rows(AdversarialSettings, judge, GAN, loss="hinge", weight=ADAPTIVE, r1=None, start_step=1),
    *rows(AdversarialSettings, judge, GAN, discriminator={**PATCH, "width": 8}),
    *rows(StyleGan2Settings, tell_apart, STYLE, resolution=32, channel_base=32, channel_max=4, minibatch_group=2),
    *rows(
        ClipStyleGan2Settings,
        tell_apart,
        {**STYLE, "frames": 2},
        resolution=32,
        channel_base=32,
        channel_max=4,
        minibatch_group=2,
        frames=1,
    ),
    *rows(PatchSettings, tell_apart, {"width": 4, "layers": 2}, width=8, layers=1, norm="none"),
    *rows(ReconstructionSettings, measure, {}, l1=0.5, mse=1.0, charbonnier=1.0, ms_ssim=1.0, chroma=1.0),
    *rows(ReconstructionSettings, measure, {"charbonnier": 1.0}, charbonnier_epsilon=0.1),
    *rows(LpipsSettings, perceive, {}, network="alex", weight=0.5, weights_file="elsewhere.safetensors"),
]
