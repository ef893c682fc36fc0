"""Speed, measured. What enters: functions that do the same work. What leaves: rows of ratios beside their targets.

`python -m benchmarks [module …]` prints the tables. One module per group of rows, each with a generator
`rows()` of `Row`.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Row:
    """One line of a table: what was measured, the figure, the target, and whether it was met (None: no target)."""

    name: str
    figure: str
    target: str = ""
    met: bool | None = None


def show(row: Row) -> str:
    """A row of a table in Markdown."""
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    return f"| {row.name} | {row.figure} | {row.target} | {verdict} |"


class Clock:
    """What `interleaved` reads: the wall's clock, or, on a busy machine, the processors' that this process uses."""

    read = staticmethod(time.perf_counter)

    @classmethod
    def of_one_thread(cls) -> None:
        """From here on: one thread, and the time that it has a processor. What others do hardly moves it."""
        torch.set_num_threads(1)
        cls.read = staticmethod(time.process_time)


def interleaved(functions: Sequence[Callable[[], object]], rounds: int = 9) -> list[float]:
    """Median seconds of each function, run in turn so that a busy machine slows all of them alike.

    A quick function repeats inside its turn until about 20 ms are filled, so that one interruption does not decide.
    """
    settle_allocator()
    repeats = []
    for function in functions:
        function()
        start = Clock.read()
        function()
        repeats.append(max(1, min(50, int(0.02 / (Clock.read() - start)))))
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, repeat, mine in zip(functions, repeats, seconds, strict=True):
            start = Clock.read()
            for _ in range(repeat):
                function()
            mine.append((Clock.read() - start) / repeat)
    return [statistics.median(mine) for mine in seconds]


def peak_bytes() -> int:
    """The most memory that this process has held. (Linux hands a parent's `ru_maxrss` down to what it starts.)"""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def settle_allocator() -> None:
    """Let a block of 30 MB come and go, as happens early in any real run.

    Until then glibc hands every tensor over 128 KiB back to the system at once, and small work is timed by page faults.
    """
    for _ in range(3):
        torch.empty(7_500_000).fill_(0)
