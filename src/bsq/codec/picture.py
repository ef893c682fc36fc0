"""Pictures ↔ `.bsq` streams: the one door between them. What enters: a picture, or bytes. What leaves: the other.

The header carries the picture's own size, so that the padding to whole patches is cut off exactly.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from bsq.checkpoint import bundled_models, load
from bsq.codec.header import Limits, StreamInfo
from bsq.codec.stream import check_tokenizer, inspect, read_codes, short_hash, write_codes
from bsq.data.pictures import Source, open_picture, to_pixels, to_uint8
from bsq.errors import MediaError, WrongModelError
from bsq.prior.base import Prior
from bsq.prior.uniform import UniformPrior
from bsq.tokenizer import Tokenizer

DEFAULT_MODEL = "biscuit-s"


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
) -> np.ndarray:
    """Mirror of `compress`: the bytes of a `.bsq` stream → uint8 (H, W, 3), in the size that was compressed.

    Args:
        data: a whole stream.
        tokenizer: needed only for streams of models that are not bundled.
        device: where a tokenizer that is not given as an object computes.
        limits: what to refuse before anything is allocated.

    Raises:
        A `StreamError`, each cause its own (`errors.py`); WrongModelError if another tokenizer wrote the stream.
    """
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
    codes = read_codes(data, priors_for(model), limits).codes
    return to_uint8(model.decode(codes, (info.height, info.width)))


def verify(data: bytes, tokenizer: Tokenizer) -> None:
    """Read a stream back to its codes. Its closing digest is that of the codes encoded, so a difference is an error."""
    read_codes(data, priors_for(tokenizer))


# Which tokenizer

_names: WeakKeyDictionary[Tokenizer, str] = WeakKeyDictionary()


def named_model(name: str | Path, device: str = "cpu") -> Tokenizer:
    """The tokenizer of a bundled name, a folder or a hub id; bundled ones are loaded once. Raises CheckpointError."""
    if str(name) in bundled_models():
        return bundled_model(str(name), device)
    model = load(name, device)
    if not Path(name).exists():
        _names[model] = str(name)  # a hub id; a folder's name is nobody else's business
    return model


@cache
def bundled_model(name: str, device: str) -> Tokenizer:
    model = load(name, device)
    _names[model] = name
    return model


def find_model(info: StreamInfo, device: str = "cpu") -> Tokenizer:
    """The bundled tokenizer that wrote a stream. A name in a stream is never followed to a folder or to the hub."""
    names = bundled_models()
    for name in sorted(names, key=lambda name: name != info.tokenizer):
        model = bundled_model(name, device)
        if short_hash(model.code_hash) == info.code_hash:
            return model
    called = f"the tokenizer {info.tokenizer!r}" if info.tokenizer else "a tokenizer without a name"
    raise WrongModelError(
        f"the stream was written by {called}, hash {info.code_hash.hex()}, which is none of the bundled ones "
        f"({', '.join(names) or 'there are none'}); name its folder or hub id (--model, or tokenizer= in Python)"
    )


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
        tokenizer=_names.get(model, ""),
        least_rows=least_rows,
        least_columns=least_columns,
    )


def check_kind(info: StreamInfo) -> None:
    if info.kind != "picture":
        raise MediaError(f"the stream holds a {info.kind} of {info.frames} frames; only pictures can be decoded here")


# Which prior


def priors_for(_: Tokenizer) -> tuple[Prior, ...]:
    """The priors that can code this tokenizer's codes, the best first."""
    return (UniformPrior(),)
