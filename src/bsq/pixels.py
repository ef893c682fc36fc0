"""What pixels must be at the tokenizer's door. What enters: what a user gives. What leaves: a clip in [−1, 1]."""

from __future__ import annotations

import math
from operator import index as whole_number

import torch.nn.functional as F
from torch import Tensor

from bsq.errors import NumericsError, RangeError, ShapeError

# How far beyond [−1, 1] pixels may lie: more than rounding to bfloat16 adds, less than any other range of pixels does.
SLACK = 0.01


def as_clip(pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) or (B, 3, T, H, W) of any float type → float32 (B, 3, T, H, W).

    Raises ShapeError for anything else.
    """
    if not isinstance(pixels, Tensor):
        raise ShapeError(f"pixels must be a torch.Tensor, got {type(pixels).__name__}; torch.from_numpy makes one")
    if not pixels.is_floating_point() or pixels.ndim not in (4, 5) or pixels.shape[1] != 3 or 0 in pixels.shape:
        raise ShapeError(
            "pixels must be float (B, 3, H, W) or (B, 3, T, H, W), none of them empty; "
            f"got {pixels.dtype} {tuple(pixels.shape)}"
        )
    clip = pixels if pixels.ndim == 5 else pixels[:, :, None]
    return clip.float()


def check_range(clip: Tensor) -> None:
    """Raises NumericsError for NaN and infinity, RangeError for pixels beyond [−1, 1] by more than `SLACK`."""
    low, high = (float(bound) for bound in clip.aminmax())
    if not math.isfinite(high - low):
        raise NumericsError("the pixels hold NaN or infinity")
    if min(low, -high) < -1 - SLACK:
        raise RangeError(
            f"pixels must lie in [−1, 1], got {low:.4g} … {high:.4g}; pixels / 127.5 − 1 takes 0 … 255 there, "
            "clamp(−1, 1) cuts off what resizing overshoots"
        )


def check_size(size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """The size (H, W) that pixels of `grid` (H, W) are to be cropped to. Raises ShapeError unless it fits."""
    try:
        height, width = map(whole_number, size)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"size must be two whole numbers (H, W), got {size!r:.80}") from error
    if not (0 < height <= grid[0] and 0 < width <= grid[1]):
        raise ShapeError(f"cannot crop to {height}×{width} pixels: these codes hold {grid[0]}×{grid[1]}")
    return height, width


def pad_to(clip: Tensor, height: int, width: int) -> Tensor:
    """Repeat the last row and column until the clip is height × width."""
    down, right = height - clip.shape[-2], width - clip.shape[-1]
    return F.pad(clip, (0, right, 0, down, 0, 0), mode="replicate") if down or right else clip
