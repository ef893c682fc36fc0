"""Pictures ↔ `.bsq` streams: the one door between them. What enters: a picture, or bytes. What leaves: the other.

The header carries the picture's own size, so that the padding to whole patches is cut off exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bsq.codec.header import Limits, StreamInfo
from bsq.codec.shelf import DEFAULT_MODEL, find_model, name_of, named_model, priors_for
from bsq.codec.stream import check_tokenizer, inspect, read_codes, short_hash, write_codes
from bsq.data.pictures import Source, open_picture, to_pixels, to_uint8
from bsq.errors import MediaError
from bsq.prior.base import Prior
from bsq.tokenizer import Tokenizer


def compress(
    picture: Source | np.ndarray,
    tokenizer: Tokenizer | str | Path = DEFAULT_MODEL,
    bits: int | None = None,
    prior: Prior | None = None,
) -> bytes:
    """A picture → the bytes of a `.bsq` stream.

    Args:
        picture: uint8 (H, W, 3), or what `open_picture` takes: a path, a picture file's bytes or a binary file.
        tokenizer: a tokenizer, or the name, folder or hub id of one.
        bits: keep the first `bits` digits of each code, 1 … L; default all.
        prior: what drives the entropy coder; default the best one there is for this tokenizer.

    Raises:
        MediaError, LimitError: the picture. SettingsError: `bits`. CheckpointError: the tokenizer's name.
    """
    pixels = to_pixels(picture if isinstance(picture, np.ndarray) else open_picture(picture))
    model = tokenizer if isinstance(tokenizer, Tokenizer) else named_model(tokenizer)
    codes = model.encode(pixels, bits)
    height, width = pixels.shape[-2:]
    info = describe(model, height, width, codes.length)
    return write_codes(codes, info, prior or priors_for(model)[0])


def decompress(
    data: bytes,
    tokenizer: Tokenizer | str | Path | None = None,
    device: str = "cpu",
    limits: Limits | None = None,
    priors: Sequence[Prior] = (),
) -> np.ndarray:
    """Mirror of `compress`: the bytes of a `.bsq` stream → uint8 (H, W, 3), in the size that was compressed.

    Args:
        data: a whole stream.
        tokenizer: needed only for streams of models that are not bundled.
        device: where a tokenizer that is not given as an object computes.
        limits: what to refuse before anything is allocated.
        priors: further priors that may have written it, besides the tokenizer's own.

    Raises:
        A `StreamError`, each cause its own (`errors.py`); WrongModelError if another tokenizer wrote the stream.
        MediaError: a path in place of bytes, or a stream of a video.
    """
    if isinstance(data, str | Path):
        raise MediaError(f"a stream is bytes, got {type(data).__name__}; Path({str(data)!r}).read_bytes() reads a file")
    info = inspect(data, limits).info
    match tokenizer:
        case None:
            model = find_model(info, device)
        case Tokenizer():
            model = tokenizer
        case _:
            model = named_model(tokenizer, device)
    check_tokenizer(info, model.code_hash)
    check_kind(info)
    codes = read_codes(data, (*priors, *priors_for(model)), limits).codes
    return to_uint8(model.decode(codes, (info.height, info.width)))


def verify(data: bytes, tokenizer: Tokenizer) -> None:
    """Read a stream back to its codes. Its closing digest is that of the codes encoded, so a difference is an error."""
    read_codes(data, priors_for(tokenizer))


def describe(model: Tokenizer, height: int, width: int, kept: int) -> StreamInfo:
    """What the header says of a picture's codes by this tokenizer."""
    least_rows, least_columns = model.grid(1, 1)
    return StreamInfo(
        height=height,
        width=width,
        patch=model.patch,
        radices=model.radices,
        kept=kept,
        code_hash=short_hash(model.code_hash),
        tokenizer=name_of(model),
        least_rows=least_rows,
        least_columns=least_columns,
    )


def check_kind(info: StreamInfo) -> None:
    if info.kind != "picture":
        raise MediaError(f"the stream holds a {info.kind} of {info.frames} frames; only pictures can be decoded here")
