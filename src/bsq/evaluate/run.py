"""Systems on pictures or clips. What enters: settings. What leaves: an `Evaluation`, every number of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from bsq.data.streams import Refused
from bsq.errors import DataError, SettingsError
from bsq.evaluate.data import UNREADABLE, Samples
from bsq.evaluate.networks import checked_device
from bsq.evaluate.processes import device_of, measure
from bsq.evaluate.settings import EvaluationSettings
from bsq.evaluate.share import Bench, Share, as_pixels, has_quality, measure_share, open_bench
from bsq.evaluate.speed import Speed, time_systems
from bsq.evaluate.systems.codecs import Aim, CodecSystem
from bsq.evaluate.systems.names import shown_spec
from bsq.evaluate.tally import SystemScores
from bsq.metrics.distribution import few

Told = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class SystemResult:
    """One system: what it is, what was measured, and its first frames of the samples shown (uint8, by number); `aim` is
    that of a codec, `scores` are None for random weights.
    """

    name: str
    aim: Aim | None
    description: str
    currency: str
    parameters: int | None
    notes: tuple[str, ...]
    scores: SystemScores | None
    speed: Speed | None
    shown: dict[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that was measured, and how. `shown` are originals, `names` theirs; `networks` says what measured LPIPS
    and the Fréchet distance, `label` what the distance is comparable with.
    """

    settings: EvaluationSettings
    samples: int
    networks: tuple[str, ...]
    label: str
    systems: tuple[SystemResult, ...]
    refused: tuple[Refused, ...]
    shown: dict[int, np.ndarray]
    names: dict[int, str]


def evaluate(settings: EvaluationSettings, on_step: Told = lambda done, total: None) -> Evaluation:
    """Measures every system on every sample; `on_step` is told (done, total) after each sample and round of timing.

    Raises SettingsError and CheckpointError for systems and networks, DataError for data that is empty or unreadable,
    and for one picture that is to have a Fréchet distance, NumericsError for a system that gives NaN, EvaluationError
    for a process that was ended.
    """
    checked_device(settings.device)
    with threads(settings.threads):
        bench = open_bench(settings, settings.device)
        total = len(bench.samples)
        check_count(settings, total)
        check_speed(bench, settings)
        shown = evenly(total, settings.shown)
        work = EvaluationWork(settings, shown)
        steps = total + settings.rounds
        alone = OpenedWork(work, bench) if settings.processes == 1 else work
        share = measure(alone, settings.processes, total, lambda done, _: on_step(done, steps))
        refused = tuple(one for _, one in share.refused)
        if not share.measured:
            raise DataError(f"none of {total} samples can be measured; the first: {refused[0].reason}")
        rounds = iter(range(total + 1, steps + 1))
        speeds = measure_speed(bench, settings, lambda: on_step(next(rounds), steps))
    return Evaluation(
        settings=settings,
        samples=share.measured,
        networks=networks(bench, share),
        label="" if bench.extractor is None else bench.extractor.label,
        systems=results(bench, share, speeds),
        refused=refused,
        shown=share.shown,
        names=share.names,
    )


@dataclass(frozen=True)
class EvaluationWork:
    """Process r of n takes samples r, r + n, r + 2n …"""

    settings: EvaluationSettings
    shown: tuple[int, ...]

    def share(self, number: int, count: int, told: Callable[[], None]) -> Share:
        settings = self.settings
        with threads(settings.threads):
            bench = open_bench(settings, device_of(settings.device, number))
            return self.measured(bench, number, count, told)

    def measured(self, bench: Bench, number: int, count: int, told: Callable[[], None]) -> Share:
        return measure_share(bench, self.settings, self.shown, range(number, len(bench.samples), count), told)


@dataclass(frozen=True, eq=False)
class OpenedWork:
    """The same in this process, where everything is open already."""

    work: EvaluationWork
    bench: Bench

    def share(self, number: int, count: int, told: Callable[[], None]) -> Share:
        return self.work.measured(self.bench, number, count, told)


def results(bench: Bench, share: Share, speeds: dict[str, Speed]) -> tuple[SystemResult, ...]:
    """What each system came to, from what all processes measured."""
    tallies = share.tallies
    return tuple(
        SystemResult(
            name=shown_spec(system.name),
            aim=system.aim if isinstance(system, CodecSystem) else None,
            description=system.description,
            currency=system.currency,
            parameters=system.parameters,
            notes=system.notes,
            scores=tallies[system.name].scores(share.references) if system.name in tallies else None,
            speed=speeds.get(system.name),
            shown=tallies[system.name].shown if system.name in tallies else {},
        )
        for system in bench.systems
    )


def networks(bench: Bench, share: Share) -> tuple[str, ...]:
    """What reports say of them."""
    told = [] if bench.perceptual is None else [bench.perceptual.words]
    if bench.extractor is not None and share.references is not None:
        moments = share.references.moments()
        told += [f"Fréchet distance of reconstructions rounded to 8 bits, in features of {bench.extractor.words}"]
        told += few("Fréchet distance", moments, moments)
    return tuple(told)


def check_count(settings: EvaluationSettings, total: int) -> None:
    """Before hours of work: DataError."""
    if total == 0:
        raise DataError(f"{', '.join(settings.data)} holds nothing to measure")
    if total < 2 and settings.features != "none":
        raise DataError(
            f"a Fréchet distance needs at least 2 pictures or clips, got {total}; "
            "give more, or leave it out with --features none"
        )


def check_speed(bench: Bench, settings: EvaluationSettings) -> None:
    """Raises SettingsError for random weights in a table that times nothing."""
    random = [system.name for system in bench.systems if not has_quality(system)]
    if random and not settings.rounds:
        raise SettingsError(f"{random[0]} has random weights, for speed alone; ask for --rounds 1 or more")


def measure_speed(bench: Bench, settings: EvaluationSettings, told: Callable[[], None]) -> dict[str, Speed]:
    """On the first samples that can be read and have the first one's size. Raises DataError for less than a batch."""
    if not settings.rounds:
        return {}
    wanted = settings.timed * settings.batch
    samples = [as_pixels(frames) for frames in alike(bench.samples, wanted)]
    whole = len(samples) // settings.batch * settings.batch
    if not whole:
        raise DataError(f"a batch of {settings.batch} cannot be timed: {len(samples)} samples are of one size")
    batches = torch.cat(samples[:whole]).split(settings.batch)
    return time_systems(bench.systems, batches, settings.rounds, told)


def alike(samples: Samples, most: int) -> list[np.ndarray]:
    """The first so many of the size of the first."""
    found: list[np.ndarray] = []
    for number in range(len(samples)):
        if len(found) == most:
            break
        try:
            frames = samples.read(number)
        except UNREADABLE:
            continue
        if not found or frames.shape == found[0].shape:
            found.append(frames)
    return found


def evenly(total: int, count: int) -> tuple[int, ...]:
    """Numbers of `count` samples spread over all."""
    count = min(total, count)
    return tuple((2 * i + 1) * total // (2 * count) for i in range(count))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch. The same in every process, since sums may be cut differently by other numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
