"""Digits inside a token, one after another. What enters: a condition per token. What leaves: logits of its bits.

A neural autoregressive distribution (NADE, arXiv:1605.02226): units start from the condition, every known bit adds its
row, and bit d is read from the clipped units.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bsq.prior.base import TOTAL_FREQUENCY
from bsq.prior.rounding import CHAIN_MAX, CHAIN_UNIT, Rounding, clip


class Chain(nn.Module):
    """p(bit | condition, earlier bits) for each bit of a token."""

    def __init__(self, bits: int, width: int) -> None:
        super().__init__()
        self.entering = nn.Parameter(torch.randn(bits, width) * 0.1)
        self.leaving = nn.Parameter(torch.randn(bits, width) * (0.5 / width) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(bits))

    def forward(self, condition: Tensor, signs: Tensor, bits: range, rounding: Rounding | None = None) -> Tensor:
        """Logits (n, len(bits)) of consecutive bits, each given all earlier ones.

        condition (n, width) of n tokens · signs (n, all bits) ±1, of which those before bits.stop − 1 are used
        """
        entering, leaving = self.entering + 0, self.leaving + 0
        if rounding is not None:
            condition, entering = rounding.units(condition, CHAIN_UNIT), rounding.units(entering, CHAIN_UNIT)
            leaving = rounding.weights(leaving)
        state = condition + signs[:, : bits.start] @ entering[: bits.start]
        logits = []
        for bit in bits:
            if bit > bits.start:
                state = torch.addcmul(state, signs[:, bit - 1, None], entering[bit - 1])
            logits.append(clip(state, CHAIN_MAX * CHAIN_UNIT) @ leaving[bit])
        return torch.stack(logits, 1) + self.bias[bits.start : bits.stop]


class FloatChain:
    """The chain one bit at a time, in floating point, as the conversation uses it; `exact.py` has it in integers."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    @torch.no_grad()
    def frequencies(self, state: Tensor, bit: int) -> np.ndarray:
        """p(bit = 1)·2^16 of each row of the state (n, width), (n,) uint16 in 1 … 65535."""
        logits = clip(state, CHAIN_MAX * CHAIN_UNIT) @ self.chain.leaving[bit] + self.chain.bias[bit]
        p = torch.sigmoid(logits) * TOTAL_FREQUENCY
        return p.round_().clamp_(1, TOTAL_FREQUENCY - 1).numpy().astype(np.uint16)

    @torch.no_grad()
    def learn(self, state: Tensor, bit: int, signs: np.ndarray) -> Tensor:
        """The state once `bit` is known to be `signs` (n,) ±1."""
        return torch.addcmul(state, torch.from_numpy(signs).float()[:, None], self.chain.entering[bit])
