"""Measures. What enters: pixels, codes, byte counts. What leaves: numbers in frozen dataclasses."""

from bsq.metrics.distribution import DistributionMeter, DistributionScores, Measure
from bsq.metrics.features import (
    FeatureNetwork,
    Features,
    InceptionNetwork,
    Rounding,
    ScriptInception,
    ScriptNetwork,
    SqueezeNetwork,
)
from bsq.metrics.frechet import GaussianStatistics, Moments, frechet_distance, load_moments, save_moments
from bsq.metrics.given import ModuleNetwork
from bsq.metrics.inception_score import InceptionScore, inception_score
from bsq.metrics.joint import JointEntropy, JointEntropyMeter
from bsq.metrics.kernel import KernelDistance, kernel_distance
from bsq.metrics.manifold import PrecisionRecall, precision_recall
from bsq.metrics.pixel import decibels, ms_ssim, ms_ssim_3, psnr, ssim
from bsq.metrics.rate import Rate, RateMeter, bits_per_pixel, raw_bits_per_pixel
from bsq.metrics.reconstruction import ReconstructionMeter, ReconstructionScores
from bsq.metrics.usage import CodeUse, CodeUseMeter
from bsq.metrics.video import ClipNetwork, I3DNetwork, SqueezeClips, VideoMeter, VideoScores

__all__ = [
    "ClipNetwork",
    "CodeUse",
    "CodeUseMeter",
    "DistributionMeter",
    "DistributionScores",
    "FeatureNetwork",
    "Features",
    "GaussianStatistics",
    "I3DNetwork",
    "InceptionNetwork",
    "InceptionScore",
    "JointEntropy",
    "JointEntropyMeter",
    "KernelDistance",
    "Measure",
    "ModuleNetwork",
    "Moments",
    "PrecisionRecall",
    "Rate",
    "RateMeter",
    "ReconstructionMeter",
    "ReconstructionScores",
    "Rounding",
    "ScriptInception",
    "ScriptNetwork",
    "SqueezeClips",
    "SqueezeNetwork",
    "VideoMeter",
    "VideoScores",
    "bits_per_pixel",
    "decibels",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "load_moments",
    "ms_ssim",
    "ms_ssim_3",
    "precision_recall",
    "psnr",
    "raw_bits_per_pixel",
    "save_moments",
    "ssim",
]
