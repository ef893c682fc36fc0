"""Classical codecs through Pillow. What enters: uint8 (H, W, 3) and a quality. What leaves: a file's bytes, and back.

Files are counted whole, byte by byte as they would lie on a disk, and hold nothing but the picture: no EXIF, colour
profile, XMP, comment or thumbnail. JPEG 2000 is written as a bare codestream; the others keep the container that
readers need (JFIF about 20 bytes, RIFF 20, AVIF boxes about 300).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from PIL import Image, features
from pydantic import Field

from bsq.errors import MissingDependencyError, SettingsError
from bsq.settings import Settings


class Codec(Protocol):
    """Something that turns pictures into files. Larger qualities give larger files."""

    name: str  # "jpeg"; names the codec's JSON file
    label: str  # "JPEG", as tables and plots write it
    description: str  # how files are written

    def qualities(self) -> Sequence[float]:
        """All settings of quality, in ascending order."""

    def encode(self, picture: np.ndarray, quality: float) -> bytes:
        """uint8 (H, W, 3) → the bytes of a file."""

    def decode(self, data: bytes) -> np.ndarray:
        """Mirror of `encode`."""


class JpegSettings(Settings):
    kind: Literal["jpeg"] = "jpeg"
    subsampling: Literal["4:2:0", "4:2:2", "4:4:4"] = "4:2:0"


class Jpeg2000Settings(Settings):
    kind: Literal["jpeg2000"] = "jpeg2000"
    wavelet: Literal["9-7", "5-3"] = "9-7"  # irreversible or reversible
    colour: Literal["ycc", "rgb"] = "ycc"  # Pillow's own default is rgb, which costs 2 dB at 0.3 bits per pixel


class WebpSettings(Settings):
    kind: Literal["webp"] = "webp"
    method: int = Field(default=6, ge=0, le=6)


class AvifSettings(Settings):
    kind: Literal["avif"] = "avif"
    speed: int = Field(default=4, ge=0, le=10)
    subsampling: Literal["4:2:0", "4:2:2", "4:4:4"] = "4:2:0"


class JpegXlSettings(Settings):
    """Needs the library pillow-jxl-plugin."""

    kind: Literal["jpegxl"] = "jpegxl"
    effort: int = Field(default=7, ge=1, le=9)


AnyClassicalSettings = JpegSettings | Jpeg2000Settings | WebpSettings | AvifSettings | JpegXlSettings
ClassicalSettings = Annotated[AnyClassicalSettings, Field(discriminator="kind")]


class PillowCodec:
    """A format that Pillow writes, with fixed options and one option that quality sets."""

    def __init__(
        self, name: str, label: str, description: str, steps: Sequence[float], options: dict[str, Any]
    ) -> None:
        self.name = name
        self.label = label
        self.description = description
        self._steps = steps
        self._options = options

    def qualities(self) -> Sequence[float]:
        return self._steps

    def encode(self, picture: np.ndarray, quality: float) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, **self._options, **self._quality_option(quality))
        return buffer.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    def _quality_option(self, quality: float) -> dict[str, Any]:
        return {"quality": int(quality)}


class Jpeg2000Codec(PillowCodec):
    """Quality is a rate in bits per pixel, which the encoder meets on its own."""

    def _quality_option(self, quality: float) -> dict[str, Any]:
        return {"quality_mode": "rates", "quality_layers": [24 / quality]}


def classical_codec(settings: AnyClassicalSettings) -> Codec:
    """The codec that `settings` describe. Raises MissingDependencyError when this machine cannot write its files."""
    match settings:
        case JpegSettings():
            options = {"format": "JPEG", "progressive": True, "optimize": True, "subsampling": settings.subsampling}
            words = f"Pillow, libjpeg-turbo, progressive, optimized, {settings.subsampling}"
            return PillowCodec("jpeg", "JPEG", words, range(1, 96), options)
        case Jpeg2000Settings():
            _need("jpg_2000", "JPEG 2000")
            options = {"format": "JPEG2000", "no_jp2": True, "irreversible": settings.wavelet == "9-7"}
            options["mct"] = int(settings.colour == "ycc")
            words = f"Pillow, OpenJPEG {features.version('jpg_2000')}, bare codestream"
            words += f", {settings.wavelet} wavelet, {settings.colour}"
            return Jpeg2000Codec("jpeg2000", "JPEG 2000", words, _rates(), options)
        case WebpSettings():
            _need("webp", "WebP")
            options = {"format": "WEBP", "method": settings.method}
            words = f"Pillow, libwebp {features.version('webp')}, method {settings.method}"
            return PillowCodec("webp", "WebP", words, range(101), options)
        case AvifSettings():
            _need("avif", "AVIF")
            options = {"format": "AVIF", "speed": settings.speed, "subsampling": settings.subsampling}
            words = f"Pillow, libavif {features.version('avif')}, speed {settings.speed}, {settings.subsampling}"
            return PillowCodec("avif", "AVIF", words, range(101), options)
        case JpegXlSettings():
            _load_jpeg_xl()
            words = f"pillow-jxl-plugin, libjxl, effort {settings.effort}"
            options = {"format": "JXL", "effort": settings.effort}
            return PillowCodec("jpegxl", "JPEG XL", words, range(1, 100), options)
        case _:
            raise SettingsError(f"no codec for {settings!r}")


@cache
def _rates() -> tuple[float, ...]:
    """Rates from 0.02 to 12 bits per pixel, half a percent apart."""
    return tuple(0.02 * 1.005**i for i in range(1283))


def _need(feature: str, label: str) -> None:
    if not features.check(feature):
        raise MissingDependencyError(f"this build of Pillow cannot write {label}; install Pillow's own wheel")


def _load_jpeg_xl() -> None:
    try:
        import pillow_jxl  # noqa: F401  importing it teaches Pillow the format
    except ImportError as error:
        raise MissingDependencyError("JPEG XL needs the library pillow-jxl-plugin; pip install it") from error
