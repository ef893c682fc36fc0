"""Cold starts: whole processes of the command line, start to exit; the package's files are in the disk's cache."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import Row

ROUNDS = 5
HEIGHT, WIDTH = 512, 768


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        photograph, stream = Path(name) / "picture.png", Path(name) / "picture.bsq"
        across, down = np.arange(WIDTH) / 40, np.arange(HEIGHT)[:, None] / 30
        waves = np.stack([np.sin(across + k * down) for k in (0.5, 1, 2)], -1)
        noise = np.random.default_rng(0).normal(0, 6, waves.shape)
        Image.fromarray((128 + 90 * waves + noise).clip(0, 255).astype(np.uint8)).save(photograph)
        yield timed("bsq --help", ["--help"], 0.5)
        encode = ["encode", str(photograph), "-o", str(stream), "--force"]
        yield timed(f"bsq encode of a picture of {WIDTH}×{HEIGHT}", encode, 6)
        yield timed("bsq decode of it", ["decode", str(stream), "-o", str(photograph), "--force"], 6)


def timed(name: str, arguments: list[str], most: float) -> Row:
    """Median seconds of the whole process, and of CPUs in it: on a busy machine the first are more than it needs."""
    seconds, used = [], []
    for _ in range(ROUNDS):
        before, start = cpu_seconds(), time.perf_counter()
        subprocess.run([sys.executable, "-m", "bsq.cli.main", *arguments], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
        used.append(cpu_seconds() - before)
    middle = statistics.median(seconds)
    return Row(name, f"{middle:.2f} s ({statistics.median(used):.2f} s of CPU)", f"≤ {most:g} s", middle <= most)


def cpu_seconds() -> float:
    """Of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
