"""Fidelity of pixels. What enters: two batches of pixels in [−1, 1]. What leaves: one float64 number a picture.

Protocol (arXiv:2406.07548, evaluation): pixels are scaled to 0 … 255 and *not* rounded; each picture is measured on its
own, over R, G and B; callers average the numbers of pictures, not their errors. Pictures that come from files are
already whole numbers in 0 … 255, and are measured as such. Every frame of a clip counts as a picture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bsq.errors import NumericsError, ShapeError
from bsq.losses.structure import FIVE_SCALES, pytorch_msssim, similarity_of_scales

PEAK = 255.0
SSIM_MIN_SIDE = 11
MS_SSIM_MIN_SIDE = 161  # an 11-tap window on the fifth scale: (11 − 1)·2⁴ + 1
MS_SSIM_3_MIN_SIDE = 41  # and on the third: (11 − 1)·2² + 1
THREE_SCALES = FIVE_SCALES[:3]  # their weights are brought to a sum of 1


def psnr(pixels: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, 10·log10(255² / mean squared error); infinite for equal pictures.

    Takes two float (B, 3, H, W) or (B, 3, T, H, W) in [−1, 1]; returns float64 (B·T,).
    Raises ShapeError for sizes that differ or are empty, NumericsError for NaN or values outside [−1, 1].
    """
    shown, wanted = as_pictures(pixels, reference)
    errors = (shown - wanted).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(PEAK**2 / errors)


def ssim(pixels: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), at most 1: 11-tap Gaussian window, σ 1.5, no padding, mean of R, G, B.

    Takes two float (B, 3, H, W) or (B, 3, T, H, W) in [−1, 1] with sides of at least 11; returns float64 (B·T,).
    """
    shown, wanted = as_pictures(pixels, reference)
    _check_side(shown, SSIM_MIN_SIDE, "SSIM")
    return pytorch_msssim().ssim(shown, wanted, data_range=PEAK, size_average=False)


def ms_ssim(pixels: Tensor, reference: Tensor) -> Tensor:
    """Multi-scale structural similarity (Wang et al. 2003) over five scales, 0 … 1, `pytorch_msssim` defaults.

    Takes two float (B, 3, H, W) or (B, 3, T, H, W) in [−1, 1] with sides of at least 161; returns float64 (B·T,).
    """
    shown, wanted = as_pictures(pixels, reference)
    _check_side(shown, MS_SSIM_MIN_SIDE, "MS-SSIM")
    return pytorch_msssim().ms_ssim(shown, wanted, data_range=PEAK, size_average=False)


def ms_ssim_3(pixels: Tensor, reference: Tensor) -> Tensor:
    """MS-SSIM over the first three of its five scales, their weights divided by their sum; for small pictures.

    Its numbers are not to be set beside those of five scales. Takes two float (B, 3, H, W) or (B, 3, T, H, W) in
    [−1, 1] with sides of at least 41; returns float64 (B·T,).
    """
    shown, wanted = as_pictures(pixels, reference)
    _check_side(shown, MS_SSIM_3_MIN_SIDE, "MS-SSIM-3")
    # The library's own function takes `weights`, but asks for room for five scales whatever their number.
    weights = [weight / sum(THREE_SCALES) for weight in THREE_SCALES]
    return similarity_of_scales(shown, wanted, PEAK, weights, SSIM_MIN_SIDE).mean(1)


def decibels(similarity: float) -> float:
    """A similarity in 0 … 1 as −10·log10(1 − similarity) dB; infinite at 1. Used for MS-SSIM."""
    return math.inf if similarity >= 1 else -10 * math.log10(1 - similarity)


def as_pictures(pixels: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both batches as float64 (B·T, 3, H, W) in 0 … 255, checked."""
    if pixels.shape != reference.shape:
        raise ShapeError(f"pictures and their references differ in size: {_size(pixels)} and {_size(reference)}")
    if pixels.ndim not in (4, 5) or pixels.shape[1] != 3 or 0 in pixels.shape:
        raise ShapeError(f"expected pixels (B, 3, H, W) or (B, 3, T, H, W), none of them empty; got {_size(pixels)}")
    return to_255(pixels), to_255(reference)


def to_255(pixels: Tensor) -> Tensor:
    """Pixels in [−1, 1] as float64 (B·T, 3, H, W) in 0 … 255. Raises ShapeError or NumericsError."""
    if not pixels.is_floating_point():
        raise ShapeError(f"expected floating-point pixels in [-1, 1], got {pixels.dtype}")
    low, high = (float(x) for x in torch.aminmax(pixels.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise NumericsError("pixels hold NaN or infinity")
    if low < -1.001 or high > 1.001:
        raise NumericsError(f"pixels must lie in [-1, 1], got {low:.4g} to {high:.4g}; scale or clamp them first")
    if pixels.ndim == 5:
        pixels = pixels.transpose(1, 2).flatten(0, 1)
    # float64, so that a picture's number does not depend on the batch it is in
    return (pixels.detach().double() + 1) * (PEAK / 2)


def _check_side(pictures: Tensor, least: int, measure: str) -> None:
    height, width = pictures.shape[-2:]
    if min(height, width) < least:
        raise ShapeError(f"{measure} needs pictures of at least {least} pixels a side, got {height}×{width}")


def _size(pixels: Tensor) -> str:
    return str(tuple(pixels.shape))
