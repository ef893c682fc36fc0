"""Colours set right. What enters: pixels shown, and pixels meant. What leaves: twelve numbers, and nearer pixels.

What a tokenizer gets wrong all over a picture or film, a tint of its greys or a sky too pale, one affine map of colours
undoes: the map of least squares. A stream's header carries it, rounded to whole numbers, in terms of luma and two
chromas (YCoCg, Malvar & Sullivan 2003), so that rounding does not tint what has no colour.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from bsq.codec.fields import signed_varint
from bsq.codec.info import COLOUR_BOUND


def exact(numbers: ArrayLike) -> Tensor:
    """float64 on the CPU, whatever the caller's defaults are."""
    return torch.from_numpy(np.array(numbers, np.float64))


ColourMap = tuple[int, ...]
"""The map: twelve whole numbers, for Y, Co and Cg what is added of Y, Co, Cg and 1; or none, which changes nothing."""

WEIGHT_UNIT, CONSTANT_UNIT = 64, 256
"""How many make a whole of Y, Co or Cg, and of 1 (there, one is half a level of 255)."""
YCOCG = exact([[0.25, 0.5, 0.25], [0.5, 0.0, -0.5], [-0.25, 0.5, -0.25]])
RGB = exact([[1.0, 1.0, -1.0], [1.0, 0.0, 1.0], [1.0, -1.0, -1.0]])
"""Y, Co and Cg of red, green and blue, and the reverse."""
NOISE = (0.2 / 255) ** 2
"""Variance (a tenth of a level, squared) of what is noise in Y, Co and Cg: what varies no more says little."""
CHROMA = 4.0
"""What an error of colour weighs beside one of light, as in training (`chroma` of recipes/biscuit-s-colour.yaml): the
eye is quick to see a tint.
"""
BINS, RARE = 16, 0.25
"""Of Co and of Cg. A pixel counts as its bin's size to the power of −RARE: a map that is good for a grey wall must not
pale the small flower before it.
"""
AROUND, RECORD = 50, 16
"""Bytes that the smallest stream has besides its digits, and that a map takes as a rule."""
STRIP = 128
"""Rows of pixels that are mapped at once, so that a large picture is not in memory twice."""


def coloured(pixels: Tensor, colours: ColourMap) -> Tensor:
    """Pixels (B, 3, …, H, W) in [−1, 1], mapped in place: colour c = (Y, Co, Cg) becomes c + W·c + w, and what then is
    beyond [−1, 1] in red, green or blue is cut off.
    """
    if not colours:
        return pixels
    table = exact(colours).reshape(3, 4)
    weights = (RGB @ (table[:, :3] / WEIGHT_UNIT) @ YCOCG).float().to(pixels.device)
    constant = (RGB @ (table[:, 3] / CONSTANT_UNIT)).float().to(pixels.device)
    for strip in pixels.split(STRIP, dim=-2):
        added = torch.einsum("oc,bc...->bo...", weights, strip)
        added += constant.reshape(3, *[1] * (strip.ndim - 2))
        strip.add_(added).clamp_(-1, 1)
    return pixels


class ColourFit:
    """Gathers parts of what is shown and what is meant; then has the map between them."""

    def __init__(self) -> None:
        self.meant, self.all = exact(np.zeros((4, 4))), exact(np.zeros((4, 4)))
        self.balanced, self.plain = Sums(), Sums()

    def add(self, shown: Tensor, meant: Tensor) -> None:
        """Both (B, 3, …), of the same places."""
        have, want = ycocg(shown), ycocg(meant)
        self.meant += moments(want)
        self.balanced.add(have, want, rarity(want))
        self.plain.add(have, want)

    def see(self, pixels: Tensor) -> None:
        """What is meant elsewhere, too. Colours that the parts added lack are taken for right."""
        self.all += moments(ycocg(pixels))

    def colours(self, raw_bits: float) -> ColourMap:
        """The map of least squares; none, where its share of a stream of so many uncoded bits of digits is greater than
        what it takes away of the error.
        """
        count = self.balanced.shown[3, 3].clone()
        if not count:
            return ()
        products, missing = self.balanced.shown / count, self.balanced.missing / count
        if self.all[3, 3]:
            values, axes = torch.linalg.eigh(self.all / self.all[3, 3] - self.meant / self.meant[3, 3])
            products += (axes * values.clamp_min(0)) @ axes.T
        products.diagonal()[:3] += NOISE
        weights = torch.linalg.solve(products, missing)[:3].mul(WEIGHT_UNIT).round() / WEIGHT_UNIT
        # The constant makes up for the rounding of the others.
        constant = (missing[3] - products[3, :3] @ weights) / products[3, 3]
        table = torch.cat([weights * WEIGHT_UNIT, constant[None].mul(CONSTANT_UNIT).round()]).T
        table.clamp_(-COLOUR_BOUND, COLOUR_BOUND)
        found = tuple(int(number) for number in table.flatten())
        bytes_of_all = AROUND + raw_bits / 8
        share = sum(len(signed_varint(number)) for number in found) / bytes_of_all
        return found if self.plain.gain(table) > share else ()


class Sums:
    """Over pixels: of the products of Y, Co, Cg and 1 as shown, of these and what is missing, and of its squares."""

    def __init__(self) -> None:
        self.shown, self.missing, self.squares = (exact(np.zeros(size)) for size in ((4, 4), (4, 3), 3))

    def add(self, have: Tensor, want: Tensor, weights: Tensor | None = None) -> None:
        """Colours (3, N), and what each pixel counts (N,)."""
        missing, basis = want - have, with_one(have)
        weighed = basis if weights is None else basis * weights
        self.shown += weighed @ basis.T
        self.missing += weighed @ missing.T
        self.squares += missing.square().sum(1)

    def gain(self, table: Tensor) -> float:
        """What share of the error, in which colour counts more than light, a map (3, 4) takes away."""
        rows = table / exact([WEIGHT_UNIT] * 3 + [CONSTANT_UNIT])
        less = 2 * (rows.T * self.missing).sum(0) - ((rows @ self.shown) * rows).sum(1)
        weights = exact([1.0, CHROMA, CHROMA])
        return float((weights @ less) / (weights @ self.squares).clamp_min(1e-30))


def ycocg(pixels: Tensor) -> Tensor:
    """Of pixels (B, 3, …): float64 (3, N), on the CPU."""
    return YCOCG @ pixels.transpose(0, 1).reshape(3, -1).cpu().double()


def rarity(colours: Tensor) -> Tensor:
    """What each of the colours (3, N) counts (N,): less, the more there are like it; 1 in mean over a single kind."""
    across, along = ((colours[1:] + 1) / 2 * BINS).long().clamp(0, BINS - 1)
    kinds = across * BINS + along
    return torch.bincount(kinds, minlength=BINS**2).double()[kinds].pow(-RARE) * kinds.numel() ** RARE


def with_one(colours: Tensor) -> Tensor:
    """(3, N) → (4, N)."""
    return torch.cat([colours, torch.ones_like(colours[:1])])


def moments(colours: Tensor) -> Tensor:
    """Sums (4, 4) of the products of Y, Co, Cg and 1, of colours (3, N)."""
    basis = with_one(colours)
    return basis @ basis.T
