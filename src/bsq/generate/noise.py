"""Random numbers by counting. What enters: a seed, and what a number is for. What leaves: numbers in (0, 1).

Each number is a function of (seed, purpose, step, sample, place) alone: no generator is passed on, so a sample is the
same in any batch, on any device, and whichever others are drawn beside it. The function is the finalizer of splitmix64
(Steele, Lea, Flood 2014), in int64 arithmetic that wraps, three times over.
"""

from __future__ import annotations

import torch
from torch import Tensor

MASK, RATIO, FRAME, DROP, VALUES, CONFIDENCE, ORDER, CHANGE, PASSES = range(9)
"""What numbers are for."""

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
BITS = 24


def uniform(seed: int, purpose: int, step: int, samples: Tensor, count: int) -> Tensor:
    """float64 (B, count) of the samples (B,) int64, each an odd multiple of 2^−25 in (0, 1)."""
    key = torch.zeros((), dtype=torch.int64, device=samples.device)
    for word in (seed, purpose, step):
        key = _mix(key * 3 + (word & (2**63 - 1)))
    rows = _mix(key + samples.long() * _GOLDEN)
    places = torch.arange(1, count + 1, device=samples.device) * _GOLDEN
    drawn = _shift(_mix(rows[:, None] + places), 64 - BITS)
    return (drawn.double() + 0.5) * 2.0**-BITS


def gumbel(seed: int, purpose: int, step: int, samples: Tensor, count: int) -> Tensor:
    """float32 (B, count) drawn from the standard Gumbel law."""
    return -(-uniform(seed, purpose, step, samples, count).log()).log().float()


def _mix(x: Tensor) -> Tensor:
    x = x + _GOLDEN
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


def _shift(x: Tensor, places: int) -> Tensor:
    """x >> places of the 64 bits, filled with zeros."""
    return (x >> places) & ((1 << (64 - places)) - 1)
