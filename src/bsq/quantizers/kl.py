"""The continuous latent of a variational autoencoder, for comparison. What enters: mean and log-variance (…, 2C). What
leaves: a draw (…, C). It makes no codes.

arXiv:1312.6114 as latent diffusion uses it (arXiv:2112.10752).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from bsq.errors import SettingsError
from bsq.quantizers.base import (
    Quantized,
    Quantizer,
    QuantizerTerms,
    float32_island,
    require_finite,
    require_finite_if_free,
)
from bsq.settings import Settings

# Latent diffusion's bounds of the log-variance.
LOG_VARIANCE = (-30.0, 20.0)


class KlSettings(Settings):
    """`width` C of the latent."""

    kind: Literal["kl"] = "kl"
    width: int = Field(default=4, ge=1)


class KL(Quantizer):
    """Diagonal Gaussian latent: draws in training mode, gives the mean in evaluation."""

    def __init__(self, settings: KlSettings) -> None:
        super().__init__()
        self.settings = settings
        self.latent_width = 2 * settings.width
        self.code_width = settings.width
        self.radices = ()

    def forward(self, latent: Tensor, kept: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`; `digits` is None. Term: kl, KL(N(mean, variance) ‖ N(0, 1)) in nats, summed over
        the C channels, mean over tokens."""
        self.check_latent(latent, kept)
        with float32_island(latent):
            mean, log_variance = latent.float().chunk(2, dim=-1)
            log_variance = log_variance.clamp(*LOG_VARIANCE)
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
            quantized = mean
            if self.training:
                quantized = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            witness = latent.detach().float().sum()
        require_finite_if_free(witness)
        return Quantized(quantized.to(latent.dtype), None, QuantizerTerms.build(latent.device, kl=kl))

    @torch.no_grad()
    def mean(self, latent: Tensor) -> Tensor:
        """Latent (…, 2C) → the mean (…, C), float32: the code when nothing is to be drawn. Raises NumericsError."""
        self.check_latent(latent)
        require_finite(latent)
        return latent[..., : self.code_width].float()

    def digits(self, latent: Tensor) -> Tensor:
        """Raises SettingsError: there are none."""
        raise SettingsError(
            "a kl quantizer has a continuous latent and makes no codes; choose bsq, lfq, fsq, vq or gumbel"
        )

    def lookup(self, digits: Tensor) -> Tensor:
        """Raises SettingsError: there are none."""
        raise SettingsError(
            "a kl quantizer has a continuous latent and takes no codes; choose bsq, lfq, fsq, vq or gumbel"
        )
