"""Systems by name. What enters: "biscuit-s@18+prior". What leaves: a `System`.

MODEL[:DECODER][@DIGITS][+prior]    a bundled tokenizer, a folder or a hub id; +prior: real files
MODEL[:DECODER][@DIGITS]+searchN    real files whose codes N steps of search found, 0: those of the encoder
MODEL[@DIGITS]+frames               every frame of a clip alone
official:FILE[@DIGITS]              one of the authors' checkpoints
diffusers:FOLDER-OR-HUB-ID          AutoencoderKL or VQModel; diffusers:random-sd-vae for speed alone
dalle:FOLDER                        encoder.pkl and decoder.pkl
CODEC@qQUALITY | CODEC@RATEbpp      jpeg, jpeg2000, webp, avif, jpegxl; x264, x265, vp9, av1 (@crf23) for clips
CODEC@as:SYSTEM                     held to the bits of another system of the same table, picture by picture
LABEL=any of these                  a name of its own in the table
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
from bsq.bench.video.rivals import (
    AnyVideoCodecSettings,
    SvtAv1Settings,
    Vp9Settings,
    X264Settings,
    X265Settings,
    rival_codec,
)
from bsq.checkpoint.official import convert_official
from bsq.codec.shelf import named_model
from bsq.errors import CheckpointError, SettingsError
from bsq.evaluate.systems.autoencoders import open_dalle, open_diffusers, random_sd_vae
from bsq.evaluate.systems.base import System
from bsq.evaluate.systems.codecs import Aim, AtQuality, AtRate, CodecSystem, LikeSystem, PictureCoder, VideoCoder
from bsq.evaluate.systems.frames import FrameByFrame
from bsq.evaluate.systems.tokenizers import FileSystem, TokenizerSystem
from bsq.tokenizer import Tokenizer

GRAMMAR = (
    "a tokenizer (biscuit-s@18, folder@36, biscuit-s@18+prior, biscuit-s@18+search40), official:FILE@18, "
    "diffusers:FOLDER, dalle:FOLDER, or a codec with a quality, a rate or another system's bits (jpeg, jpeg2000, webp, "
    "avif, jpegxl, for clips x264, x265, vp9, av1: webp@q75, jpeg2000@0.28bpp, avif@as:biscuit-s@18, x264@crf23)"
)
RANDOM_VAE = "random-sd-vae"


@dataclass(frozen=True)
class TokenizerSpec:
    """`digits` None: all."""

    model: str
    digits: int | None
    prior: bool
    search: int | None = None


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
class CodecSpec:
    settings: AnyClassicalSettings | AnyVideoCodecSettings
    aim: Aim


@dataclass(frozen=True)
class FramesSpec:
    """Every frame of a clip goes through `spec` alone."""

    spec: TokenizerSpec


Spec = TokenizerSpec | OfficialSpec | DiffusersSpec | DalleSpec | CodecSpec | FramesSpec


@dataclass(frozen=True)
class Named:
    """A system and the name of its row."""

    label: str
    spec: Spec


def open_system(text: str, device: str = "cpu") -> System:
    """Raises SettingsError for what is no system, CheckpointError where its weights cannot be had."""
    named = parse_named(text)
    return _open(named.spec, named.label, device)


def _open(spec: Spec, name: str, device: str) -> System:
    match spec:
        case TokenizerSpec(model, digits, prior, search):
            if prior or search is not None:
                return FileSystem(name, _model(model, device), digits, search)
            return TokenizerSystem(name, _model(model, device), digits)
        case OfficialSpec(file, digits):
            return TokenizerSystem(name, convert_official(Path(file)).tokenizer.to(device), digits)
        case DiffusersSpec(source):
            return random_sd_vae(name, device) if source == RANDOM_VAE else open_diffusers(name, source, device)
        case DalleSpec(folder):
            return open_dalle(name, Path(folder), device)
        case CodecSpec(X264Settings() | X265Settings() | Vp9Settings() | SvtAv1Settings() as video, aim):
            return CodecSystem(name, VideoCoder(rival_codec(video)), aim)
        case CodecSpec(settings, aim):
            return CodecSystem(name, PictureCoder(classical_codec(settings)), aim)  # type: ignore[arg-type]
        case FramesSpec(inner):
            return FrameByFrame(_open(inner, name, device))
        case _:
            raise AssertionError(spec)


def parse_named(text: str) -> Named:
    """ "LFQ=runs/lfq@18" or a system alone, which is called as it was asked for. Raises SettingsError."""
    label, sign, rest = text.partition("=")
    if sign and label and not re.search(r"[/\\:@]", label):
        return Named(label, parse_spec(rest))
    return Named(text, parse_spec(text))


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
        return CodecSpec(codec, _aim(codec, aim, text))
    if text.endswith("+frames"):
        return FramesSpec(_tokenizer(text.removesuffix("+frames"), text))
    return _tokenizer(text, text)


def _tokenizer(text: str, whole: str) -> TokenizerSpec:
    found = re.fullmatch(r"(.*?)(\+prior)?(?:\+search(0|[1-9]\d{0,5}))?", text, re.DOTALL)
    assert found is not None  # every part may be missing
    name, prior, steps = found.groups()
    model, digits = _split_digits(name, whole)
    if not model:
        raise SettingsError(f"no system {whole!r}; there are {GRAMMAR}")
    return TokenizerSpec(model, digits, prior is not None, None if steps is None else int(steps))


def _split_digits(text: str, whole: str) -> tuple[str, int | None]:
    name, at, digits = text.rpartition("@")
    if not at:
        return text, None
    if not re.fullmatch(r"[1-9]\d{0,3}", digits):
        raise SettingsError(
            f"no system {whole!r}: behind @ stands a number of digits, then +prior, +searchN (0 to 999999 steps) or "
            "both in this order, as in biscuit-s@18 and biscuit-s@18+prior+search40"
        )
    return name, int(digits)


def _codec(name: str) -> AnyClassicalSettings | AnyVideoCodecSettings | None:
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
        case "x264":
            return X264Settings()
        case "x265":
            return X265Settings()
        case "vp9":
            return Vp9Settings()
        case "av1":
            return SvtAv1Settings()
        case _:
            return None


def _aim(settings: AnyClassicalSettings | AnyVideoCodecSettings, aim: str, whole: str) -> Aim:
    if aim.startswith("as:") and aim != "as:":
        return LikeSystem(aim.removeprefix("as:"))
    found = re.fullmatch(r"(?:q(\d+(?:\.\d+)?))|(?:crf(\d+(?:\.\d+)?))|(\d*\.?\d+)(?:bpp)?", aim)
    if found is None:
        kind = settings.kind
        raise SettingsError(
            f"no system {whole!r}: a codec needs a quality, a rate or another system: {kind}@q75 (of videos "
            f"{kind}@crf23), {kind}@0.28bpp, {kind}@as:biscuit-s@18"
        )
    quality, factor, rate = (None if number is None else float(number) for number in found.groups())
    match quality, factor, rate:
        case (float() as quality, None, None):
            return AtQuality(quality)
        case (None, float() as factor, None):
            return AtQuality(-factor)
        case (None, None, float() as rate):
            return AtRate(rate)
        case _:
            raise AssertionError(aim)


def _model(name: str, device: str) -> Tokenizer:
    try:
        return named_model(name, device)
    except CheckpointError as error:
        if Path(name).exists():
            raise
        raise CheckpointError(f"{error}. Systems are {GRAMMAR}") from error
