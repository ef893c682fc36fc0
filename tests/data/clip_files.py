"""Small videos made by code."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np


def frame(number: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Smooth colours that tell up from down and left from right; blue tells the number."""
    rows, columns = np.mgrid[:height, :width]
    red, green = rows * 255 // max(1, height - 1), columns * 255 // max(1, width - 1)
    return np.stack([red, green, np.full((height, width), number * 6 % 256)], -1).astype(np.uint8)


def number_of(pixels: np.ndarray) -> int:
    """Mirror of `frame`."""
    return round(float(pixels[..., 2].mean()) / 6)


def video(
    count: int = 12,
    size: tuple[int, int] = (32, 48),
    rate: Fraction | int = 10,
    times: list[int] | None = None,
    kind: str = "mp4",
    codec: str = "libx264",
    pixels: str = "yuv444p",
    options: dict[str, str] | None = None,
    sound: bool = False,
    turn: list[int] | None = None,
) -> bytes:
    """The bytes of a file of `count` frames; `times` in units of 1 / rate; a display matrix in units of 1."""
    buffer = io.BytesIO()
    container = av.open(buffer, "w", format=kind)
    stream: Any = container.add_stream(codec, rate=rate, options=options if options is not None else {"crf": "4"})
    stream.height, stream.width, stream.pix_fmt, stream.time_base = *size, pixels, 1 / Fraction(rate)
    if turn is not None:
        stream.set_display_matrix([65536 * value for value in turn[:6]] + [0, 0, 1 << 30])
    audio: Any = container.add_stream("aac" if kind == "mp4" else "libopus", rate=48000) if sound else None
    for number in range(count):
        raw = av.VideoFrame.from_ndarray(frame(number, *size), format="rgb24")
        raw.pts, raw.time_base = (times[number] if times else number), 1 / Fraction(rate)
        container.mux(stream.encode(raw))
    container.mux(stream.encode(None))
    if audio is not None:
        for start in range(0, 9600, 960):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 48000, start
            container.mux(audio.encode(silence))
        container.mux(audio.encode(None))
    container.close()
    return buffer.getvalue()
