"""How many digits each token keeps. What enters: a picture and its codes. What leaves: the stream that pays best.

Of all ways to share out a file's bytes among the tokens the one with the least error is sought: squared error, that of
busy places weighed less, because there it is seen less. Each token takes the level that makes error + λ·bits least: the
error of its patch when the whole picture is decoded at that level, and the bits that the prior spends on its digits
(Lagrangian allocation: Shoham & Gersho 1988). λ is searched until the file is as large as it may be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from bsq.codes import Codes
from bsq.pixels import pad_to
from bsq.prior.base import Prior
from bsq.prior.lengths import digit_lengths
from bsq.tokenizer import Tokenizer

PARTS = 4
"""Levels are quarters of the digits."""
TRIALS = 5
"""How often a file is written in search of one that is as large as it may be …"""
CLOSE = 0.005
"""… and how close to that is close enough."""

CALM = 0.003
"""A variance of grey values in [−1, 1] below which no place is calmer than another."""

Write = Callable[[np.ndarray], bytes]


@dataclass(frozen=True)
class Costs:
    """Of each token at each level, (tokens, levels): error of its pixels, and bits of its digits."""

    errors: np.ndarray
    bits: np.ndarray

    def best(self, multiplier: float) -> np.ndarray:
        """The level (tokens,) of each token that makes error + multiplier·bits least."""
        return (self.errors + multiplier * self.bits).argmin(1)

    def error(self, chosen: np.ndarray) -> float:
        return float(self.errors[np.arange(len(chosen)), chosen].sum())

    def bytes(self, chosen: np.ndarray) -> float:
        """About what the choice takes: digits, and the levels by their entropy."""
        shares = np.bincount(chosen) / len(chosen)
        of_levels = -len(chosen) * float((shares[shares > 0] * np.log2(shares[shares > 0])).sum())
        return (float(self.bits[np.arange(len(chosen)), chosen].sum()) + of_levels) / 8


def levels_of(digits: int) -> tuple[int, ...]:
    """The numbers of digits that tokens may keep; a single one where there are too few to choose from."""
    return tuple(sorted({-(-digits * part // PARTS) for part in range(1, PARTS + 1)}))


def measure_costs(model: Tokenizer, pixels: Tensor, codes: Codes, levels: Sequence[int], prior: Prior) -> Costs:
    """Of a picture (1, 3, H, W) and its whole codes; the picture is decoded once a level."""
    errors = [patch_errors(model.decode(codes.first(level))[:, :, 0], pixels, model.patch) for level in levels]
    bits = digit_lengths(prior, codes).cumsum(1)
    return Costs(np.stack(errors, 1), bits[:, [level - 1 for level in levels]])


def patch_errors(again: Tensor, pixels: Tensor, patch: int) -> np.ndarray:
    """Error of each patch of a decoded grid (1, 3, h·p, w·p), (h·w,) float64: the sum of squares over √(variance of the
    grey values around it + CALM). Padding does not count.
    """
    height, width = pixels.shape[-2:]
    pixels = pixels.to(again.device)
    apart = (again[..., :height, :width] - pixels).square().sum(1)
    padded = F.pad(apart, (0, again.shape[-1] - width, 0, again.shape[-2] - height))
    errors = F.avg_pool2d(padded, patch, divisor_override=1)
    grey = pad_to(pixels.mean(1, keepdim=True), *again.shape[-2:])
    mean, square = (
        F.avg_pool2d(moment, 3 * patch, patch, patch, count_include_pad=False) for moment in (grey, grey.square())
    )
    weights = ((square - mean.square()).clamp_min(0) + CALM).rsqrt()
    return (errors * weights[:, 0]).flatten().double().cpu().numpy()


def best_within(costs: Costs, write: Write, max_bytes: int) -> tuple[np.ndarray, bytes] | None:
    """The choice of levels with the least error whose stream has at most `max_bytes`, and the stream; None if there is
    none.
    """
    best: tuple[np.ndarray, bytes] | None = None
    aim = float(max_bytes)
    for _ in range(TRIALS):
        chosen = largest_about(costs, aim)
        data = write(chosen)
        if len(data) <= max_bytes and (best is None or costs.error(chosen) < costs.error(best[0])):
            best = chosen, data
        if (1 - CLOSE) * max_bytes <= len(data) <= max_bytes:
            break
        # Sizes go with estimates: the next aim is off by what this one was, and a little to the safe side.
        aim *= (1 - CLOSE / 2) * max_bytes / len(data)
    return best


def largest_about(costs: Costs, size: float) -> np.ndarray:
    """The best choice of about `size` bytes at most; the smallest there is if none is so small."""
    if costs.bytes(costs.best(0.0)) <= size:
        return costs.best(0.0)
    # Where a bit is worth all errors together, every token takes its cheapest level.
    high = float(costs.errors.sum()) + 1.0
    low = high * 2.0**-60
    for _ in range(40):
        middle = (low * high) ** 0.5
        if costs.bytes(costs.best(middle)) <= size:
            high = middle
        else:
            low = middle
    return costs.best(high)
