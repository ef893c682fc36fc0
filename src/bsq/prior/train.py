"""Training of masked priors. What enters: digits of many pictures. What leaves: a float prior ready to freeze.

A step shows the model what the coder will know at one random point of the order (all earlier layers, the earlier
passes of this layer) and asks for this layer's digits. Weights make the loss an unbiased estimate of the bits a token
costs; tokens of later passes are asked for too, at a lower weight, because they teach the same features.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from bsq.prior.layout import Layer, to_bits
from bsq.prior.masked import MaskedPrior, MaskedSettings, Rounding
from bsq.prior.passes import quincunx_map
from bsq.settings import Settings


class PriorTrainingSettings(Settings):
    """How a masked prior is trained.

    minutes        wall-clock length; the learning rate follows it, so a run always ends cooled down
    batch          crops a step, split evenly over the layers of digits
    crop           side of the crops, in tokens
    rounded        share of the run, at its end, with weights and activations rounded to integers
    later_weight   weight of tokens of later passes, next to 1 for those the coder would ask for
    cut_layers     share of samples that end inside a layer, so that any number of digits can be kept
    """

    minutes: float = Field(default=15.0, gt=0)
    batch: int = Field(default=16, ge=1)
    crop: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.03, ge=0, lt=1)
    rounded: float = Field(default=0.3, ge=0, le=1)
    later_weight: float = Field(default=0.3, ge=0, le=1)
    cut_layers: float = Field(default=0.15, ge=0, le=1)
    seed: int = 0


@dataclass(frozen=True)
class PriorProgress:
    """One line of the log: bits a token of each layer, averaged since the last line, as the coder would spend them."""

    step: int
    minutes: float
    learning_rate: float
    layer_bits: tuple[float, ...]

    @property
    def bits(self) -> float:
        """Bits of a whole code."""
        return sum(self.layer_bits)


def train_masked(
    digits: Tensor,
    settings: MaskedSettings,
    training: PriorTrainingSettings,
    report: Callable[[PriorProgress, MaskedPrior], None],
) -> MaskedPrior:
    """Train a masked prior on digits (N, T, h, w, L), integers of the settings' radices; the grid at least crop × crop.

    `report` is called about every ten seconds and at the end. Returns the float prior, trained to be frozen.
    """
    torch.manual_seed(training.seed)
    draw = np.random.default_rng(training.seed)
    prior = MaskedPrior(settings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    signs = torch.from_numpy(to_bits(digits.flatten(0, 1).numpy(), settings.radices)).to(torch.int8) * 2 - 1
    optimizer = torch.optim.AdamW(
        prior.parameters(), training.learning_rate, betas=(0.9, 0.98), weight_decay=training.weight_decay
    )
    start = reported = time.monotonic()
    step, totals, seen = 0, [0.0] * len(prior.layout.layers), 0
    done = 0.0
    while done < 1:
        done = min(1.0, (time.monotonic() - start) / (60 * training.minutes))
        rate = training.learning_rate * schedule(done, training.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rounding = Rounding() if done >= 1 - training.rounded else None
        losses, bits = step_losses(prior, draw_crops(signs, training, draw), training, draw, rounding)
        optimizer.zero_grad(set_to_none=True)
        losses.backward()
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        optimizer.step()
        step, seen, totals = step + 1, seen + 1, [a + b for a, b in zip(totals, bits, strict=True)]
        if time.monotonic() - reported > 10 or done >= 1:
            minutes = (time.monotonic() - start) / 60
            report(PriorProgress(step, minutes, rate, tuple(t / seen for t in totals)), prior)
            totals, seen, reported = [0.0] * len(totals), 0, time.monotonic()
    return prior


def schedule(done: float, warmup: float) -> float:
    """Learning rate factor after the share `done` of the run: linear warm-up, then a cosine to zero."""
    if done < warmup:
        return max(done / warmup, 0.02)
    return 0.5 * (1 + float(np.cos(np.pi * (done - warmup) / (1 - warmup))))


def draw_crops(signs: Tensor, training: PriorTrainingSettings, draw: np.random.Generator) -> Tensor:
    """Random crops (batch, crop, crop, bits) float ±1 of signs (N, h, w, bits)."""
    count, height, width, _ = signs.shape
    crops = []
    for _ in range(training.batch):
        i = draw.integers(count)
        y, x = draw.integers(height - training.crop + 1), draw.integers(width - training.crop + 1)
        crops.append(signs[i, y : y + training.crop, x : x + training.crop])
    return torch.stack(crops).float()


def step_losses(
    prior: MaskedPrior,
    truth: Tensor,
    training: PriorTrainingSettings,
    draw: np.random.Generator,
    rounding: Rounding | None,
) -> tuple[Tensor, list[float]]:
    """The loss of one batch of signs (B, h, w, bits) and the bits a token that each layer cost in it."""
    layers = prior.layout.layers
    shares = [truth[i :: len(layers)] for i in range(len(layers))]
    points = [draw_point(layer, share, training, draw) for layer, share in zip(layers, shares, strict=True)]
    known = torch.cat([share * point.known for share, point in zip(shares, points, strict=True)])
    with torch.autocast("cpu", torch.bfloat16):
        conditions = prior.condition(known.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last), rounding)
    loss, bits = torch.zeros(()), []
    for layer, share, point, condition in zip(
        layers, shares, points, conditions.split([len(s) for s in shares]), strict=True
    ):
        if not len(share):
            bits.append(0.0)
            continue
        chosen = point.weights > 0
        targets = share[chosen]
        logits = prior.chain(condition[chosen], targets, layer.bits, rounding)
        costs = F.softplus(-logits * targets[:, layer.bits.start : layer.bits.stop]) / np.log(2)
        cost = (costs * point.kept[:, None, None].expand(*chosen.shape, -1)[chosen]).sum(1)
        weights = point.weights[chosen]
        loss = loss + (cost * weights).sum() / len(share)
        counted = point.asked[chosen] & point.whole[:, None, None].expand_as(chosen)[chosen]
        bits.append(float((cost.detach() * weights)[counted].sum() / max(1, int(point.whole.sum()))))
    return loss, bits


@dataclass(frozen=True)
class Point:
    """A point of the order for each sample.

    known (B, h, w, bits) bool · asked (B, h, w) bool, tokens the coder would ask for · weights (B, h, w) of the loss
    kept (B, bits of the layer) 1 for bits that exist, 0 behind a cut · whole (B,) bool, the layer is not cut
    """

    known: Tensor
    asked: Tensor
    weights: Tensor
    kept: Tensor
    whole: Tensor


def draw_point(layer: Layer, signs: Tensor, training: PriorTrainingSettings, draw: np.random.Generator) -> Point:
    """A random pass of one layer for each sample; weights undo the uneven drawing, so that the loss is bits a token."""
    batch, height, width, bits = signs.shape
    order = torch.from_numpy(quincunx_map(height, width, layer.passes))
    sizes = torch.bincount(order.flatten(), minlength=layer.passes).double().numpy()
    shares = sizes / sizes.sum()
    chances = np.sqrt(shares) / np.sqrt(shares).sum()
    passes = torch.from_numpy(draw.choice(layer.passes, size=batch, p=chances)).reshape(-1, 1, 1)
    earlier, asked, later = order < passes, order == passes, order > passes
    whole = draw.random(batch) >= training.cut_layers
    ends = np.where(whole, len(layer.bits), draw.integers(1, len(layer.bits) + 1, size=batch))
    kept = torch.arange(len(layer.bits)) < torch.from_numpy(ends)[:, None]
    known = torch.zeros(batch, height, width, bits, dtype=torch.bool)
    known[..., : layer.bits.start] = True
    known[..., layer.bits.start : layer.bits.stop] = earlier[..., None] & kept[:, None, None]
    importance = torch.from_numpy(shares / chances)[passes].float()
    weights = asked / asked.sum((1, 2), keepdim=True).clamp_min(1)
    weights = weights + training.later_weight * later / later.sum((1, 2), keepdim=True).clamp_min(1)
    return Point(known, asked, importance * weights, kept.float(), torch.from_numpy(whole))
