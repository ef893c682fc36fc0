"""Sizes that a system cannot take. What enters: pixels of any size. What leaves: pixels it takes, and the cut back."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bsq.errors import NumericsError, ShapeError

PADDED = "sides padded by repeating the edge to multiples of {stride}, and cut back"


def checked(pixels: Tensor) -> Tensor:
    """Float pixels (B, 3, T, H, W). Raises ShapeError, NumericsError."""
    if pixels.ndim != 5 or pixels.shape[1] != 3 or 0 in pixels.shape or not pixels.is_floating_point():
        raise ShapeError(f"expected float pixels (B, 3, T, H, W), got {pixels.dtype} {tuple(pixels.shape)}")
    low, high = (float(bound) for bound in torch.aminmax(pixels))
    if not (math.isfinite(low) and math.isfinite(high)) or low < -1.001 or high > 1.001:
        raise NumericsError(f"pixels must be numbers in [-1, 1], got {low:.4g} to {high:.4g}")
    return pixels


def pad_to_multiple(pictures: Tensor, stride: int) -> Tensor:
    """(B, 3, H, W) → the same with both sides multiples of `stride`, the last row and column repeated."""
    height, width = pictures.shape[-2:]
    return F.pad(pictures, (0, -width % stride, 0, -height % stride), mode="replicate")


def one_by_one(pixels: Tensor) -> list[Tensor]:
    """(B, 3, T, H, W) → B clips (1, 3, T, H, W): roundings must not depend on the batch."""
    return list(checked(pixels).split(1))


def frames_of(clip: Tensor) -> Tensor:
    """A clip (1, 3, T, H, W) → its frames (T, 3, H, W)."""
    return clip[0].transpose(0, 1)


def clip_of(frames: Tensor) -> Tensor:
    """Mirror of `frames_of`."""
    return frames.transpose(0, 1)[None]
