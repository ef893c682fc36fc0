"""Measures. What enters: pixels, codes, byte counts. What leaves: numbers in frozen dataclasses."""

from bsq.metrics.pixel import decibels, ms_ssim, ms_ssim_3, psnr, ssim
from bsq.metrics.rate import Rate, RateMeter, bits_per_pixel, raw_bits_per_pixel
from bsq.metrics.reconstruction import ReconstructionMeter, ReconstructionScores
from bsq.metrics.usage import CodeUse, CodeUseMeter

__all__ = [
    "CodeUse",
    "CodeUseMeter",
    "Rate",
    "RateMeter",
    "ReconstructionMeter",
    "ReconstructionScores",
    "bits_per_pixel",
    "decibels",
    "ms_ssim",
    "ms_ssim_3",
    "psnr",
    "raw_bits_per_pixel",
    "ssim",
]
