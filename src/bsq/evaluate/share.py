"""One process's part of the work. What enters: settings, which part. What leaves: tallies that can be added up.

Systems see one sample at a time, so that no number depends on a batch. A sample that one system cannot take counts for
none of them, and is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bsq.data.streams import Refused
from bsq.errors import NumericsError, SettingsError, ShapeError
from bsq.evaluate.data import UNREADABLE, Samples, open_samples
from bsq.evaluate.networks import Extractor, Perceptual, open_extractor, open_lpips
from bsq.evaluate.settings import EvaluationSettings
from bsq.evaluate.systems.autoencoders import SPEED_ONLY
from bsq.evaluate.systems.base import Reconstructed, System
from bsq.evaluate.systems.codecs import CodecSystem, LikeSystem, to_frames
from bsq.evaluate.systems.names import shown_spec
from bsq.evaluate.systems.spec import open_system
from bsq.evaluate.tally import Measured, Tally, quality_of, similarity_3_of
from bsq.metrics.sets import FeatureSet


@dataclass
class Share:
    """What a process has measured; `shown` are originals for the contact sheet."""

    tallies: dict[str, Tally]
    references: FeatureSet | None = None
    refused: list[tuple[int, Refused]] = field(default_factory=list)
    shown: dict[int, np.ndarray] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    measured: int = 0

    def merge(self, other: Share) -> None:
        """Take in what another process measured."""
        for name, tally in other.tallies.items():
            self.tallies[name].merge(tally)
        if self.references is not None and other.references is not None:
            self.references.merge(other.references)
        elif other.references is not None:
            self.references = other.references
        self.refused = sorted([*self.refused, *other.refused], key=lambda one: one[0])
        self.shown |= other.shown
        self.names |= other.names
        self.measured += other.measured


@dataclass(frozen=True, eq=False)
class Bench:
    """Everything that measures, opened once a process."""

    systems: tuple[System, ...]
    samples: Samples
    perceptual: Perceptual | None
    extractor: Extractor | None


def open_bench(settings: EvaluationSettings, device: str) -> Bench:
    """Raises SettingsError, CheckpointError, DataError, MissingDependencyError."""
    systems = tuple(open_system(text, device) for text in settings.systems)
    check_systems(systems)
    samples = open_samples(settings.data, settings.kind, settings.protocol, settings.first)
    extractor = open_extractor(settings.features, settings.kind, device)
    return Bench(systems, samples, open_lpips(settings.lpips, device), extractor)


def check_systems(systems: Sequence[System]) -> None:
    """Raises SettingsError for two rows of one name, and for a codec held to a system that is not there."""
    names = [shown_spec(system.name) for system in systems]  # as tables call them: folders are left out
    if twice := next((one for one in systems if names.count(shown_spec(one.name)) > 1), None):
        called = shown_spec(twice.name)
        raise SettingsError(f"two systems are called {called!r}; name one of them, as in again={twice.name}")
    leaders = {system.name for system in systems if leader_of(system) is None and has_quality(system)}
    for system in systems:
        leader = leader_of(system)
        if leader is not None and leader not in leaders:
            there = f"none of {', '.join(sorted(leaders))}" if leaders else "not there: ask for it with --system, too"
            raise SettingsError(f"{system.name} is held to {leader!r}, which is {there}")


def has_quality(system: System) -> bool:
    """Random weights are timed, and nothing else."""
    return SPEED_ONLY not in system.notes


def leader_of(system: System) -> str | None:
    """The system that a codec is held to."""
    match system:
        case CodecSystem(aim=LikeSystem(leader)):
            return leader
        case _:
            return None


def measure_share(
    bench: Bench,
    settings: EvaluationSettings,
    shown: Sequence[int],
    numbers: Sequence[int],
    told: Callable[[], None] = lambda: None,
) -> Share:
    """Measures the samples of these numbers. Raises NumericsError when a system gives what is no number."""
    share = Share({system.name: Tally() for system in bench.systems if has_quality(system)})
    share.references = None if bench.extractor is None else FeatureSet({"moments"})
    for number in numbers:
        try:
            measure_one(bench, settings, shown, number, share)
        except (*UNREADABLE, ShapeError) as error:
            share.refused.append((number, Refused(bench.samples.name(number), str(error))))
        told()
    return share


def measure_one(bench: Bench, settings: EvaluationSettings, shown: Sequence[int], number: int, share: Share) -> None:
    """All systems on one sample; nothing is added before all have done their part."""
    name, frames = bench.samples.name(number), bench.samples.read(number)
    reference = as_pixels(frames)
    systems = [system for system in bench.systems if has_quality(system)]
    again = reconstruct_all(systems, reference, name)
    extract = None if bench.extractor is None else bench.extractor.extract
    distance = None if bench.perceptual is None else bench.perceptual.distance
    measured = {}
    for system in systems:
        one = again[system.name]
        pixels = judged(one.pixels, settings)
        measured[system.name] = Measured(
            quality=quality_of(pixels, reference, distance),
            similarity_3=similarity_3_of(pixels, reference),
            bits=one.bits[0],
            pixels=frames[..., 0].size,
            codes=one.codes,
            features=None if extract is None else extract(pixels),
        )
    features = None if extract is None else extract(reference)
    if features is not None and share.references is not None:
        share.references.add(features)
    for system in systems:
        share.tallies[system.name].add(measured[system.name])
        if number in shown:
            share.tallies[system.name].show(number, again[system.name].pixels)
    if number in shown:
        share.shown[number], share.names[number] = frames[0], name
    share.measured += 1


def reconstruct_all(systems: Sequence[System], reference: Tensor, name: str) -> dict[str, Reconstructed]:
    """By the systems' names; those that are held to another's bits come after it."""
    again: dict[str, Reconstructed] = {}
    for system in sorted(systems, key=lambda one: leader_of(one) is not None):
        match system:
            case CodecSystem(aim=LikeSystem(leader)):
                found = system.within(again[leader].bits[0]).reconstruct(reference)
            case _:
                found = system.reconstruct(reference)
        if not bool(torch.isfinite(found.pixels).all()):
            raise NumericsError(f"{system.name} gives NaN or infinity for {name}; its weights may be damaged")
        if found.pixels.shape != reference.shape:
            shapes = f"{tuple(found.pixels.shape)} for {tuple(reference.shape)}"
            raise NumericsError(f"{system.name} gives pixels of another size for {name}: {shapes}")
        again[system.name] = found
    return again


def judged(pixels: Tensor, settings: EvaluationSettings) -> Tensor:
    """As the protocol measures them; rounded ones are exactly what a file of the same levels would give."""
    match settings.protocol.rounding:
        case "none":
            return pixels
        case "uint8":
            return as_pixels(to_frames(pixels))
        case other:
            raise SettingsError(f"no rounding {other!r}")


def as_pixels(frames: np.ndarray) -> Tensor:
    """uint8 (T, H, W, 3) → float32 (1, 3, T, H, W) in [−1, 1]."""
    return torch.from_numpy(np.array(frames)).permute(3, 0, 1, 2)[None].float().div_(127.5).sub_(1)
