"""Gumbel-softmax quantization. What enters: K logits (…, K). What leaves: a drawn code (…, D), one digit of radix K.

The discrete VAE of DALL-E, arXiv:2102.12092 (relaxation: arXiv:1611.01144).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from bsq.quantizers.base import (
    Quantized,
    Quantizer,
    QuantizerTerms,
    digit_dtype,
    float32_island,
    require_finite,
    require_finite_if_free,
)
from bsq.quantizers.entropy import mean_over_processes
from bsq.settings import Settings


class GumbelSettings(Settings):
    """`size` K and `width` D of the codebook; `temperature` of the draw in training; `draw` a mixture of codes ("soft",
    DALL-E's) or one code with the mixture's gradient ("hard")."""

    training_only: ClassVar[frozenset[str]] = frozenset({"temperature", "draw"})

    kind: Literal["gumbel"] = "gumbel"
    size: int = Field(default=8192, ge=2, le=2**20)
    width: int = Field(default=128, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    draw: Literal["soft", "hard"] = "soft"


class Gumbel(Quantizer):
    """Gumbel-softmax quantizer. `temperature` may be set between steps (DALL-E lowers it from 1 to 1/16)."""

    def __init__(self, settings: GumbelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.latent_width = settings.size
        self.code_width = settings.width
        self.radices = (settings.size,)
        self.temperature = settings.temperature
        self.codebook = nn.Parameter(torch.randn(settings.size, settings.width) / settings.width**0.5)

    def forward(self, latent: Tensor, kept: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`. Term: kl, KL(softmax(logits) ‖ uniform) in nats, mean over tokens.

        In training mode a code is drawn, `digits` being its likeliest; in evaluation the likeliest code is taken.
        """
        self.check_latent(latent, kept)
        with float32_island(latent):
            logits = latent.float()
            weights = self.draw(logits)
            quantized = weights @ self.codebook.float()
            terms = self.terms(logits)
        require_finite_if_free(terms.kl.detach())
        digits = weights.detach().argmax(-1, keepdim=True).to(digit_dtype(self.radices))
        return Quantized(quantized.to(latent.dtype), digits, terms)

    def draw(self, logits: Tensor) -> Tensor:
        """Float32 logits (…, K) → weights of the codes (…, K), which add up to one."""
        if not self.training:
            return F.one_hot(logits.argmax(-1), self.settings.size).to(logits.dtype)
        match self.settings.draw:
            case "soft":
                return F.gumbel_softmax(logits, self.temperature, hard=False)
            case "hard":
                return F.gumbel_softmax(logits, self.temperature, hard=True)

    def terms(self, logits: Tensor) -> QuantizerTerms:
        """Loss terms of float32 logits (…, K)."""
        log_probability = logits.log_softmax(-1).reshape(-1, self.settings.size)
        probability = log_probability.exp()
        sample_entropy = -(probability * log_probability).sum(-1).mean()
        average = mean_over_processes(probability.mean(0)).detach()
        return QuantizerTerms.build(
            logits.device,
            kl=math.log(self.settings.size) - sample_entropy,
            sample_entropy=sample_entropy.detach(),
            code_entropy=torch.special.entr(average).sum(),
        )

    @torch.no_grad()
    def digits(self, latent: Tensor) -> Tensor:
        """See `Quantizer.digits`; the likeliest code, the lowest of equals."""
        self.check_latent(latent)
        require_finite(latent)
        return latent.argmax(-1, keepdim=True).to(digit_dtype(self.radices))

    def lookup(self, digits: Tensor) -> Tensor:
        """See `Quantizer.lookup`."""
        self.check_digits(digits)
        return F.embedding(digits.squeeze(-1).long(), self.codebook.float())
