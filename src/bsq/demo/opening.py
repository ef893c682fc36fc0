"""`.bsq` files on the page. What enters: bytes, whole or cut. What leaves: what they hold and what it looks like."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from bsq.codec.info import Limits, StreamInfo
from bsq.codec.measure import StreamParts, inspect_file
from bsq.codec.picture import recover
from bsq.codec.stream import short_hash
from bsq.codec.video import recover_video
from bsq.demo.material import Bounds, read_upload
from bsq.errors import StreamError, TruncatedStreamError
from bsq.tokenizer import Tokenizer

LEAST_TOKEN_PIXELS = 16  # of a 4 × 4 patch, the smallest there is; bounds tokens by pixels


@dataclass(frozen=True, eq=False)
class Opened:
    """A stream and what its parts are."""

    name: str
    data: bytes
    parts: StreamParts

    @property
    def stem(self) -> str:
        return Path(self.name).stem or "picture"


@dataclass(frozen=True, eq=False)
class Seen:
    """What the first `size` bytes give: frames uint8 (H, W, 3), none where nothing can be decoded, and what to say of
    those that are missing or left out.
    """

    size: int
    frames: tuple[np.ndarray, ...]
    rate: Fraction | None
    missing: str | None


def open_stream(path: Path, bounds: Bounds) -> Opened:
    """An uploaded stream. Raises a StreamError or MediaError in the file's name."""
    data = read_upload(path, bounds)
    try:
        return Opened(path.name, data, inspect_file(io.BytesIO(data)))
    except StreamError as error:
        raise type(error)(f"{path.name}: {error}") from error


def cut(data: bytes, percent: float) -> bytes:
    """The first so many percent of a file, rounded up to whole bytes."""
    return data[: -(-len(data) * round(100 * percent) // 10_000)]


def look(opened: Opened, percent: float, model: Tokenizer, bounds: Bounds) -> Seen:
    """Decode the first so many percent of a file as far as they go. Raises StreamError, but not for an early end."""
    data, info = cut(opened.data, percent), opened.parts.info
    limits = Limits(pixels=bounds.pixels, tokens=max(1, bounds.pixels // LEAST_TOKEN_PIXELS))
    ours = short_hash(model.code_hash) == info.code_hash
    chosen, device = model if ours else None, str(next(model.parameters()).device)
    try:
        if info.frame_rate is None:
            found = recover(data, chosen, device, limits)
            return Seen(len(data), (found.picture,), None, found.missing and f"it {found.missing}")
        count = frames_taken(info, bounds)
        video = recover_video(io.BytesIO(data), chosen, device, limits, end=Fraction(count) / info.frame_rate)
        frames = tuple(video.frames)
        told = [f"it {missing}" for missing in video.missing]
        if count < info.frames:
            told.append(f"only the first {count} of {info.frames} frames are shown; bsq decode gives all of them")
        return Seen(len(data), frames, info.frame_rate, "; ".join(told) or None)
    except TruncatedStreamError as error:
        return Seen(len(data), (), info.frame_rate, str(error))


def frames_taken(info: StreamInfo, bounds: Bounds) -> int:
    """How many frames of a video one request decodes: all of them together have no more pixels than a picture may."""
    return max(1, min(info.frames, bounds.frames, bounds.pixels // (info.height * info.width)))
