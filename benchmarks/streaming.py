"""Streaming: the most memory that encoding and decoding a film takes, 100 and 10,000 frames of it; and the time a frame
takes, early and late in a film, and in a clip that is encoded whole.

Memory: a token sees 8 frames. The model and its frames are small, so that a film is done in a minute or two; one that
forgot nothing would keep 640 MiB of keys and values. Each film has a process of its own, because a process's peak never
falls. `python -m benchmarks.streaming 500` prints the bytes of one film. Time: the bundled model, frames of 256×256,
in processor seconds.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import torch

import bsq
from benchmarks import Row, peak_bytes, settle_allocator
from bsq.layers.windows import WindowAttentionSettings
from bsq.quantizers import BsqSettings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.transformer import TransformerSettings

SHORT, LONG = 100, 10_000
CLIP, ROUNDS = 16, 5


def rows() -> Iterator[Row]:
    short, long = (measure(frames) for frames in (SHORT, LONG))
    ratio = long / short
    figure = f"{long / 2**20:.0f} MiB beside {short / 2**20:.0f} MiB, {ratio:.3f}×"
    yield Row(f"peak memory of {LONG:,} frames, 32×32, beside {SHORT}", figure, "≤ 1.2×", ratio <= 1.2)

    yield from seconds_a_frame()


def seconds_a_frame() -> Iterator[Row]:
    """By turns: a whole clip, and as many frames of one film, which goes on from turn to turn."""
    settle_allocator()
    model = bsq.load("biscuit-s")
    clip = torch.stack([moving_stripes(number, 256) for number in range(CLIP)], dim=2)
    encoder = model.stream_encoder()
    whole, single = [], []
    for turn in range(ROUNDS + 1):
        start = time.process_time()
        model.encode(clip)
        middle = time.process_time()
        times = [start]
        for frame in clip.unbind(2):
            encoder.push(frame)
            times.append(time.process_time())
        if turn:  # the first fills the window, and lets libraries set themselves up
            whole.append((middle - start) / CLIP)
            single.append((times[-1] - middle) / CLIP)
    ratio = statistics.median(single) / statistics.median(whole)
    figure = f"{statistics.median(single) * 1e3:.0f} ms, {ratio:.2f}× of a whole clip's"
    yield Row("streaming encode, a frame of 256²", figure, "≤ 1.1×", ratio <= 1.1)
    growth = single[-1] / single[0]
    yield Row(f"… frames {CLIP * ROUNDS}–{CLIP * (ROUNDS + 1)} beside {CLIP}–{2 * CLIP}", f"{growth:.2f}×", "constant")


def moving_stripes(number: int, side: int) -> torch.Tensor:
    """Frame `number` of a film (1, 3, side, side)."""
    place = torch.linspace(0, 4 * math.pi, side)
    frame = torch.sin(place[None, :] + 0.1 * number) * torch.cos(place[:, None] - 0.03 * number)
    return frame.expand(1, 3, side, side)


def measure(frames: int) -> int:
    """Peak bytes of a process that streams so many frames through encoder and decoder."""
    command = [sys.executable, "-m", "benchmarks.streaming", str(frames)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def stream(frames: int) -> None:
    """A film of moving stripes through encoder and decoder, frame by frame."""
    torch.manual_seed(0)
    part = TransformerSettings(width=128, depth=2, attention=WindowAttentionSettings(size=2), window_frames=8)
    model = Tokenizer(TokenizerSettings(quantizer=BsqSettings(bits=36), encoder=part, decoder=part)).eval()
    encoder, decoder = model.stream_encoder(), model.stream_decoder()
    for number in range(frames):
        decoder.push(encoder.push(moving_stripes(number, 32)))


if __name__ == "__main__":
    stream(int(sys.argv[1]))
    print(peak_bytes())
