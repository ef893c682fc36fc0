"""How exact priors round. What enters: float weights and activations in training. What leaves: what integers can hold.

The constants of the integer arithmetic of `exact.py` stand here, because training rounds as they demand
(quantization-aware training); gradients pass straight through.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ACTIVATION_MAX = 127  # activations of the body are integers 0 … 127 …
ACTIVATION_UNIT = 1 / 16  # … in this unit
RESIDUAL_UNIT = 1 / 256
CHAIN_MAX = 511
CHAIN_UNIT = 1 / 32
LOGIT_UNIT = 1 / 64
MULTIPLIER_BITS = 7


class Rounding:
    """Rounds weights and activations to the integers of `exact.py`."""

    def weights(self, weight: Tensor) -> Tensor:
        """(rows, …) → the same, each row a multiple of its scale, at most 127 of them."""
        scale = weight_scales(weight).reshape(-1, *[1] * (weight.ndim - 1))
        rounded = (weight / scale).round_().clamp_(-127, 127) * scale
        return weight + (rounded - weight).detach()

    def units(self, x: Tensor, unit: float) -> Tensor:
        """The same shape, in whole units."""
        return x + ((x / unit).round_() * unit - x).detach()


def weight_scales(weight: Tensor) -> Tensor:
    """(rows, …) → (rows,) the smallest scale m·2^e with a 7-bit m that fits every row into −127 … 127."""
    largest = weight.detach().float().flatten(1).abs().amax(1).clamp_min(2.0**-20)
    mantissa, exponent = torch.frexp(largest / 127)
    return torch.ldexp(torch.ceil(torch.ldexp(mantissa, torch.tensor(MULTIPLIER_BITS))), exponent - MULTIPLIER_BITS)


def activate(x: Tensor, rounding: Rounding | None) -> Tensor:
    """ReLU with the upper limit that integer activations have."""
    largest = ACTIVATION_MAX * ACTIVATION_UNIT
    return clip(x, largest) if rounding is None else RoundedClip.apply(x, largest)


class RoundedClip(torch.autograd.Function):
    """Clip to 0 … largest and round to whole activation units; the gradient is that of the clip."""

    @staticmethod
    def forward(context: Any, x: Tensor, largest: float) -> Tensor:
        y = x.clamp(0, largest).mul_(1 / ACTIVATION_UNIT).round_().mul_(ACTIVATION_UNIT)
        context.save_for_backward(y)
        context.largest = largest
        return y

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (y,) = context.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, y, 0.0, context.largest), None


def clip(x: Tensor, largest: float) -> Tensor:
    """Clip to 0 … largest."""
    return F.hardtanh(x, 0.0, largest)
