"""Quantizers. What enters: settings of one kind. What leaves: a module from latents to codes (`base.Quantizer`)."""

from __future__ import annotations

from bsq.quantizers.base import Quantized, Quantizer, QuantizerTerms
from bsq.quantizers.bsq import BSQ, BsqSettings

QuantizerSettings = BsqSettings


def build_quantizer(settings: QuantizerSettings) -> Quantizer:
    """The quantizer that `settings` describe."""
    match settings:
        case BsqSettings():
            return BSQ(settings)
        case _:
            raise TypeError(f"no quantizer for {type(settings).__name__}")


__all__ = ["BSQ", "BsqSettings", "Quantized", "Quantizer", "QuantizerSettings", "QuantizerTerms", "build_quantizer"]
