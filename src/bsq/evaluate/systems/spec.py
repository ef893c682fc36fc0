"""Systems by name. What enters: "biscuit-s@18+prior". What leaves: a `System`.

MODEL[@DIGITS][+prior]              a bundled tokenizer, a folder or a hub id; +prior: real files
official:FILE[@DIGITS]              one of the authors' checkpoints
diffusers:FOLDER-OR-HUB-ID          AutoencoderKL or VQModel; diffusers:random-sd-vae for speed alone
dalle:FOLDER                        encoder.pkl and decoder.pkl
CODEC@qQUALITY | CODEC@RATEbpp      jpeg, jpeg2000, webp, avif, jpegxl
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bsq.bench.classical import (
    AnyClassicalSettings,
    AvifSettings,
    Jpeg2000Settings,
    JpegSettings,
    JpegXlSettings,
    WebpSettings,
    classical_codec,
)
from bsq.checkpoint.official import convert_official
from bsq.codec.shelf import named_model
from bsq.errors import CheckpointError, SettingsError
from bsq.evaluate.systems.autoencoders import open_dalle, open_diffusers, random_sd_vae
from bsq.evaluate.systems.base import System
from bsq.evaluate.systems.classical import ClassicalSystem
from bsq.evaluate.systems.tokenizers import FileSystem, TokenizerSystem
from bsq.tokenizer import Tokenizer

GRAMMAR = (
    "a tokenizer (biscuit-s@18, folder@36, biscuit-s@18+prior), official:FILE@18, diffusers:FOLDER, dalle:FOLDER, or a "
    "codec with a quality or a rate (jpeg, jpeg2000, webp, avif, jpegxl: webp@q75, jpeg2000@0.28bpp)"
)
RANDOM_VAE = "random-sd-vae"


@dataclass(frozen=True)
class TokenizerSpec:
    """`digits` None: all."""

    model: str
    digits: int | None
    prior: bool


@dataclass(frozen=True)
class OfficialSpec:
    file: str
    digits: int | None


@dataclass(frozen=True)
class DiffusersSpec:
    source: str


@dataclass(frozen=True)
class DalleSpec:
    folder: str


@dataclass(frozen=True)
class ClassicalSpec:
    settings: AnyClassicalSettings
    quality: float | None
    rate: float | None


Spec = TokenizerSpec | OfficialSpec | DiffusersSpec | DalleSpec | ClassicalSpec


def open_system(text: str, device: str = "cpu") -> System:
    """Raises SettingsError for what is no system, CheckpointError where its weights cannot be had."""
    match parse_spec(text):
        case TokenizerSpec(model, digits, prior):
            kind = FileSystem if prior else TokenizerSystem
            return kind(text, _model(model, device), digits)
        case OfficialSpec(file, digits):
            return TokenizerSystem(text, convert_official(Path(file)).tokenizer.to(device), digits)
        case DiffusersSpec(source):
            return random_sd_vae(text, device) if source == RANDOM_VAE else open_diffusers(text, source, device)
        case DalleSpec(folder):
            return open_dalle(text, Path(folder), device)
        case ClassicalSpec(settings, quality, rate):
            return ClassicalSystem(text, classical_codec(settings), quality, rate)
        case other:
            raise AssertionError(other)


def parse_spec(text: str) -> Spec:
    """Raises SettingsError."""
    head, _, rest = text.partition(":")
    match head if rest else "":
        case "diffusers":
            return DiffusersSpec(rest)
        case "dalle":
            return DalleSpec(rest)
        case "official":
            name, digits = _split_digits(rest, text)
            return OfficialSpec(name, digits)
    name, _, aim = text.partition("@")
    codec = _codec(name)
    if codec is not None:
        return _classical(codec, aim, text)
    prior = text.endswith("+prior")
    model, digits = _split_digits(text.removesuffix("+prior"), text)
    if not model:
        raise SettingsError(f"no system {text!r}; there are {GRAMMAR}")
    return TokenizerSpec(model, digits, prior)


def _split_digits(text: str, whole: str) -> tuple[str, int | None]:
    name, at, digits = text.rpartition("@")
    if not at:
        return text, None
    if not re.fullmatch(r"[1-9]\d{0,3}", digits):
        raise SettingsError(f"no system {whole!r}: behind @ stands a number of digits, as in biscuit-s@18")
    return name, int(digits)


def _codec(name: str) -> AnyClassicalSettings | None:
    match name:
        case "jpeg":
            return JpegSettings()
        case "jpeg2000":
            return Jpeg2000Settings()
        case "webp":
            return WebpSettings()
        case "avif":
            return AvifSettings()
        case "jpegxl":
            return JpegXlSettings()
        case _:
            return None


def _classical(settings: AnyClassicalSettings, aim: str, whole: str) -> ClassicalSpec:
    found = re.fullmatch(r"q(\d+(?:\.\d+)?)|(\d*\.?\d+)(?:bpp)?", aim)
    if found is None:
        raise SettingsError(
            f"no system {whole!r}: a codec needs a quality or a rate, as {settings.kind}@q75 or {settings.kind}@0.28bpp"
        )
    quality, rate = (None if number is None else float(number) for number in found.groups())
    return ClassicalSpec(settings, quality, rate)


def _model(name: str, device: str) -> Tokenizer:
    try:
        return named_model(name, device)
    except CheckpointError as error:
        raise CheckpointError(f"{error}. Systems are {GRAMMAR}") from error
