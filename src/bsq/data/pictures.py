"""Picture files and arrays. What enters: a file of any kind Pillow reads. What leaves: uint8 RGB; pixels in [−1, 1].

How pictures are converted (README.md repeats it for users): the EXIF orientation is applied; an embedded colour profile
is converted to sRGB; grey, palette, 1-bit, CMYK, Lab and YCbCr become RGB; 16-bit values are scaled (÷ 257, rounded),
not clipped; transparency is laid over white; of an animation or a file of many pages the first frame is taken.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

from bsq.data.files import Existing, plain_reason, write_file
from bsq.errors import LimitError, MediaError, NumericsError, ShapeError

MAX_PIXELS = 200_000_000
"""Pictures of more pixels are refused unless the caller raises the limit: a small file can claim any size."""

PICTURE_SUFFIXES = frozenset(
    f".{kind}"
    for kind in (
        *("avif", "bmp", "dib", "gif", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpg"),
        *("pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
"""What counts as a picture when a folder is searched. A file named outright may have any suffix."""

Source = str | os.PathLike[str] | bytes | BinaryIO


@dataclass(frozen=True, eq=False)
class Picture:
    """`pixels` uint8 (H, W, 3), sRGB; `notes` say in plain words what was left out or guessed."""

    pixels: np.ndarray
    notes: tuple[str, ...]


def open_picture(source: Source, limit: int = MAX_PIXELS) -> np.ndarray:
    """uint8 RGB (H, W, 3) of a path, bytes or binary file; notes become Python warnings. Errors as `read_picture`."""
    picture = read_picture(source, limit)
    for note in picture.notes:
        warnings.warn(f"{name_of(source)}: {note}", stacklevel=2)
    return picture.pixels


def read_picture(source: Source, limit: int = MAX_PIXELS) -> Picture:
    """Read a path, bytes or binary file, converted as the head of this module says.

    Raises MediaError if it cannot be read (missing, empty, truncated, no picture) and LimitError if it has more than
    `limit` pixels.
    """
    name, data = name_of(source), read_bytes(source)
    if not data:
        raise MediaError(f"{name} is empty, 0 bytes")
    notes: list[str] = []
    try:
        with lifted_bomb_check():
            image = Image.open(io.BytesIO(data))
        with image:
            check_size(image.size, limit)
            note_frames(image, notes)
            image.load()
            pixels = convert(image, notes)
    except Image.UnidentifiedImageError as error:
        raise MediaError(f"{name} is not a picture, or not of a kind that Pillow can read") from error
    except (LimitError, MediaError) as error:
        raise type(error)(f"{name} {error}") from error.__cause__
    except MemoryError as error:
        raise MediaError(f"{name} does not fit into memory") from error
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
        raise MediaError(f"{name} is damaged or truncated: {str(error).strip() or type(error).__name__}") from error
    return Picture(pixels, tuple(notes))


def to_pixels(picture: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) → float32 pixels (1, 3, H, W) in [−1, 1]."""
    check_picture(picture)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float().div_(127.5).sub_(1)


