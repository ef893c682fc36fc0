"""What all quantizers share. What enters: a latent (…, C). What leaves: a code for the decoder, its digits, loss terms.

A quantizer works in float32 whatever autocast says (`float32_island`); its output and the gradient to the latent come
back in the latent's own dtype. Losses stay float32.

Numbers that are not numbers: `digits` looks at every latent and raises NumericsError. `forward` does so on the CPU,
where looking is free; on an accelerator it would stall the queue in every step, and among several processes an error in
one would leave the others waiting for it. There a bad token comes out of `forward` as NaN in `quantized` and in the
terms, and the training loop, which looks at the gradient's norm anyway, skips the step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bsq.errors import NumericsError, SettingsError, ShapeError

ADVICE = "check the pixels that went in, the learning rate, and the checkpoint"


@dataclass(frozen=True)
class QuantizerTerms:
    """Float32 scalars of one batch, unweighted; zero where a quantizer has no such term.

    The first four are losses with gradients; the two entropies are detached, in nats per code, for the log.
    """

    entropy: Tensor
    commitment: Tensor
    codebook: Tensor
    kl: Tensor
    sample_entropy: Tensor
    code_entropy: Tensor

    @staticmethod
    def build(device: torch.device, **terms: Tensor) -> QuantizerTerms:
        """The terms given by name, zeros on `device` for the rest."""
        zero = torch.zeros((), device=device)
        return QuantizerTerms(**{name: terms.pop(name, zero) for name in QuantizerTerms.__dataclass_fields__}, **terms)


@dataclass(frozen=True)
class Quantized:
    """`quantized` (…, code_width) in the latent's dtype; `digits` (…, L) integers, None for a continuous latent."""

    quantized: Tensor
    digits: Tensor | None
    terms: QuantizerTerms


class Quantizer(nn.Module, ABC):
    """Latent (…, latent_width) → code (…, code_width) with digits (…, L) below `radices`."""

    latent_width: int
    code_width: int
    radices: tuple[int, ...]

    @property
    def can_nest(self) -> bool:
        """Whether the first k of several digits mean something on their own, so that `kept` may be given."""
        return len(self.radices) > 1

    @abstractmethod
    def forward(self, latent: Tensor, kept: Tensor | None = None) -> Quantized:
        """Training pass: straight-through code, digits, loss terms.

        latent: float (B, …, latent_width). kept: integer (B,) in 0 … L; of sample b only the first kept[b] digits enter
        `quantized`, the rest contribute zero; `digits` and the terms still cover all of them. Raises ShapeError for
        other shapes, SettingsError for `kept` outside 0 … L (where looking is free) or where the quantizer cannot nest,
        NumericsError as the module says.
        """

    @abstractmethod
    def digits(self, latent: Tensor) -> Tensor:
        """Latent (…, latent_width) → digits (…, L), uint8 if every radix ≤ 256, else int32.

        Raises NumericsError if a latent holds NaN or infinity (for BSQ also: has no direction).
        """

    @abstractmethod
    def lookup(self, digits: Tensor) -> Tensor:
        """Digits (…, k), k ≤ L, → code (…, code_width), float32; the L − k missing digits contribute zero."""

    def check_latent(self, latent: Tensor, kept: Tensor | None = None) -> None:
        """The one check at the door of `forward` and `digits`."""
        if latent.ndim < 2 or latent.shape[-1] != self.latent_width or not latent.is_floating_point():
            got = f"{latent.dtype} {tuple(latent.shape)}"
            raise ShapeError(f"{type(self).__name__} takes a float latent (B, …, {self.latent_width}), got {got}")
        if kept is None:
            return
        if not self.can_nest:
            raise SettingsError(
                f"{type(self).__name__} has no digits that could be left out; train it without nested dropout"
            )
        if kept.shape != latent.shape[:1] or kept.is_floating_point():
            got = f"{kept.dtype} {tuple(kept.shape)}"
            raise ShapeError(f"kept must be integers (B={latent.shape[0]},), one number per sample, got {got}")
        if kept.device.type == "cpu" and len(kept):  # on an accelerator looking would stall the queue
            low, high = (int(bound) for bound in kept.aminmax())
            if low < 0 or high > len(self.radices):
                raise SettingsError(
                    f"kept must lie in 0 … {len(self.radices)}, the digits of a code, got {low} … {high}"
                )

    def check_digits(self, digits: Tensor) -> None:
        """The one check at the door of `lookup`; ranges are checked where `Codes` are built."""
        if digits.is_floating_point() or digits.ndim < 1 or not 1 <= digits.shape[-1] <= max(1, len(self.radices)):
            got = f"{digits.dtype} {tuple(digits.shape)}"
            raise ShapeError(f"{type(self).__name__} looks up integer digits (…, 1 to {len(self.radices)}), got {got}")


def float32_island(tensor: Tensor) -> AbstractContextManager:
    """A region where autocast does not turn float32 into something shorter."""
    return torch.autocast(tensor.device.type, enabled=False)


def digit_dtype(radices: tuple[int, ...]) -> torch.dtype:
    """The dtype `Codes` keeps digits in."""
    return torch.uint8 if max(radices) <= 256 else torch.int32


def straight_through(hard: Tensor, soft: Tensor, slope: float = 1.0) -> Tensor:
    """`hard` forward, exactly; `slope` times the identity backward to `soft` (same shape). NaN in `soft` shows."""
    return _StraightThrough.apply(hard, soft, slope)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hard: Tensor, soft: Tensor, slope: float) -> Tensor:
        ctx.slope = slope
        return torch.add(hard, soft, alpha=0)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, Tensor, None]:
        return None, upstream * ctx.slope, None


def keep_first(code: Tensor, kept: Tensor | None) -> Tensor:
    """Code (B, …, L) with all but the first kept[b] entries of sample b set to zero (nested dropout)."""
    if kept is None:
        return code
    position = torch.arange(code.shape[-1], device=code.device)
    mask = position < kept.to(code.device).view(-1, *[1] * (code.ndim - 1))
    return code * mask


def pad_missing(code: Tensor, width: int) -> Tensor:
    """Code (…, k) → (…, width) with zeros behind."""
    return nn.functional.pad(code, (0, width - code.shape[-1]))


def require_finite(latent: Tensor) -> None:
    """Raise NumericsError unless all of `latent` is finite; waits for the device."""
    if not bool(torch.isfinite(latent).all()):
        raise NumericsError(f"the latent {tuple(latent.shape)} holds NaN or infinity, so it has no code; {ADVICE}")


def require_finite_if_free(witness: Tensor) -> None:
    """The same in training, on a scalar that any bad latent turns into NaN, and only where looking is free."""
    if witness.device.type == "cpu" and not is_distributed() and not bool(torch.isfinite(witness)):
        raise NumericsError(f"a latent in this batch is NaN, infinite or without direction; {ADVICE}")


def is_distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized()


def all_reduced_mean(value: Tensor) -> Tensor:
    """A detached copy of `value` averaged over processes (exact for equal batches); itself if alone."""
    if not is_distributed():
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
