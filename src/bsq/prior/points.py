"""Random points of the coding order. What enters: signs of whole codes. What leaves: what their next digits cost there.

At a point of the order the coder knows all earlier layers and the earlier passes of this layer, and asks for this
layer's digits of one pass. A point drawn for each sample, weighed by how often it is drawn, estimates what its code
costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bsq.prior.layout import Layer
from bsq.prior.masked import MaskedPrior
from bsq.prior.passes import quincunx_map
from bsq.prior.rounding import Rounding


@dataclass(frozen=True)
class Point:
    """A point of the order for each sample.

    known (B, h, w, bits) bool · asked (B, h, w) bool, tokens the coder would ask for · weights (B, h, w) of their costs
    kept (B, bits of the layer) 1 for bits that exist, 0 behind a cut
    """

    known: Tensor
    asked: Tensor
    weights: Tensor
    kept: Tensor


@dataclass(frozen=True)
class Asking:
    """Samples that are asked for digits of one layer: their signs (B, h, w, bits), those of the frames before (zeros
    where there is none; None for a prior that does not look at them), and where each of them is asked.
    """

    layer: Layer
    signs: Tensor
    before: Tensor | None
    point: Point


def draw_point(
    layer: Layer, signs: Tensor, ends: np.ndarray, draw: np.random.Generator, later_weight: float = 0.0
) -> Point:
    """A random pass of one layer for each sample of signs (B, h, w, bits), cut after its first `ends` (B,) bits.

    Weights undo the uneven drawing, so that Σ weight·cost is an unbiased estimate of the layer's bits a token. Tokens
    of later passes get `later_weight` beside 1: more than the coder would ask for at that point.
    """
    batch, height, width, bits = signs.shape
    order = torch.from_numpy(quincunx_map(height, width, layer.passes))
    sizes = torch.bincount(order.flatten(), minlength=layer.passes).double().numpy()
    shares = sizes / sizes.sum()
    chances = np.sqrt(shares) / np.sqrt(shares).sum()
    passes = torch.from_numpy(draw.choice(layer.passes, size=batch, p=chances)).reshape(-1, 1, 1)
    earlier, asked, later = order < passes, order == passes, order > passes
    kept = torch.arange(len(layer.bits)) < torch.from_numpy(ends)[:, None]
    known = torch.zeros(batch, height, width, bits, dtype=torch.bool)
    known[..., : layer.bits.start] = True
    known[..., layer.bits.start : layer.bits.stop] = earlier[..., None] & kept[:, None, None]
    # A pass without tokens, on a small grid, is never drawn.
    importance = torch.from_numpy(np.divide(shares, chances, out=np.zeros_like(shares), where=chances > 0))
    importance = importance[passes].float()
    weights = asked / asked.sum((1, 2), keepdim=True).clamp_min(1)
    if later_weight:
        weights = weights + later_weight * later / later.sum((1, 2), keepdim=True).clamp_min(1)
    device = signs.device
    return Point(known.to(device), asked.to(device), (importance * weights).to(device), kept.float().to(device))


def costs(prior: MaskedPrior, askings: Sequence[Asking], rounding: Rounding | None = None) -> list[Tensor]:
    """What each asking's tokens cost at their points, in bits: (B, h, w) each, zero where the weight is zero.

    Differentiable in the prior and in the signs, as known neighbours and as digits asked for. In a digit asked for a
    cost is linear, so that its gradient is half of what the other digit would cost more. The body runs in autocast's
    dtype, the chain in float32.
    """
    known = torch.cat([asking.signs * asking.point.known for asking in askings])
    before = [asking.before for asking in askings if asking.before is not None]
    memory = prior.remember(channels_first(torch.cat(before)), rounding) if before else None
    conditions = prior.condition(channels_first(known), memory, rounding)
    found = []
    with torch.autocast(known.device.type, enabled=False):
        for asking, condition in zip(askings, conditions.split([len(asking.signs) for asking in askings]), strict=True):
            layer, point = asking.layer, asking.point
            chosen = point.weights > 0
            digits = asking.signs[chosen].float()
            logits = prior.chain(condition[chosen], digits, layer.bits, rounding)
            asked = digits[:, layer.bits.start : layer.bits.stop]
            each = (F.softplus(logits) - logits * (1 + asked) / 2) / np.log(2)
            kept = point.kept[:, None, None].expand(*chosen.shape, -1)[chosen]
            found.append(each.new_zeros(chosen.shape).masked_scatter(chosen, (each * kept).sum(1)))
    return found


def costs_a_token(prior: MaskedPrior, askings: Sequence[Asking], rounding: Rounding | None = None) -> list[Tensor]:
    """The estimate that points are drawn for: (B,) bits a token of each asking's layer."""
    found = zip(costs(prior, askings, rounding), askings, strict=True)
    return [(cost * asking.point.weights).sum((1, 2)) for cost, asking in found]


def channels_first(signs: Tensor) -> Tensor:
    """(B, h, w, bits) → (B, bits, h, w), in the memory order that convolutions are fast in."""
    return signs.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
