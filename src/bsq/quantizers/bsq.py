"""Binary spherical quantization. What enters: a latent (…, L). What leaves: corners ±1/√L of a cube in the unit sphere.

arXiv:2406.07548: u = v/‖v‖, û = sign(u)/√L. The codebook of 2^L corners is implicit and has no parameters.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor
from torch.autograd.function import once_differentiable

from bsq.errors import NumericsError
from bsq.quantizers.base import (
    ADVICE,
    Quantized,
    Quantizer,
    QuantizerTerms,
    float32_island,
    keep_first,
    pad_missing,
    require_finite_if_free,
    straight_through,
)
from bsq.quantizers.entropy import check_group, entropy_objective
from bsq.settings import Settings


class BsqSettings(Settings):
    """`bits` L per code; in the entropy objective `group` bits share a joint entropy (1: factorised),
    `inverse_temperature` is that of the soft bits, `sample_weight` weighs the entropy of each sample's code and `gamma`
    that of the average code."""

    training_only: ClassVar[frozenset[str]] = frozenset({"group", "inverse_temperature", "sample_weight", "gamma"})

    kind: Literal["bsq"] = "bsq"
    bits: int = Field(default=18, ge=1, le=1024)
    group: int = Field(default=1, ge=1, le=16)
    inverse_temperature: float = Field(default=1.0, gt=0)
    sample_weight: float = Field(default=1.0, ge=0)
    gamma: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _group_divides_bits(self) -> Self:
        check_group(self.group, self.bits)
        return self


class BSQ(Quantizer):
    """Binary spherical quantizer: digit d is 1 iff u_d > 0, so 0 counts as −1."""

    def __init__(self, settings: BsqSettings) -> None:
        super().__init__()
        self.settings = settings
        self.latent_width = self.code_width = settings.bits
        self.radices = (2,) * settings.bits
        self.corner = 1 / math.sqrt(settings.bits)

    def forward(self, latent: Tensor, kept: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`. Terms: entropy, commitment E‖û − u‖². The gradient of û to u is I/√L."""
        self.check_latent(latent, kept)
        with float32_island(latent):
            unit = to_sphere(latent.float())
            digits = (unit > 0).view(torch.uint8)
            corner = self.lookup(digits)
            terms = self.terms(unit, corner)
            quantized = keep_first(straight_through(corner, unit, slope=self.corner), kept)
        require_finite_if_free(terms.commitment.detach())
        return Quantized(quantized.to(latent.dtype), digits, terms)

    def terms(self, unit: Tensor, corner: Tensor) -> QuantizerTerms:
        """Loss terms of float32 points on the sphere (…, L) and their corners.

        p(bit = 1) = σ(4 · inverse_temperature · u_d/√L) and the objective is divided by the inverse temperature, as in
        the released code (Eq. 7 of the paper with τ = 2 · inverse_temperature).
        """
        s = self.settings
        entropy = entropy_objective(
            unit, 4 * s.inverse_temperature * self.corner, s.gamma, s.group, 1.0, s.sample_weight
        )
        return QuantizerTerms.build(
            unit.device,
            entropy=entropy.objective / s.inverse_temperature,
            commitment=self.code_width * F.mse_loss(unit, corner),
            sample_entropy=entropy.sample_entropy,
            code_entropy=entropy.code_entropy,
        )

    @torch.no_grad()
    def digits(self, latent: Tensor) -> Tensor:
        """See `Quantizer.digits`. Raises NumericsError where ‖v‖ is zero, infinite or NaN in float32."""
        self.check_latent(latent)
        with float32_island(latent):
            unit = to_sphere(latent.float())
        if bool(unit[..., 0].isnan().any()):
            raise NumericsError(
                f"a latent of {tuple(latent.shape)} is zero, infinite or NaN: it has no direction, so no bits; {ADVICE}"
            )
        return (unit > 0).view(torch.uint8)

    def lookup(self, digits: Tensor) -> Tensor:
        """See `Quantizer.lookup`: ±1/√L per digit."""
        self.check_digits(digits)
        signs = digits.to(torch.float32).mul_(2 * self.corner).sub_(self.corner)
        return pad_missing(signs, self.code_width)


def to_sphere(latent: Tensor) -> Tensor:
    """v (…, L) → v/‖v‖₂; all NaN where the norm is zero, infinite or NaN. Differentiable once."""
    return _ToSphere.apply(latent)


class _ToSphere(torch.autograd.Function):
    """By hand because generic autograd takes three times as long, as long as all the rest of this quantizer."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(latent, dim=-1, keepdim=True)
        # Infinity would divide to zeros and all bits 0 without a word; 0/0 is NaN by itself.
        norm = norm.where(norm.isfinite(), torch.nan)
        unit = latent / norm
        ctx.save_for_backward(unit, norm)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        unit, norm = ctx.saved_tensors
        radial = torch.linalg.vecdot(upstream, unit).unsqueeze(-1)
        return torch.addcmul(upstream, unit, radial, value=-1).div_(norm)
