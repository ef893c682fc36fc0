"""Large pictures through the bundled model, codes and pixels: time and memory beside the number of pixels.

Each size has a process of its own, because a process's peak never falls: `python -m benchmarks.pictures 1024` prints
the seconds and bytes of one. `--plot FILE` draws them. Seconds are the processor's, which others' work hardly moves.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

import bsq
from benchmarks import Row, peak_bytes

SIDES = (256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Measured:
    side: int
    seconds: float
    bytes: int

    @property
    def megapixels(self) -> float:
        return self.side**2 / 1e6


def rows() -> Iterator[Row]:
    measured = []
    for side in SIDES:
        measured.append(measure(side))
        last = measured[-1]
        figure = (
            f"{last.seconds:.2f} s of CPU, {last.seconds / last.megapixels:.2f} s/Mpx, {last.bytes / 2**20:.0f} MiB"
        )
        yield Row(f"encode + decode {side}², biscuit-s", figure)
    # From 512²: below, what does not grow with pixels decides.
    time_growth, memory_growth = (
        exponent(measured[1:], values) for values in ([m.seconds for m in measured], [m.bytes for m in measured])
    )
    yield Row("time ~ pixels^", f"{time_growth:.2f}", "linear: ≤ 1.1", time_growth <= 1.1)
    yield Row("memory ~ pixels^", f"{memory_growth:.2f}", "linear: ≤ 1.1", memory_growth <= 1.1)


def exponent(measured: list[Measured], values: list[float] | list[int]) -> float:
    """The power of pixels by which the last values grow, between the first and the last of `measured`."""
    grown = values[-1] / values[-len(measured)]
    return math.log(grown) / math.log(measured[-1].megapixels / measured[0].megapixels)


def measure(side: int) -> Measured:
    command = [sys.executable, "-m", "benchmarks.pictures", str(side)]
    seconds, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return Measured(side, float(seconds), int(peak))


def through(side: int) -> float:
    """Processor seconds of a second pass: the first lets libraries set themselves up."""
    model = bsq.load("biscuit-s")
    across = torch.linspace(0, 30, side)
    pixels = (torch.sin(across[:, None] + 0.3 * across) * torch.cos(across)).expand(1, 3, side, side)
    model.decode(model.encode(pixels[..., :256, :256]))
    start = time.process_time()
    model.decode(model.encode(pixels))
    return time.process_time() - start


def plot(measured: list[Measured], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    pixels = [m.megapixels for m in measured]
    panels = {"CPU seconds": [m.seconds for m in measured], "peak MiB": [m.bytes / 2**20 for m in measured]}
    for axis, (name, values) in zip(axes, panels.items(), strict=True):
        axis.loglog(pixels, values, "o-", label="biscuit-s, encode + decode")
        axis.loglog(pixels, [values[-1] * p / pixels[-1] for p in pixels], ":", color="gray", label="linear in pixels")
        axis.set_xlabel("megapixels")
        axis.set_ylabel(name)
        axis.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("side", nargs="?", type=int)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.plot is not None:
        plot([measure(side) for side in SIDES], arguments.plot)
        return
    print(through(arguments.side), peak_bytes())


if __name__ == "__main__":
    main()
