"""Pictures a second, side by side. What enters: systems and samples. What leaves: a rate for each system.

All systems are timed in one process, by turns: whatever else the machine does slows all of them alike. One sample at a
time, encoding and decoding; a codec's search for its rate is left out, its file is written and read at what was found.
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


def time_systems(
    systems: Sequence[System], samples: Sequence[Tensor], rounds: int, told: Callable[[], None] = lambda: None
) -> dict[str, Speed]:
    """By the systems' names. Samples are (1, 3, T, H, W). A first round that is not counted warms up."""
    frames = sum(sample.shape[2] for sample in samples)
    ready = [settled(systems, sample) for sample in samples]
    rates = {system.name: run(ready, samples, system.name) for system in systems}
    seconds: dict[str, list[float]] = {system.name: [] for system in systems}
    for _ in range(rounds):
        for name, times in seconds.items():
            times.append(seconds_of(partial(run, ready, samples, name)))
        told()
    return {name: Speed(frames / median(seconds[name]), rates[name], rounds, len(samples)) for name in seconds}


def settled(systems: Sequence[System], sample: Tensor) -> dict[str, System]:
    """The systems as they are timed on one sample: codecs at the quality that their aim leads to there."""
    leaders = [system for system in systems if leader_of(system) is None]
    followed = {leader_of(system) for system in systems} - {None}
    spent = reconstruct_all([one for one in leaders if one.name in followed], sample, "the sample to time")
    ready: dict[str, System] = {}
    for system in systems:
        match system:
            case CodecSystem():
                leader = leader_of(system)
                held = system if leader is None else system.within(spent[leader].bits[0])
                ready[system.name] = held.settled(sample)
            case _:
                ready[system.name] = system
    return ready


def run(ready: Sequence[dict[str, System]], samples: Sequence[Tensor], name: str) -> float:
    """Bits per pixel."""
    rates = []
    for systems, sample in zip(ready, samples, strict=True):
        bits = systems[name].reconstruct(sample).bits[0]
        rates.append(bits / (sample[:, 0].numel()))
    return math.fsum(rates) / len(rates)


def seconds_of(work: Callable[[], object]) -> float:
    """Reconstructions come back on the CPU, so an accelerator has done its part by then."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
