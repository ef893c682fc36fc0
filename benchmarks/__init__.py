"""Speed, measured. What enters: functions that do the same work. What leaves: rows of ratios beside their targets.

`python -m benchmarks [module …]` prints the tables. One module per group of rows, each with a generator
`rows()` of `Row`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Row:
    """One line of a table: what was measured, the figure, the target, and whether it was met (None: no target)."""

    name: str
    figure: str
    target: str = ""
    met: bool | None = None


def interleaved(functions: Sequence[Callable[[], object]], rounds: int = 9) -> list[float]:
    """Median seconds of each function, run in turn so that a busy machine slows all of them alike.

    A quick function repeats inside its turn until about 20 ms are filled, so that one interruption does not decide.
    """
    settle_allocator()
    repeats = []
    for function in functions:
        function()
        start = time.perf_counter()
        function()
        repeats.append(max(1, min(50, int(0.02 / (time.perf_counter() - start)))))
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, repeat, mine in zip(functions, repeats, seconds, strict=True):
            start = time.perf_counter()
            for _ in range(repeat):
                function()
            mine.append((time.perf_counter() - start) / repeat)
    return [statistics.median(mine) for mine in seconds]


def settle_allocator() -> None:
    """Let a block of 30 MB come and go, as happens early in any real run.

    Until then glibc hands every tensor over 128 KiB back to the system at once, and small work is timed by page faults.
    """
    for _ in range(3):
        torch.empty(7_500_000).fill_(0)
