"""Perceptual loss. What enters: reconstructed and original pixels. What leaves: their mean LPIPS, unweighted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from bsq.errors import SettingsError
from bsq.frozen import LpipsNetwork, load_lpips
from bsq.settings import Settings


class NoPerceptualSettings(Settings):
    """Train without a perceptual loss."""

    kind: Literal["none"] = "none"


class NoPerceptualLoss(nn.Module):
    """Always zero."""

    weight = 0.0

    def forward(self, pixels: Tensor, reference: Tensor) -> Tensor:
        return torch.zeros((), device=pixels.device)


class LpipsSettings(Settings):
    """LPIPS v0.1. The paper uses VGG16 at weight 0.1; SqueezeNet is the one that comes with the package."""

    kind: Literal["lpips"] = "lpips"
    network: LpipsNetwork = "squeeze"
    weight: NonNegativeFloat = 0.1
    weights_file: Path | None = None  # None: the published weights, from the package, the cache or a download


class LpipsLoss(nn.Module):
    """Mean LPIPS of a batch."""

    def __init__(self, settings: LpipsSettings) -> None:
        """Raises CheckpointError when the network's weights cannot be found."""
        super().__init__()
        self.weight = settings.weight
        self.lpips = load_lpips(settings.network, settings.weights_file)

    def forward(self, pixels: Tensor, reference: Tensor) -> Tensor:
        """Two float (B, 3, H, W) or (B, 3, T, H, W) in [−1, 1] → float32 scalar, unweighted."""
        return self.lpips(pixels, reference).mean()


PerceptualSettings = Annotated[NoPerceptualSettings | LpipsSettings, Field(discriminator="kind")]
PerceptualLoss = NoPerceptualLoss | LpipsLoss


def perceptual_loss(settings: NoPerceptualSettings | LpipsSettings) -> PerceptualLoss:
    """The loss that `settings` describe; its `weight` is for the caller to apply."""
    match settings:
        case NoPerceptualSettings():
            return NoPerceptualLoss()
        case LpipsSettings():
            return LpipsLoss(settings)
        case _:
            raise SettingsError(f"no perceptual loss for {settings!r}")
