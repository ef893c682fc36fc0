"""Lookup-free quantization. What enters: a latent (…, L), any length. What leaves: its signs, ±1 per digit.

MAGVIT-v2, arXiv:2310.05737: BSQ without the sphere; the entropy objective alone keeps latents and codes in use.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from bsq.quantizers.base import (
    Quantized,
    Quantizer,
    QuantizerTerms,
    float32_island,
    keep_first,
    pad_missing,
    require_finite,
    require_finite_if_free,
    straight_through,
)
from bsq.quantizers.entropy import check_group, entropy_objective
from bsq.settings import Settings


class LfqSettings(Settings):
    """As `BsqSettings`; the default temperature is that of public LFQ code."""

    training_only: ClassVar[frozenset[str]] = frozenset({"group", "inverse_temperature", "sample_weight", "gamma"})

    kind: Literal["lfq"] = "lfq"
    bits: int = Field(default=18, ge=1, le=1024)
    group: int = Field(default=1, ge=1, le=16)
    inverse_temperature: float = Field(default=100.0, gt=0)
    sample_weight: float = Field(default=1.0, ge=0)
    gamma: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _group_divides_bits(self) -> Self:
        check_group(self.group, self.bits)
        return self


class LFQ(Quantizer):
    """Lookup-free quantizer: digit d is 1 iff z_d > 0, its code +1 or −1."""

    def __init__(self, settings: LfqSettings) -> None:
        super().__init__()
        self.settings = settings
        self.latent_width = self.code_width = settings.bits
        self.radices = (2,) * settings.bits

    def forward(self, latent: Tensor, kept: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`. Terms: entropy with p(bit = 1) = σ(4 · inverse_temperature · z_d), not divided by
        the inverse temperature; commitment, the mean of (sign(z_d) − z_d)² over all elements."""
        self.check_latent(latent, kept)
        s = self.settings
        with float32_island(latent):
            z = latent.float()
            digits = (z > 0).to(torch.uint8)
            signs = self.lookup(digits)
            entropy = entropy_objective(z, 4 * s.inverse_temperature, s.gamma, s.group, sample_weight=s.sample_weight)
            terms = QuantizerTerms.build(
                z.device,
                entropy=entropy.objective,
                commitment=F.mse_loss(z, signs),
                sample_entropy=entropy.sample_entropy,
                code_entropy=entropy.code_entropy,
            )
            quantized = keep_first(straight_through(signs, z), kept)
        require_finite_if_free(terms.commitment.detach())
        return Quantized(quantized.to(latent.dtype), digits, terms)

    @torch.no_grad()
    def digits(self, latent: Tensor) -> Tensor:
        """See `Quantizer.digits`."""
        self.check_latent(latent)
        require_finite(latent)
        return (latent > 0).to(torch.uint8)

    def lookup(self, digits: Tensor) -> Tensor:
        """See `Quantizer.lookup`: ±1 per digit."""
        self.check_digits(digits)
        return pad_missing(digits.to(torch.float32).mul_(2).sub_(1), self.code_width)
