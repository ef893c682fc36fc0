"""What decoded pixels lack over larger parts. What enters: pixels shown, and pixels meant. What leaves: a few layers of
small numbers, and nearer pixels.

A sky that is a little too dark, a red that is not red enough: what the codes got wrong there is nearly the same over
many pixels, so that a number for every 64 or 16 of them, quantized, says most of it. The layers are the upper ones of a
Laplacian pyramid (Burt & Adelson 1983): of each, nodes lie in the middle of squares, linearly interpolated between, and
fitted by least squares to what the layers before it left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bsq.codec.colours import CHROMA, RGB, STRIP, exact, ycocg

LEVEL = 2 / 255
"""Of pixels in [−1, 1]."""
LARGEST_VALUE = 127
COARSE, COARSE_STEP = 64, 2
FINE, FINE_STEPS = 16, (4, 6, 8, 12, 16)
"""Pixels from node to node of the two layers, and their steps in levels: of the fine one that which pays best."""
ROUNDS_UP = 0.25
"""A value is rounded to the step below unless it is nearer than this share of a step to the one above."""
PRICE = 1.5
"""What a share of the bytes counts beside the same share of the error."""
FEW_NODES, PIXELS_OF_NODE = 64, 128
"""All layers together have at most so many nodes, and one for so many pixels."""
LONGEST_SIDE = 1 << 14
"""Of a picture with a residual, in pixels: least squares take memory with the square of it."""
RIDGE = 0.02
"""Share of the pixels of a node that is added to the diagonal of least squares: nodes at the rim may have few."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A grid of nodes: of Y, Co and Cg what is added there, `step` levels times `values` (3, ⌈H / spacing⌉,
    ⌈W / spacing⌉), int64 in ±127.
    """

    spacing: int
    step: int
    values: np.ndarray


def node_grid(spacing: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of nodes."""
    return -(-height // spacing), -(-width // spacing)


def most_nodes(height: int, width: int) -> int:
    """Of all layers of a picture together."""
    return FEW_NODES + height * width // PIXELS_OF_NODE


Residual = tuple[Layer, ...]
"""What is added to decoded pixels, the sum of its layers; () is nothing."""


def with_residual(pixels: Tensor, residual: Residual) -> Tensor:
    """Pixels (B, 3, …, H, W) in [−1, 1] with what they lack added in place, cut off at −1 and 1."""
    top = 0
    for strip in pixels.split(STRIP, dim=-2) if residual else ():
        rows = range(top, top + strip.shape[-2])
        added = torch.stack([of_rows(layer, rows, pixels.shape[-1]) for layer in residual]).sum(0).to(pixels.device)
        strip.add_(added.reshape(3, *[1] * (strip.ndim - 4), *added.shape[1:])).clamp_(-1, 1)
        top = rows.stop
    return pixels


def of_rows(layer: Layer, rows: range, width: int) -> Tensor:
    """What a layer adds to red, green and blue of some rows of pixels: float32 (3, rows, width)."""
    nodes = torch.einsum("oc,chw->ohw", RGB, exact(layer.values) * (layer.step * LEVEL)).float()
    return spread_out(nodes, layer.spacing, rows, width)


def spread_out(nodes: Tensor, spacing: int, rows: range, width: int) -> Tensor:
    """Some rows of pixels (…, rows, width) from nodes (…, h, w), bilinear."""
    return between(between(nodes, rows, spacing).mT, range(width), spacing).mT


def between(nodes: Tensor, pixels: range, spacing: int) -> Tensor:
    """(…, n, m) → (…, pixels, m): node k lies at pixel (k + ½)·spacing − ½; before the first and behind the last, they
    themselves.
    """
    lower, upper, share = places(nodes.shape[-2], pixels, spacing)
    return torch.lerp(nodes[..., lower, :], nodes[..., upper, :], share.float()[:, None])


def places(count: int, pixels: range, spacing: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each pixel the nodes before and behind it, of so many, and the share of the latter, float64."""
    place = ((torch.arange(pixels.start, pixels.stop).double() + 0.5) / spacing - 0.5).clamp(0, count - 1)
    lower = place.floor().long()
    return lower, (lower + 1).clamp_max(count - 1), place - lower


class Nodes:
    """The nodes of one spacing along a side of so many pixels.

    spread  (pixels, nodes): what each node is worth at each pixel
    """

    def __init__(self, side: int, spacing: int) -> None:
        count = -(-side // spacing)
        lower, upper, share = places(count, range(side), spacing)
        every = torch.arange(side)
        self.spread = exact(np.zeros((side, count)))
        self.spread[every, lower] += 1 - share
        self.spread[every, upper] += share
        self.products = self.spread.T @ self.spread
        ridge = RIDGE * spacing * torch.eye(count, dtype=torch.float64)
        self.solved = torch.linalg.inv(self.products + ridge)


class LayerFit:
    """Finds layers of one spacing that take error away from `missing` (3, H, W): Y, Co and Cg."""

    def __init__(self, missing: Tensor, spacing: int) -> None:
        self._down, self._across = (Nodes(side, spacing) for side in missing.shape[-2:])
        self._spacing = spacing
        down, across = self._down.spread.float(), self._across.spread.float()
        self._sums = (down.T @ missing @ across).double()
        self._best = self._down.solved @ self._sums @ self._across.solved

    def layer(self, step: int) -> Layer:
        """The values nearest to least squares, small ones zero."""
        size = step * LEVEL
        values = self._best.sign() * (self._best.abs() / size + ROUNDS_UP).floor().clamp_max(LARGEST_VALUE)
        return Layer(self._spacing, step, values.long().numpy())

    def gain(self, layer: Layer) -> float:
        """What the layer takes away of the squared error, in which colour counts more than light."""
        values = exact(layer.values) * (layer.step * LEVEL)
        smoothed = self._down.products @ values @ self._across.products
        return weigh((values * (2 * self._sums - smoothed)).sum((1, 2)))


def fit_residual(shown: Tensor, meant: Tensor, measure: Callable[[Residual], int], most: int | None = None) -> Residual:
    """The layers that pay best for a picture of which (1, 3, H, W) is shown and meant, perhaps none. `measure` says how
    many bytes the stream has with them; it may have `most`.
    """
    if max(shown.shape[-2:]) > LONGEST_SIDE:
        return ()
    missing = planes(meant.cpu() - shown.cpu().float())
    error = weigh(missing.square().sum((1, 2)))
    best: Residual = ()
    least = costs(error, measure(()))
    for layers, gain in candidates(missing):
        residual = tuple(layer for layer in layers if layer.values.any())
        if sum(layer.values[0].size for layer in residual) > most_nodes(*missing.shape[-2:]):
            continue
        size = measure(residual)
        if (most is None or size <= most) and (cost := costs(error - gain, size)) < least:
            best, least = residual, cost
    return best


def candidates(missing: Tensor) -> Iterator[tuple[Residual, float]]:
    """Residuals to choose from, and what each takes away of the error."""
    fit = LayerFit(missing, COARSE)
    coarse = fit.layer(COARSE_STEP)
    gain = fit.gain(coarse)
    yield (coarse,), gain
    height, width = missing.shape[-2:]
    fit = LayerFit(missing - planes(of_rows(coarse, range(height), width)[None]), FINE)
    for step in FINE_STEPS:
        fine = fit.layer(step)
        yield (coarse, fine), gain + fit.gain(fine)


def planes(pixels: Tensor) -> Tensor:
    """Red, green and blue (1, 3, H, W) → Y, Co and Cg, float32 (3, H, W)."""
    return ycocg(pixels).reshape(pixels.shape[1:]).float()


def weigh(squares: Tensor) -> float:
    """Squared errors of Y, Co and Cg as one number; of colour more, as in `bsq.codec.colours`."""
    return float(squares[0] + CHROMA * (squares[1] + squares[2]))


def costs(error: float, size: int) -> float:
    """Error and bytes as one number; 10⁻¹² is no error at all."""
    return math.log(max(error, 1e-12)) + PRICE * math.log(size)
