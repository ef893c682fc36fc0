"""Pixels as a stream shows them. What enters: codes, and what a stream says of their pixels. What leaves: pixels, set
right.

What sets pixels right is fitted to the faithful decoder of a model. Another one is wrong in other ways: over larger
parts it takes the light and the colours of the faithful one, set right.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bsq.checkpoint.decoders import faithful_of
from bsq.codec.colours import STRIP, ColourMap, coloured
from bsq.codec.residual import Residual, spread_out, with_residual
from bsq.codes import Codes
from bsq.tokenizer import Tokenizer

PART = 16
"""Pixels along a side of what counts as a larger part."""


def shown(
    model: Tokenizer,
    codes: Codes,
    size: tuple[int, int],
    kept: Tensor | None = None,
    colours: ColourMap = (),
    residual: Residual = (),
) -> Tensor:
    """Pixels (1, 3, T, H, W) of codes, set right; `kept` as `Tokenizer.decode` takes it."""
    beside = decoded_beside(model, colours, residual)
    faithful = None if beside is None else beside.decode(codes, size, kept)
    return set_right(model.decode(codes, size, kept), faithful, colours, residual)


def decoded_beside(model: Tokenizer, colours: ColourMap, residual: Residual = ()) -> Tokenizer | None:
    """The model whose colours are wanted as well, None where there is nothing to set right or it is the same."""
    faithful = faithful_of(model)
    return faithful if faithful is not model and (colours or residual) else None


def set_right(pixels: Tensor, faithful: Tensor | None, colours: ColourMap, residual: Residual = ()) -> Tensor:
    """Decoded pixels (1, 3, T, H, W), changed in place. `faithful`, those of the faithful decoder, if another one made
    them.
    """
    if faithful is None:
        return with_residual(coloured(pixels, colours), residual)
    return in_colours_of(with_residual(coloured(faithful, colours), residual), pixels)


def in_colours_of(right: Tensor, pixels: Tensor) -> Tensor:
    """`pixels` (1, 3, T, H, W), changed in place so that larger parts have the means that they have in `right`."""
    missing = (right - pixels.to(right.device)).to(pixels.device, torch.float32)[0].movedim(1, 0)  # (T, 3, H, W)
    means = F.avg_pool2d(missing, PART, ceil_mode=True).movedim(0, 1)  # (3, T, …)
    height, width = missing.shape[-2:]
    for top in range(0, height, STRIP):
        rows = range(top, min(top + STRIP, height))
        pixels[..., rows.start : rows.stop, :] += spread_out(means, PART, rows, width)
    return pixels.clamp_(-1, 1)
