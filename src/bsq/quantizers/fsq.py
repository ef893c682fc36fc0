"""Finite scalar quantization. What enters: a latent (…, L). What leaves: each number rounded to one of a few levels.

arXiv:2309.15505: bound with tanh, round, no losses at all. Digit d has radix levels[d].
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from bsq.quantizers.base import (
    Quantized,
    Quantizer,
    QuantizerTerms,
    digit_dtype,
    float32_island,
    keep_first,
    pad_missing,
    require_finite,
    require_finite_if_free,
    straight_through,
)
from bsq.settings import Settings

# Stretches the tanh, so that the outermost levels are reached by finite latents (the paper's code).
STRETCH = 1 + 1e-3
# Beyond so many levels that would reach past the outermost level, and a fixed quarter of a step is added instead.
MOST_STRETCHED = 1000


class FsqSettings(Settings):
    """`levels` of each digit, first digit most significant; at least 3: the bound of two levels has hardly any
    gradient at zero (1/1000 of that of three). For bits there are BSQ and LFQ."""

    kind: Literal["fsq"] = "fsq"
    levels: tuple[Annotated[int, Field(ge=3, le=65536)], ...] = Field(default=(8, 8, 8, 6, 5), min_length=1)


class FSQ(Quantizer):
    """Finite scalar quantizer. Codes lie in [−1, 1]: (digit − ⌊levels/2⌋)/⌊levels/2⌋."""

    levels: Tensor

    def __init__(self, settings: FsqSettings) -> None:
        super().__init__()
        self.settings = settings
        self.radices = settings.levels
        self.latent_width = self.code_width = len(self.radices)
        self.register_buffer("levels", torch.tensor(self.radices, dtype=torch.int32), persistent=False)

    def forward(self, latent: Tensor, kept: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`. All terms are zero."""
        self.check_latent(latent, kept)
        with float32_island(latent):
            z = latent.float()
            bounded = self.bound(z)
            rounded = bounded.detach().round()
            quantized = keep_first(straight_through(rounded, bounded) / self.middle, kept)
            witness = z.detach().sum()
        require_finite_if_free(witness)
        digits = (rounded + self.middle).to(digit_dtype(self.radices))
        return Quantized(quantized.to(latent.dtype), digits, QuantizerTerms.build(latent.device))

    @torch.no_grad()
    def digits(self, latent: Tensor) -> Tensor:
        """See `Quantizer.digits`."""
        self.check_latent(latent)
        require_finite(latent)
        with float32_island(latent):
            return (self.bound(latent.float()).round() + self.middle).to(digit_dtype(self.radices))

    def lookup(self, digits: Tensor) -> Tensor:
        """See `Quantizer.lookup`."""
        self.check_digits(digits)
        middle = self.middle[: digits.shape[-1]]
        return pad_missing((digits - middle).to(torch.float32) / middle, self.code_width)

    @property
    def middle(self) -> Tensor:
        """⌊levels/2⌋ (L,), the digit whose code is zero."""
        return self.levels // 2

    def bound(self, latent: Tensor) -> Tensor:
        """Float32 latent (…, L) → numbers that round to −⌊levels/2⌋ … ⌈levels/2⌉ − 1. Even levels are shifted by half a
        step, and the latent with them, so that 0 stays 0 (Appendix A of the paper)."""
        steps = self.levels - 1
        half = torch.where(self.levels <= MOST_STRETCHED, steps * (STRETCH / 2), steps / 2 + 0.25)
        offset = 0.5 * (self.levels % 2 == 0)
        return torch.tanh(latent + torch.atanh(offset / half)) * half - offset
