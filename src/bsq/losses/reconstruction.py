"""Reconstruction loss. What enters: reconstructed and original pixels. What leaves: float32 distances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from bsq.losses.structure import structural_distance
from bsq.settings import Settings


class ReconstructionSettings(Settings):
    """Weights of the mean absolute error, the mean squared error and Charbonnier's √(x² + ε²) − ε, all of pixels in
    [−1, 1], of 1 − MS-SSIM (`bsq.losses.structure`), and of the mean squared error of colour alone. The paper's poster
    says MSE, its released code L1, each with weight 1.
    """

    l1: NonNegativeFloat = 1.0
    mse: NonNegativeFloat = 0.0
    charbonnier: NonNegativeFloat = 0.0
    charbonnier_epsilon: PositiveFloat = 1e-3
    ms_ssim: NonNegativeFloat = 0.0
    chroma: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _has_a_weight(self) -> Self:
        if not self.l1 + self.mse + self.charbonnier + self.ms_ssim + self.chroma:
            raise ValueError("one of l1, mse, charbonnier, ms_ssim and chroma must have a weight")
        return self


@dataclass(frozen=True, eq=False)
class ReconstructionTerms:
    """`loss` float32 scalar, the weighted sum of `distances`, which are those with a weight, each in its own unit;
    `squared` (B,) the mean squared error of each sample, detached, for PSNR.
    """

    loss: Tensor
    distances: Mapping[str, Tensor]
    squared: Tensor


def reconstruction_loss(pixels: Tensor, reference: Tensor, settings: ReconstructionSettings) -> ReconstructionTerms:
    """Weighted mean distance of two float (B, 3, T, H, W) in [−1, 1]; computed in float32."""
    error = pixels.float() - reference.float()
    loss, distances = error.new_zeros(()), {}
    if settings.l1:
        distances["l1"] = error.abs().mean()
        loss = loss + settings.l1 * distances["l1"]
    if settings.mse:
        distances["mse"] = error.square().mean()
        loss = loss + settings.mse * distances["mse"]
    if settings.charbonnier:
        epsilon = settings.charbonnier_epsilon
        distances["charbonnier"] = (torch.sqrt(error.square() + epsilon**2) - epsilon).mean()
        loss = loss + settings.charbonnier * distances["charbonnier"]
    if settings.ms_ssim:
        distances["ms_ssim"] = structural_distance(pixels, reference)
        loss = loss + settings.ms_ssim * distances["ms_ssim"]
    if settings.chroma:
        distances["chroma"] = colour_differences(error).square().mean()
        loss = loss + settings.chroma * distances["chroma"]
    return ReconstructionTerms(loss, distances, error.detach().square().flatten(1).mean(1))


def colour_differences(pixels: Tensor) -> Tensor:
    """Cb and Cr, as JPEG has them (ITU-R BT.601), of red, green and blue (B, 3, …) in [−1, 1]: (B, 2, …) in [−1, 1]."""
    red, green, blue = pixels.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([(blue - luma) / 1.772, (red - luma) / 1.402], 1)
