"""Memory of streaming: the most that encoding and decoding a film takes, 100 and 10,000 frames of it.

A token sees 8 frames. The model and its frames are small, so that a film is done in a minute or two; one that forgot
nothing would keep 640 MiB of keys and values. Each film has a process of its own, because a process's peak never
falls. `python -m benchmarks.streaming 500` prints the bytes of one film.
"""

from __future__ import annotations

import math
import resource
import subprocess
import sys
from collections.abc import Iterator

import torch

from benchmarks import Row
from bsq.layers.windows import WindowAttentionSettings
from bsq.quantizers import BsqSettings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.transformer import TransformerSettings

SHORT, LONG = 100, 10_000


def rows() -> Iterator[Row]:
    short, long = (measure(frames) for frames in (SHORT, LONG))
    ratio = long / short
    figure = f"{long / 2**20:.0f} MiB beside {short / 2**20:.0f} MiB, {ratio:.3f}×"
    yield Row(f"peak memory of {LONG:,} frames, 32×32, beside {SHORT}", figure, "≤ 1.2×", ratio <= 1.2)


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
    place = torch.linspace(0, 4 * math.pi, 32)
    for number in range(frames):
        frame = torch.sin(place[None, :] + 0.1 * number) * torch.cos(place[:, None] - 0.03 * number)
        decoder.push(encoder.push(frame.expand(1, 3, 32, 32)))


if __name__ == "__main__":
    stream(int(sys.argv[1]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
