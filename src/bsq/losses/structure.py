"""Structural similarity over scales, to train by. What enters: two batches of pictures. What leaves: 0 … 1 each.

Wang, Simoncelli & Bovik, "Multi-scale structural similarity for image quality assessment" (2003). The maps of one
scale are those of `pytorch_msssim`; its own product over scales has no finite gradient where a scale has none left.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

from bsq.errors import MissingDependencyError

FIVE_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SIGMA = 1.5
TRAINING_WINDOW = 7
"""Taps of the window in training. The metric takes 11, for which crops would have to have sides of 161."""
TRAINING_MIN_SIDE = (TRAINING_WINDOW - 1) * 2 ** (len(FIVE_SCALES) - 1) + 1
LEAST = 1e-3
"""A scale's similarity counts as no less in training: below it the gradient of its power grows without bound."""


def structural_distance(pixels: Tensor, reference: Tensor) -> Tensor:
    """Mean 1 − MS-SSIM, a float32 scalar, of two (B, 3, T, H, W) in [−1, 1] with sides of at least 97."""
    with torch.autocast(pixels.device.type, enabled=False):
        shown, wanted = ((x.float().transpose(1, 2).flatten(0, 1) + 1) / 2 for x in (pixels, reference))
        return 1 - similarity_of_scales(shown, wanted, 1.0, FIVE_SCALES, TRAINING_WINDOW, LEAST).mean()


def similarity_of_scales(
    shown: Tensor, wanted: Tensor, peak: float, weights: Sequence[float], window: int, least: float = 0.0
) -> Tensor:
    """MS-SSIM (N, 3) of each channel of two (N, 3, H, W) in 0 … `peak`, over one scale for each of `weights`, which
    are the powers; `window` taps; what a scale says counts as no less than `least`.
    """
    library = import_module(f"{pytorch_msssim().__name__}.ssim")
    taps = library._fspecial_gauss_1d(window, SIGMA).repeat(3, 1, 1, 1)
    product = shown.new_ones(shown.shape[:2])
    for scale, weight in enumerate(weights):
        whole, contrast = library._ssim(shown, wanted, data_range=peak, win=taps, size_average=False)
        last = scale == len(weights) - 1
        product = product * (whole if last else contrast).clamp(min=least) ** weight
        if not last:
            shown, wanted = (halved(pictures) for pictures in (shown, wanted))
    return product


def halved(pictures: Tensor) -> Tensor:
    """The mean of every 2×2 pixels; odd sides are padded by a row of zeros on both sides, as the library does."""
    height, width = pictures.shape[-2:]
    return functional.avg_pool2d(pictures, 2, padding=(height % 2, width % 2))


def pytorch_msssim() -> ModuleType:
    """The library. Raises MissingDependencyError."""
    try:
        import pytorch_msssim
    except ImportError as error:
        raise MissingDependencyError(
            "SSIM and MS-SSIM need the library pytorch-msssim, which is not installed; pip install "
            "'bsq[bench]', 'bsq[train]' to train by it, or 'bsq[search]' to search for codes"
        ) from error
    return pytorch_msssim
