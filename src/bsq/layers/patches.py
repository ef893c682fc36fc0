"""Pixels ↔ patches. Time is never down-sampled: a patch is 1×p×p."""

from torch import Tensor


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """Pixels (B, C, T, H, W) → patches (B, T, H/p, W/p, C·p·p), channel, row, column order inside a patch."""
    batch, channels, frames, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    grid = pixels.reshape(batch, channels, frames, rows, patch, columns, patch)
    return grid.permute(0, 2, 3, 5, 1, 4, 6).reshape(batch, frames, rows, columns, channels * patch * patch)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """Mirror of `patchify`: patches (B, T, h, w, C·p·p) → pixels (B, C, T, h·p, w·p)."""
    batch, frames, rows, columns, values = patches.shape
    channels = values // (patch * patch)
    grid = patches.reshape(batch, frames, rows, columns, channels, patch, patch)
    return grid.permute(0, 4, 1, 2, 5, 3, 6).reshape(batch, channels, frames, rows * patch, columns * patch)
