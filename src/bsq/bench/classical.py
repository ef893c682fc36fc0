"""Classical codecs through Pillow. What enters: uint8 (H, W, 3) and a quality. What leaves: a file's bytes, and back.

Files are written whole and read again from what was written; they hold nothing but the picture: no EXIF, colour
profile, XMP, comment or thumbnail. What they are charged for is their coded data alone (`bench/elementary.py`): JFIF
(18 bytes), RIFF (20) and AVIF's boxes (about 300) cost them nothing; JPEG 2000 and JPEG XL are bare codestreams.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from PIL import AvifImagePlugin, Image, features
from pydantic import Field

from bsq.bench.elementary import avif_stream, jpeg_stream, jpeg_xl_stream, webp_stream
from bsq.errors import MediaError, MissingDependencyError, SettingsError
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

    def charged(self, data: bytes) -> int:
        """The bytes of a file that count."""


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
        self,
        name: str,
        label: str,
        description: str,
        steps: Sequence[float],
        options: dict[str, Any],
        stream: Callable[[bytes], bytes] = bytes,
    ) -> None:
        """`stream` takes the coded data out of a file."""
        self.name = name
        self.label = label
        self.description = description
        self._steps = steps
        self._options = options
        self._stream = stream

    def qualities(self) -> Sequence[float]:
        return self._steps

    def encode(self, picture: np.ndarray, quality: float) -> bytes:
        """Raises MediaError for pictures that the format cannot hold."""
        buffer = io.BytesIO()
        try:
            Image.fromarray(picture).save(buffer, **self._options, **self._quality_option(quality))
        except (OSError, ValueError, RuntimeError) as error:
            height, width, _ = picture.shape
            raise MediaError(f"{self.label} cannot hold {width}×{height} pixels: {error}") from error
        return buffer.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    def charged(self, data: bytes) -> int:
        return len(self._stream(data))

    def _quality_option(self, quality: float) -> dict[str, Any]:
        return {"quality": quality}


class Jpeg2000Codec(PillowCodec):
    """Quality is a rate in bits per pixel, which the encoder meets on its own."""

    def _quality_option(self, quality: float) -> dict[str, Any]:
        return {"quality_mode": "rates", "quality_layers": [24 / quality]}


class ThreadedCodec(PillowCodec):
    """A format whose Pillow plugin `module` keeps the threads of its decoder in a global number `name`."""

    def read_with(self, module: ModuleType, name: str, threads: int) -> ThreadedCodec:
        """This codec, decoding with so many threads."""
        self._reader = (module, name, threads)
        return self

    def decode(self, data: bytes) -> np.ndarray:
        with _lent(*self._reader):
            return super().decode(data)


def classical_codec(settings: AnyClassicalSettings, threads: int = 1) -> Codec:
    """The codec that `settings` describe, on so many threads at most.

    Raises MissingDependencyError when this machine cannot write its files.
    """
    match settings:
        case JpegSettings():
            options = {"format": "JPEG", "progressive": True, "optimize": True, "subsampling": settings.subsampling}
            turbo = (
                f"libjpeg-turbo {features.version('libjpeg_turbo')}" if features.check("libjpeg_turbo") else "libjpeg"
            )
            words = f"Pillow, {turbo}, progressive, optimized, {settings.subsampling}"
            return PillowCodec("jpeg", "JPEG", words, range(1, 96), options, jpeg_stream)
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
            return PillowCodec("webp", "WebP", words, _cubes(), options, webp_stream)
        case AvifSettings():
            return _avif(settings, threads)
        case JpegXlSettings():
            return _jpeg_xl(settings, threads)
        case _:
            raise SettingsError(f"no codec for {settings!r}")


def _avif(settings: AvifSettings, threads: int) -> Codec:
    _need("avif", "AVIF")
    options = {"format": "AVIF", "speed": settings.speed, "subsampling": settings.subsampling, "max_threads": threads}
    encoder = (
        f"aom {AvifImagePlugin.get_codec_version('aom')}" if AvifImagePlugin.get_codec_version("aom") else "its encoder"
    )
    words = f"Pillow, libavif {features.version('avif')}, {encoder}, speed {settings.speed}, {settings.subsampling}"
    codec = ThreadedCodec("avif", "AVIF", words, _avif_qualities(), options, avif_stream)
    return codec.read_with(AvifImagePlugin, "DEFAULT_MAX_THREADS", threads)


def _jpeg_xl(settings: JpegXlSettings, threads: int) -> Codec:
    plugin = _jpeg_xl_plugin()
    workers = threads if threads > 1 else 0  # 0: none but the caller
    options = {"format": "JXL", "effort": settings.effort, "num_threads": workers}
    words = f"pillow-jxl-plugin {version('pillow-jxl-plugin')} (libjxl), effort {settings.effort}, bare codestream"
    codec = ThreadedCodec("jpegxl", "JPEG XL", words, _quarters(), options, jpeg_xl_stream)
    return codec.read_with(plugin, "DECODE_THREADS", workers)


@contextmanager
def _lent(module: ModuleType, name: str, value: int) -> Iterator[None]:
    """A global of another library, for a moment."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _avif_qualities() -> tuple[int, ...]:
    """The smallest whole number for each of libavif's 64 quantizers; those between write the same files."""
    quantizers = {((100 - quality) * 63 + 50) // 100: quality for quality in range(100, -1, -1)}
    return tuple(sorted(quantizers.values()))


def _cubes() -> tuple[float, ...]:
    """0 … 100: libwebp quantizes by the cube root of quality, so whole numbers are 45 % apart in small files."""
    return tuple(100 * (i / 250) ** 3 for i in range(251))


def _quarters() -> tuple[float, ...]:
    """0 … 99 by quarters, since whole numbers are some per cent apart."""
    return tuple(i / 4 for i in range(397))


@cache
def _rates() -> tuple[float, ...]:
    """Rates from 0.02 to 12 bits per pixel, half a percent apart."""
    return tuple(0.02 * 1.005**i for i in range(1283))


def _need(feature: str, label: str) -> None:
    if not features.check(feature):
        raise MissingDependencyError(f"this build of Pillow cannot write {label}; install Pillow's own wheel")


def has_jpeg_xl() -> bool:
    """Whether JPEG XL's optional library is installed."""
    return find_spec("pillow_jxl") is not None


def _jpeg_xl_plugin() -> ModuleType:
    try:
        from pillow_jxl import JpegXLImagePlugin  # importing it teaches Pillow the format
    except ImportError as error:
        raise MissingDependencyError(
            "JPEG XL needs the library pillow-jxl-plugin; pip install 'bsq[jpegxl]'"
        ) from error
    return JpegXLImagePlugin
