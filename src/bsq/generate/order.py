"""Which digits become known first. What enters: the grid, seeds, confidence. What leaves: those of the next step.

A place is a (token, group) of a frame, number token·G + group, M = N·G in all. By confidence the network proposes a
value for every unknown place and the surest stay. Halton and random orders are laid down beforehand, so that only the
places of the step need values; with a random order, one place a step, samples follow the model's law exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from bsq.errors import SettingsError
from bsq.generate.noise import CONFIDENCE, ORDER, gumbel, uniform
from bsq.settings import Settings


class ConfidenceSettings(Settings):
    """The surest first: log p plus Gumbel noise times `choice_temperature`, which falls to 0 in a line (PAPER: 15)."""

    kind: Literal["confidence"] = "confidence"
    choice_temperature: NonNegativeFloat = 4.5


class HaltonSettings(Settings):
    """Spread evenly over the frame by the Halton sequence (arXiv:2503.17076), begun at a place drawn for each sample.

    The groups of a token are as far apart in the order as they can be.
    """

    kind: Literal["halton"] = "halton"


class RandomSettings(Settings):
    """Drawn at random for each sample."""

    kind: Literal["random"] = "random"


OrderSettings = Annotated[ConfidenceSettings | HaltonSettings | RandomSettings, Field(discriminator="kind")]


@dataclass(frozen=True, eq=False)
class Draw:
    """What an order's random numbers follow from: the seed, the frame's and the samples' numbers (B,)."""

    seed: int
    frame: int
    samples: Tensor


class ByConfidence:
    """Every unknown place is a candidate."""

    def __init__(self, settings: ConfidenceSettings, draw: Draw, steps: int) -> None:
        self.settings, self.draw, self.steps = settings, draw, steps

    def candidates(self, unknown: Tensor, count: Tensor) -> Tensor:
        """Places that need a value in this step: bool (B, M); `count` (B,) of them will become known."""
        return unknown

    def chosen(self, candidates: Tensor, confidence: Tensor, count: Tensor, step: int) -> Tensor:
        """Of the candidates, those that become known: bool (B, M); `confidence` float32 (B, M) is log p of values."""
        left = self.settings.choice_temperature * (1 - (step + 1) / self.steps)
        score = confidence.double()  # ties would be broken by the sort's fancy
        if left:
            draw = self.draw
            noise = gumbel(draw.seed, CONFIDENCE, _moment(draw.frame, step), draw.samples, score.shape[1])
            score = score + left * noise
        return best(score.masked_fill(~candidates, float("-inf")), count) & candidates


class Planned:
    """An order that was laid down: `rank` (B, M), the lowest come first."""

    def __init__(self, rank: Tensor) -> None:
        self.rank = rank

    def candidates(self, unknown: Tensor, count: Tensor) -> Tensor:
        return best(-self.rank.double().masked_fill(~unknown, float("inf")), count) & unknown

    def chosen(self, candidates: Tensor, confidence: Tensor, count: Tensor, step: int) -> Tensor:
        return candidates


Order = ByConfidence | Planned


def make_order(
    settings: ConfidenceSettings | HaltonSettings | RandomSettings,
    grid: tuple[int, int],
    groups: int,
    draw: Draw,
    steps: int,
) -> Order:
    """The order of one frame of `grid` = (rows, columns) tokens for the samples of `draw`."""
    places = grid[0] * grid[1] * groups
    match settings:
        case ConfidenceSettings():
            return ByConfidence(settings, draw, steps)
        case HaltonSettings():
            return Planned(halton_ranks(grid, groups, draw))
        case RandomSettings():
            return Planned(uniform(draw.seed, ORDER, draw.frame, draw.samples, places))
        case other:
            raise SettingsError(f"no order {other!r}")


def halton_ranks(grid: tuple[int, int], groups: int, draw: Draw) -> Tensor:
    """int64 (B, M): the n-th group of a token follows n/G of the order behind its first."""
    tokens, device = grid[0] * grid[1], draw.samples.device
    rank = torch.empty(tokens, dtype=torch.int64)
    rank[torch.tensor(halton_order(*grid))] = torch.arange(tokens)
    start = (uniform(draw.seed, ORDER, draw.frame, draw.samples, 1) * tokens).long()
    lag = torch.arange(groups, device=device) * tokens // groups
    shifted = (rank.to(device)[None, :, None] + start[:, :, None] + lag) % tokens
    return (shifted * groups + torch.arange(groups, device=device)).flatten(1)


@lru_cache(maxsize=32)
def halton_order(rows: int, columns: int) -> tuple[int, ...]:
    """Every token of the grid once, where the points of the Halton sequence of bases 2 and 3 first fall on it."""
    wanted, length = rows * columns, 0
    found = np.empty(0, np.int64)
    while len(found) < wanted:
        length = max(4 * wanted, 2 * length)
        numbers = np.arange(1, length + 1)
        points = np.floor(_inverse(numbers, 2) * rows) * columns + np.floor(_inverse(numbers, 3) * columns)
        values, first = np.unique(points.astype(np.int64), return_index=True)
        found = values[np.argsort(first)]
    return tuple(found.tolist())


def _inverse(numbers: np.ndarray, base: int) -> np.ndarray:
    """The radical inverse: a number's digits, mirrored behind the point."""
    value, unit, left = np.zeros(len(numbers)), 1.0 / base, numbers.copy()
    while left.any():
        value += unit * (left % base)
        left //= base
        unit /= base
    return value


def best(score: Tensor, count: Tensor) -> Tensor:
    """The `count` (B,) largest of each row of `score` (B, M), as bool (B, M)."""
    order = score.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(score.shape[1], device=score.device).expand_as(order)
    )
    return rank < count[:, None]


def _moment(frame: int, step: int) -> int:
    return (frame << 20) + step
