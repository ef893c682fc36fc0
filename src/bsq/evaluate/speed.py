"""Pictures a second, side by side. What enters: systems and batches of samples. What leaves: a rate for each system.

All systems are timed in one process, by turns: whatever else the machine does slows all of them alike. Timed are
encoding and decoding; a codec's search for its rate is left out, its file is written and read at what was found.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor

from bsq.evaluate.share import leader_of, reconstruct_all
from bsq.evaluate.systems.base import System
from bsq.evaluate.systems.codecs import CodecSystem


@dataclass(frozen=True)
class Speed:
    """`frames_per_second`: median over rounds, whole samples, encoding and decoding; a picture is one frame.
    `bits_per_pixel`: mean over the samples timed.
    """

    frames_per_second: float
    bits_per_pixel: float
    rounds: int
    samples: int
    batch: int


@dataclass(frozen=True, eq=False)
class Ready:
    """A system before a batch, with whatever it has to search for found."""

    bits_per_pixel: float
    run: Callable[[], object]


def time_systems(
    systems: Sequence[System], batches: Sequence[Tensor], rounds: int, told: Callable[[], None] = lambda: None
) -> dict[str, Speed]:
    """By the systems' names. Batches are (B, 3, T, H, W). Every system has seen every batch before it is timed."""
    frames = sum(len(batch) * batch.shape[2] for batch in batches)
    ready = {system.name: [prepared(system, systems, batch) for batch in batches] for system in systems}
    seconds: dict[str, list[float]] = {system.name: [] for system in systems}
    for _ in range(rounds):
        for name, times in seconds.items():
            times.append(seconds_of(partial(run_all, ready[name])))
        told()
    return {
        name: Speed(
            frames_per_second=frames / median(times),
            bits_per_pixel=math.fsum(one.bits_per_pixel for one in ready[name]) / len(batches),
            rounds=rounds,
            samples=sum(map(len, batches)),
            batch=len(batches[0]),
        )
        for name, times in seconds.items()
    }


def prepared(system: System, systems: Sequence[System], batch: Tensor) -> Ready:
    """Its bits are those of the batch's samples, one by one; what is timed is run once."""
    singles = list(batch.split(1))
    match system:
        case CodecSystem():
            settled = [system.settled(sample, budget(system, systems, sample)) for sample in singles]
            spent = [one.reconstruct(sample).bits[0] for one, sample in zip(settled, singles, strict=True)]
            ready = Ready(rate(spent, batch), partial(run_codecs, settled, singles))
        case _:
            spent = list(system.reconstruct(batch).bits)
            ready = Ready(rate(spent, batch), partial(system.reconstruct_together, batch))
    ready.run()
    return ready


def budget(system: System, systems: Sequence[System], sample: Tensor) -> float | None:
    """What the system that it is held to spends on the sample; None where it is held to none."""
    leader = next((one for one in systems if one.name == leader_of(system)), None)
    return None if leader is None else reconstruct_all([leader], sample, "the sample to time")[leader.name].bits[0]


def rate(bits: Sequence[float], batch: Tensor) -> float:
    return math.fsum(bits) / batch[:, 0].numel()


def run_codecs(settled: Sequence[CodecSystem], samples: Sequence[Tensor]) -> None:
    for system, sample in zip(settled, samples, strict=True):
        system.reconstruct(sample)


def run_all(ready: Sequence[Ready]) -> None:
    for one in ready:
        one.run()


def seconds_of(work: Callable[[], object]) -> float:
    """Reconstructions come back on the CPU, so an accelerator has done its part by then."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
