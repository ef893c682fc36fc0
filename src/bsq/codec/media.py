"""Pictures and short videos ↔ `.bsq` bytes: `bsq.compress` and `bsq.decompress`. What enters: either. What leaves: the
other.

All of it is in memory; `bsq.codec.video` takes films frame by frame.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bsq.codec import picture as pictures
from bsq.codec.info import Limits
from bsq.codec.measure import holds_video
from bsq.codec.search import Told
from bsq.codec.shelf import DEFAULT_MODEL
from bsq.codec.video import compress_video, decompress_video
from bsq.data.kinds import is_video
from bsq.data.pictures import Source, name_of, read_bytes
from bsq.data.steady import SteadyFrames
from bsq.data.videos import open_video
from bsq.errors import SettingsError
from bsq.prior.base import Prior
from bsq.tokenizer import Tokenizer


def compress(
    source: Source | np.ndarray,
    tokenizer: Tokenizer | str | Path = DEFAULT_MODEL,
    bits: int | None = None,
    prior: Prior | str | None = None,
    max_bytes: int | None = None,
    allocate: bool = False,
    search: int | None = None,
    told: Told | None = None,
    colours: bool = True,
) -> bytes:
    """A picture, or a video's file → the bytes of a `.bsq` stream. Arguments and errors are those of
    `bsq.codec.picture.compress`; a video has neither `max_bytes` nor `allocate`, is searched only where `search` says
    so, and its default prior is the one of `compress_video`.
    """
    if not isinstance(source, np.ndarray):
        data, name = read_bytes(source), name_of(source)
        source = source if isinstance(source, str | Path) else data
    if isinstance(source, np.ndarray) or not is_video(io.BytesIO(data), name):
        return pictures.compress(source, tokenizer, bits, prior, max_bytes, allocate, search, told, colours)
    if max_bytes is not None or allocate:
        raise SettingsError("max_bytes and allocate are for pictures; a video takes bits")
    target = io.BytesIO()
    with open_video(source) as video:
        frames = SteadyFrames(video)
        compress_video(frames, frames.rate, target, tokenizer, bits, prior, search=search, told=told, colours=colours)
    return target.getvalue()


def decompress(
    data: bytes,
    tokenizer: Tokenizer | str | Path | None = None,
    device: str = "cpu",
    limits: Limits | None = None,
    priors: Sequence[Prior] = (),
) -> np.ndarray:
    """Mirror of `compress`: the bytes of a `.bsq` stream → uint8 (H, W, 3), of a video (T, H, W, 3). Arguments and
    errors are those of `bsq.codec.picture.decompress`.
    """
    if isinstance(data, str | Path) or not holds_video(io.BytesIO(data)):
        return pictures.decompress(data, tokenizer, device, limits, priors)
    return np.stack(list(decompress_video(io.BytesIO(data), tokenizer, device, limits, priors).frames))
