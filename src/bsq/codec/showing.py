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
from bsq.codec.residual import Residual, between, with_residual
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
    pixels, faithful = model.decode(codes, size, kept), faithful_of(model)
    if faithful is None or not (colours or residual):
        return with_residual(coloured(pixels, colours), residual)
    right = with_residual(coloured(faithful.decode(codes, size, kept), colours), residual)
    return in_colours_of(right, pixels)


def in_colours_of(right: Tensor, pixels: Tensor) -> Tensor:
    """`pixels` (1, 3, T, H, W), changed in place so that larger parts have the means that they have in `right`."""
    missing = right.sub_(pixels.to(right.device)).to(pixels.device, torch.float32)[0].movedim(1, 0)  # (T, 3, H, W)
    means = F.avg_pool2d(missing, PART, ceil_mode=True)
    height, width = missing.shape[-2:]
    for frame, nodes in enumerate(means):
        for top in range(0, height, STRIP):
            rows = range(top, min(top + STRIP, height))
            added = between(between(nodes, rows, PART).mT, range(width), PART).mT
            pixels[:, :, frame, rows.start : rows.stop] += added
    return pixels.clamp_(-1, 1)
