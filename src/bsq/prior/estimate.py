"""Coded bits with gradients. What enters: an exact prior, signs of a clip. What leaves: what they would cost.

Integers have no gradients: the prior is thawed, and what it says at random points of the coding order estimates the
sum.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bsq.prior.exact import ExactPrior
from bsq.prior.freeze import thaw
from bsq.prior.points import Asking, costs_a_token, draw_point


class Estimate:
    """What a learned prior would spend on the first `bits` digits of codes whose digits are binary."""

    def __init__(self, prior: ExactPrior, bits: int, device: torch.device) -> None:
        self.prior, self.bits = thaw(prior).requires_grad_(False).to(device), bits
        self.layers = [layer for layer in self.prior.layout.layers if layer.bits.start < bits]

    def bits_a_token(self, signs: Tensor, frames: slice, draw: np.random.Generator) -> Tensor:
        """A scalar, of signs (T, h, w, L) of a clip, estimated at one random pass of each layer in each of `frames`."""
        # A prior may have been trained for more digits than the codes have, or for fewer.
        signs = F.pad(signs, (0, self.prior.layout.bits - signs.shape[-1]))
        now, before = signs[frames], None
        if self.prior.memory is not None and len(signs) > 1:  # a picture has nothing to remember
            before = torch.cat([torch.zeros_like(signs[:1]), signs[:-1]])[frames]
        askings = []
        for layer in self.layers:
            ends = np.full(len(now), min(self.bits, layer.bits.stop) - layer.bits.start)
            askings.append(Asking(layer, now, before, draw_point(layer, now, ends, draw)))
        return torch.stack(costs_a_token(self.prior, askings)).sum(0).mean()
