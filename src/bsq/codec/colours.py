"""Colours set right. What enters: what a decoder shows, and what it should. What leaves: twelve numbers, and pixels.

What a tokenizer gets wrong all over a picture, a tint of its greys or a sky too pale, one affine map of colours undoes:
the map of least squares. A stream's header carries it, rounded to whole numbers, in terms of luma and two chromas
(YCoCg, Malvar & Sullivan 2003), so that rounding does not tint what has no colour.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bsq.codec.fields import signed_varint
from bsq.codec.info import COLOUR_BOUND
from bsq.codes import Codes
from bsq.tokenizer import Tokenizer

Colours = tuple[int, ...]
"""The map: twelve whole numbers, for Y, Co and Cg what is added of Y, Co, Cg and 1; or none, which changes nothing."""

WEIGHT_UNIT, CONSTANT_UNIT = 64, 256
"""How many make a whole of Y, Co or Cg, and of 1 (there, one is half a level of 255)."""
YCOCG = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.0, -0.5], [-0.25, 0.5, -0.25]])
RGB = torch.tensor([[1.0, 1.0, -1.0], [1.0, 0.0, 1.0], [1.0, -1.0, -1.0]])
"""Y, Co and Cg of red, green and blue, and the reverse."""
CALM = (0.2 / 255) ** 2
"""Variance (a tenth of a level, squared) of what is noise in Y, Co and Cg: what varies no more says little."""
AROUND = 50
"""Bytes that the smallest stream has besides its digits."""
CHROMA = 4.0
"""What an error of colour weighs beside one of light, as in training (`chroma` of recipes/biscuit-s-colour.yaml)."""
SIDE, MOST, RIM = 32, 16_384, 4
"""Tokens of a side of the squares that a map is fitted to, of all of them, where the grid has more, and of their rims,
which lack their surroundings and do not count.
"""
STRIP = 128
"""Rows of pixels that are mapped at once, so that a large picture is not in memory twice."""


def coloured(pixels: Tensor, colours: Colours) -> Tensor:
    """Pixels (B, 3, …, H, W) in [−1, 1], mapped in place: colour c = (Y, Co, Cg) becomes c + W·c + w, and what then is
    beyond [−1, 1] in red, green or blue is cut off.
    """
    if not colours:
        return pixels
    table = torch.tensor(colours, dtype=torch.float32).reshape(3, 4)
    weights = (RGB @ (table[:, :3] / WEIGHT_UNIT) @ YCOCG).to(pixels.device)
    constant = (RGB @ (table[:, 3] / CONSTANT_UNIT)).to(pixels.device)
    for strip in pixels.split(STRIP, dim=-2):
        added = torch.einsum("oc,bc...->bo...", weights, strip)
        added += constant.reshape(3, *[1] * (strip.ndim - 2))
        strip.add_(added).clamp_(-1, 1)
    return pixels


@torch.no_grad()
def colours_of(model: Tokenizer, codes: Codes, pixels: Tensor, kept: Tensor | None = None) -> Colours:
    """The map that brings what a picture's codes show nearest to its pixels (1, 3, H, W) in [−1, 1].

    None, where it takes a greater share of the file than of the error. `kept` as `Tokenizer.decode` takes it.
    """
    shown, meant = shown_and_meant(model, codes, pixels, kept)
    colours = fitted(shown, meant, pixels)
    plain, mapped = (error(coloured(shown.clone(), some), meant) for some in ((), colours))
    size = AROUND + codes.shape[2] * codes.shape[3] * codes.bits_per_code / 8
    return colours if plain - mapped > plain * len(b"".join(map(signed_varint, colours))) / size else ()


def shown_and_meant(model: Tokenizer, codes: Codes, pixels: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """Parts (B, 3, 1, …) of what the codes show, and of the picture: all of it, or of a large one squares all over."""
    patch, (height, width) = model.patch, pixels.shape[-2:]
    if codes.shape[2] * codes.shape[3] <= MOST:
        return model.decode(codes, (height, width), kept).cpu(), pixels[:, :, None].cpu()
    inside = max(1, height // patch), max(1, width // patch)  # tokens that are not partly padding
    places = list(squares(*inside, model.grid(1, 1)))
    digits = torch.cat([codes.digits[:, :, rows, columns] for rows, columns in places])
    counts = None if kept is None else torch.cat([kept[:, :, rows, columns] for rows, columns in places])
    size = min(height, digits.shape[2] * patch), min(width, digits.shape[3] * patch)
    meant = [
        pixels[..., rows.start * patch :, columns.start * patch :][..., : size[0], : size[1]]
        for rows, columns in places
    ]
    shown = model.decode(Codes(digits, codes.radices), size, counts)
    down, across = (slice(rim := min(RIM * patch, side // 4), side - rim) for side in size)
    return shown[..., down, across].cpu(), torch.cat(meant)[:, :, None, down, across].cpu()


def squares(rows: int, columns: int, least: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """About `MOST` tokens of a larger grid, in squares that are spread evenly, none smaller than `least`."""
    tall, wide = (max(min(side, SIDE), few) for side, few in zip((rows, columns), least, strict=True))
    count = max(1.0, MOST / (tall * wide))
    down = min(-(-rows // tall), max(1, round(min(count, (count * rows / columns) ** 0.5))))
    across = min(-(-columns // wide), max(1, round(count / down)))
    for top in torch.linspace(0, max(0, rows - tall), down).int().tolist():
        for left in torch.linspace(0, max(0, columns - wide), across).int().tolist():
            yield slice(top, top + tall), slice(left, left + wide)


def fitted(shown: Tensor, meant: Tensor, pixels: Tensor) -> Colours:
    """The map of least squares from `shown` to `meant`, parts (B, 3, …) of a picture, rounded.

    Colours that the whole picture `pixels` has and the parts lack are taken for right: a map that is good for a wall
    must not pale the flower before it.
    """
    have, want = ycocg(shown), ycocg(meant)
    products, wanted = moments(have), with_one(have) @ (want - have).T / have.shape[1]
    every = max(1, int((pixels.numel() / meant.numel()) ** 0.5))
    values, axes = torch.linalg.eigh(moments(ycocg(pixels[..., ::every, ::every])) - moments(want))
    products += (axes * values.clamp_min(0)) @ axes.T
    products.diagonal()[:3] += CALM
    weights = torch.linalg.solve(products, wanted)[:3].mul(WEIGHT_UNIT).round()
    # The constant makes up for the rounding of the others.
    constant = (wanted[3] - products[3, :3] @ (weights / WEIGHT_UNIT)) / products[3, 3]
    table = torch.cat([weights, constant[None].mul(CONSTANT_UNIT).round()]).T
    return tuple(int(number) for number in table.clamp(-COLOUR_BOUND, COLOUR_BOUND).flatten())


def error(shown: Tensor, meant: Tensor) -> float:
    """Sum of squares, in which colour counts more than light: the eye is quick to see a tint."""
    luma, *chroma = (ycocg(shown) - ycocg(meant)).square().sum(1).tolist()
    return float(luma + CHROMA * sum(chroma))


def ycocg(pixels: Tensor) -> Tensor:
    """Of pixels (B, 3, …): float64 (3, N)."""
    return YCOCG.double() @ pixels.transpose(0, 1).reshape(3, -1).double().cpu()


def with_one(colours: Tensor) -> Tensor:
    """(3, N) → (4, N)."""
    return torch.cat([colours, torch.ones_like(colours[:1])])


def moments(colours: Tensor) -> Tensor:
    """Means (4, 4) of the products of Y, Co, Cg and 1."""
    basis = with_one(colours)
    return basis @ basis.T / basis.shape[1]
