"""Measures. What enters: pixels, codes, byte counts. What leaves: numbers in frozen dataclasses."""

from bsq.metrics.distribution import DistributionMeter, DistributionScores, Draws, FrechetMeter, FrechetScores
from bsq.metrics.features import FeatureNetwork, Features, Levels, NetworkIdentity
from bsq.metrics.frechet import Covariance, Gaussian, GaussianStatistics, frechet_distance
from bsq.metrics.inception_score import InceptionScore, inception_score
from bsq.metrics.joint import JointUse, JointUseMeter
from bsq.metrics.kernel import KernelDistance, kernel_distance, kernel_distance_of_subsets
from bsq.metrics.manifold import PrecisionRecall, precision_recall
from bsq.metrics.networks import (
    GivenFeatures,
    InceptionFeatures,
    Resizing,
    ScriptedInceptionFeatures,
    SqueezeNetFeatures,
)
from bsq.metrics.pixel import decibels, ms_ssim, psnr, ssim
from bsq.metrics.rate import Rate, RateMeter, bits_per_pixel, raw_bits_per_pixel
from bsq.metrics.reconstruction import ReconstructionMeter, ReconstructionScores
from bsq.metrics.reference import ReferenceStatistics, load_statistics, save_statistics
from bsq.metrics.usage import CodeUse, CodeUseMeter
from bsq.metrics.video import FrameFeatures, I3DFeatures

__all__ = [
    "CodeUse",
    "CodeUseMeter",
    "Covariance",
    "DistributionMeter",
    "DistributionScores",
    "Draws",
    "FeatureNetwork",
    "Features",
    "FrameFeatures",
    "FrechetMeter",
    "FrechetScores",
    "Gaussian",
    "GaussianStatistics",
    "GivenFeatures",
    "I3DFeatures",
    "InceptionFeatures",
    "InceptionScore",
    "JointUse",
    "JointUseMeter",
    "KernelDistance",
    "Levels",
    "NetworkIdentity",
    "PrecisionRecall",
    "Rate",
    "RateMeter",
    "ReconstructionMeter",
    "ReconstructionScores",
    "ReferenceStatistics",
    "Resizing",
    "ScriptedInceptionFeatures",
    "SqueezeNetFeatures",
    "bits_per_pixel",
    "decibels",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "kernel_distance_of_subsets",
    "load_statistics",
    "ms_ssim",
    "precision_recall",
    "psnr",
    "raw_bits_per_pixel",
    "save_statistics",
    "ssim",
]
