"""Quantizers. What enters: settings of one kind. What leaves: a module from latents to codes (`base.Quantizer`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bsq.errors import SettingsError
from bsq.quantizers.base import Quantized, Quantizer, QuantizerTerms
from bsq.quantizers.bsq import BSQ, BsqSettings
from bsq.quantizers.fsq import FSQ, FsqSettings
from bsq.quantizers.gumbel import Gumbel, GumbelSettings
from bsq.quantizers.kl import KL, KlSettings
from bsq.quantizers.lfq import LFQ, LfqSettings
from bsq.quantizers.vq import VQ, VqSettings

QuantizerSettings = Annotated[
    BsqSettings | LfqSettings | FsqSettings | VqSettings | GumbelSettings | KlSettings, Field(discriminator="kind")
]


def build_quantizer(settings: QuantizerSettings) -> Quantizer:
    """The quantizer that `settings` describe."""
    match settings:
        case BsqSettings():
            return BSQ(settings)
        case LfqSettings():
            return LFQ(settings)
        case FsqSettings():
            return FSQ(settings)
        case VqSettings():
            return VQ(settings)
        case GumbelSettings():
            return Gumbel(settings)
        case KlSettings():
            return KL(settings)
        case _:
            raise TypeError(f"no quantizer for {type(settings).__name__}")


def corner_of(quantizer: Quantizer, asking: str) -> float:
    """The size of one digit in the code. Raises SettingsError, in the name of what is `asking`, for a quantizer whose
    digits are not binary.
    """
    match quantizer:
        case BSQ(corner=corner):
            return corner
        case LFQ():
            return 1.0
        case _:
            raise SettingsError(f"{asking} needs binary digits, of bsq and lfq; {type(quantizer).__name__} has others")


__all__ = [
    "BSQ",
    "FSQ",
    "KL",
    "LFQ",
    "VQ",
    "BsqSettings",
    "FsqSettings",
    "Gumbel",
    "GumbelSettings",
    "KlSettings",
    "LfqSettings",
    "Quantized",
    "Quantizer",
    "QuantizerSettings",
    "QuantizerTerms",
    "VqSettings",
    "build_quantizer",
    "corner_of",
]