def to_uint8(pixels: Tensor) -> np.ndarray:
    """Mirror of `to_pixels`: pixels (1, 3, H, W) or (1, 3, 1, H, W) → uint8 (H, W, 3), rounded, clamped to 0 … 255."""
    if pixels.ndim == 5 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim != 4 or pixels.shape[:2] != (1, 3):
        raise ShapeError(f"pixels must be (1, 3, H, W) or (1, 3, 1, H, W), got {tuple(pixels.shape)}")
    levels = pixels[0].detach().float().add(1).mul_(127.5).round_()
    if not bool(torch.isfinite(levels).all()):
        raise NumericsError("pixels contain NaN or infinity")
    return np.ascontiguousarray(levels.clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def save_picture(path: str | os.PathLike[str], picture: np.ndarray, existing: Existing = Existing.REFUSE) -> None:
    """Write uint8 (H, W, 3) in the format of the path's suffix: `encode_picture`, then `write_file`."""
    write_file(path, encode_picture(picture, Path(path).suffix), existing)


def check_format(suffix: str) -> None:
    """Raises MediaError for a suffix that `encode_picture` does not know."""
    known = "png jpg jpeg webp avif tif tiff bmp ppm"
    if suffix.lower() not in {f".{name}" for name in known.split()}:
        raise MediaError(f"cannot write pictures as '{suffix or 'no suffix'}'; known: {known}")


def encode_picture(picture: np.ndarray, suffix: str = ".png") -> bytes:
    """The bytes of a picture file. JPEG and AVIF are lossy (quality 95); PNG, WebP, TIFF, BMP, PPM keep every value.

    Raises MediaError for any other suffix, and if the format cannot hold a picture of this size.
    """
    check_picture(picture)
    check_format(suffix)
    image, buffer = Image.fromarray(picture), io.BytesIO()
    try:
        match suffix.lower():
            case ".png":
                image.save(buffer, "PNG")
            case ".jpg" | ".jpeg":
                image.save(buffer, "JPEG", quality=95, subsampling=0)
            case ".webp":
                image.save(buffer, "WEBP", lossless=True)
            case ".avif":
                image.save(buffer, "AVIF", quality=95, subsampling="4:4:4")
            case ".tif" | ".tiff":
                image.save(buffer, "TIFF", compression="tiff_adobe_deflate")
            case ".bmp":
                image.save(buffer, "BMP")
            case ".ppm":
                image.save(buffer, "PPM")
            case _:
                raise AssertionError(suffix)
    except (OSError, ValueError, KeyError) as error:
        raise MediaError(f"cannot write {image.width}×{image.height} as {suffix}: {error}") from error
    return buffer.getvalue()


# Reading, step by step


def name_of(source: Source, nameless: str = "the picture") -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", nameless))


def read_bytes(source: Source) -> bytes:
    """All of a file, by path or open, or the bytes themselves. Raises MediaError."""
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | os.PathLike) and not hasattr(source, "read"):
        kind = type(source).__name__
        raise MediaError(f"a picture is uint8 (H, W, 3), a path, bytes or a binary file; got {kind}")
    try:
        if isinstance(source, str | os.PathLike):
            return Path(source).read_bytes()
        return source.read()
    except OSError as error:
        raise MediaError(f"cannot read {name_of(source)}: {plain_reason(error)}") from error


_bomb_check = threading.RLock()


@contextmanager
def lifted_bomb_check() -> Iterator[None]:
    """Pillow's own limit is one global number for the process; ours is checked per picture, before any decoding."""
    with _bomb_check:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def check_size(size: tuple[int, int], limit: int) -> None:
    """Raises MediaError for no pixels, LimitError for more than `limit`, of (width, height)."""
    width, height = size
    if width < 1 or height < 1:
        raise MediaError(f"has no pixels: {width}×{height}")
    if width * height > limit:
        raise LimitError(
            f"has {width}×{height} = {width * height:,} pixels, the limit is {limit:,}; "
            "if you trust it, raise the limit (--max-pixels, or limit= in Python)"
        )


def note_frames(image: Image.Image, notes: list[str]) -> None:
    """MPO is how phones write plain photographs; its second frame is a preview that nobody misses."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        notes.append(f"has {frames} frames; only the first is used")


def convert(image: Image.Image, notes: list[str]) -> np.ndarray:
    """A loaded Pillow image of any mode → uint8 (H, W, 3)."""
    turn = orientation(image)
    profile = image.info.get("icc_profile")
    image = eight_bits(image)
    image, alpha = split_alpha(image)
    image = to_srgb(image, profile, notes)
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    if turn is not None:
        image = image.transpose(turn)
    return np.array(image, dtype=np.uint8)


ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> Image.Transpose | None:
    """The turn that EXIF asks for. Broken EXIF is common and says nothing about the pixels, so it counts as none."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:
        return None


def eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey (modes I, I;16…) ÷ 257 and float grey in [0, 1] × 255, rounded → L; other modes as they are."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise MediaError("holds floating-point values outside 0 … 1; save it as 8 or 16 bits first")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    values = values.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise MediaError("holds 32-bit integers beyond 0 … 65535; save it as 8 or 16 bits first")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The image without transparency, and its alpha (L), if any pixel of it is not opaque."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "RGBa" or (image.has_transparency_data and image.mode != "LA"):
        image = image.convert("RGBA")
    if image.mode not in ("LA", "RGBA"):
        return image, None
    alpha = image.getchannel("A")
    return image.convert(image.mode[:-1]), alpha if alpha.getextrema()[0] != 255 else None


def to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """RGB in sRGB through the embedded profile; without one, values are taken as sRGB (CMYK: the plain formula)."""
    if image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    try:
        if image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        else:
            return image.convert("RGB")
        if image.mode == "RGB" and "sRGB" in (source.profile.profile_description or ""):
            return image
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        if image.mode == "LAB":
            raise MediaError("is in Lab colour, which needs a Pillow built with LittleCMS") from error
        notes.append("its colour profile cannot be read; colours are taken as sRGB")
        return image.convert("RGB")
    assert converted is not None
    return converted


def check_picture(picture: np.ndarray) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise ShapeError(f"a picture must be uint8 (H, W, 3), got {picture.dtype} {tuple(picture.shape)}")
