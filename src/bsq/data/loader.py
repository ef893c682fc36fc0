"""Batches from any position on. What enters: a data set, positions, the shape of batches. What leaves: `Batch`es.

Step s of a run of `share.batch` samples a step takes positions s·batch … (s + 1)·batch − 1, whatever the number of
processes: process r of n takes the r-th of n equal runs of them.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from bsq.data.clips import ClipSettings
from bsq.data.dataset import Items, Sample, Task, TrainingData
from bsq.data.sources import AnySource, open_source
from bsq.data.stored import Kind
from bsq.data.streams import Delivery, Reading, Refused, read_ahead
from bsq.data.transforms import CropSettings
from bsq.data.videos import import_av
from bsq.errors import SettingsError

TURNS = 6
"""What this stream of random numbers is for (others: see `bsq.data.streams`)."""


class DataSettings(CropSettings):
    """`source`: pictures; `clips`: clips of videos, instead of them or by turns with them. `workers` processes decode
    and crop (0: the training process itself); up to `cache_gib` GiB of decoded pictures are kept in memory. Samples of
    streams are drawn from `shuffle` that wait in memory.
    """

    source: AnySource = ()
    clips: ClipSettings | None = None
    workers: NonNegativeInt = 2
    cache_gib: NonNegativeFloat = 0.0
    shuffle: PositiveInt = 1_000

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if not self.source and self.clips is None:
            raise ValueError(
                "data.source names nothing; give folders, tars or addresses, or data.clips.source for videos"
            )
        if not self.source and self.clips is not None and self.clips.share is not None:
            raise ValueError("clips.share is for runs that have pictures too; source names none")
        if self.cache_gib and not self.source:
            raise ValueError("cache_gib keeps pictures, and source names none")
        return self

    @property
    def frames(self) -> int:
        """Frames of the longest sample."""
        return 1 if self.clips is None else self.clips.frames

    @property
    def clip_share(self) -> Fraction:
        """Which share of the samples are clips."""
        if self.clips is None:
            return Fraction(0)
        return Fraction(self.clips.share or 0.5).limit_denominator(1000) if self.source else Fraction(1)


@dataclass(frozen=True)
class Share:
    """Process `process` of `processes`, each with `batch` / `processes` pictures a step, `micro` at a time."""

    batch: int
    micro: int
    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.batch % self.processes or self.local % self.micro:
            raise SettingsError(
                f"a batch of {self.batch} cannot be shared by {self.processes} processes in parts of {self.micro}"
            )

    @property
    def local(self) -> int:
        """Pictures of this process in one step."""
        return self.batch // self.processes

    @property
    def parts(self) -> int:
        """Micro-batches of one step."""
        return self.local // self.micro


@dataclass(frozen=True)
class Turns:
    """Which steps are of clips: of every `of` steps `clips`, spread evenly, beginning at a place drawn from the seed.

    Whole batches are of one kind, so that every process and micro-batch has one shape.
    """

    clips: int
    of: int
    first: int = 0

    @staticmethod
    def from_settings(settings: DataSettings, seed: int) -> Turns:
        share = settings.clip_share
        first = int(np.random.default_rng((seed, TURNS)).integers(share.denominator))
        return Turns(share.numerator, share.denominator, first)

    def kind(self, step: int) -> Kind:
        return Kind.VIDEOS if self.clip_steps(step + 1) > self.clip_steps(step) else Kind.PICTURES

    def clip_steps(self, steps: int) -> int:
        """How many of the first `steps` steps are of clips."""
        return (steps + self.first) * self.clips // self.of - self.first * self.clips // self.of

    def steps_before(self, kind: Kind, step: int) -> int:
        """How many steps before `step` are of that kind."""
        return self.clip_steps(step) if kind is Kind.VIDEOS else step - self.clip_steps(step)


@dataclass(frozen=True, eq=False)
class Batch:
    """`stored` uint8 (B, 3, T, H, W), `positions` int64 (B,), and the pictures and videos that could not be used."""

    stored: Tensor
    positions: Tensor
    unreadable: tuple[Refused, ...]


class Data(TrainingData):
    """The data set of a run, and how it is read."""

    def __init__(self, pictures: Items | None, clips: Items | None, settings: DataSettings, seed: int) -> None:
        super().__init__(pictures, clips)
        self.turns = Turns.from_settings(settings, seed)
        self.seed, self.shuffle = seed, settings.shuffle


def open_dataset(settings: DataSettings, seed: int) -> Data:
    """The data set of `settings`, with its cache filled. Raises DataError if there are no pictures or videos."""
    crop = CropSettings(**{name: getattr(settings, name) for name in CropSettings.model_fields})
    pictures = clips = None
    if settings.source:
        pictures = Items(open_source(settings.source, Kind.PICTURES), crop, seed)
        pictures.keep(settings.cache_gib)
    if settings.clips is not None:
        import_av()
        clips = Items(open_source(settings.clips.source, Kind.VIDEOS), crop, seed, settings.clips)
    return Data(pictures, clips, settings, seed)


def open_samples(settings: DataSettings, held_out: AnySource, clips: AnySource, seed: int) -> Data:
    """The data set that samples are taken from: `held_out` and `clips`, where named, in place of what is trained on."""
    changes: dict[str, object] = {"cache_gib": 0.0}
    if held_out:
        changes["source"] = held_out
    if clips and settings.clips is not None:
        changes["clips"] = settings.clips.model_copy(update={"source": clips})
    return open_dataset(settings.model_copy(update=changes), seed)


def load_batches(dataset: Data, share: Share, first: int, last: int, workers: int) -> DataLoader[Batch]:
    """Micro-batches of whole steps, from position `first` to `last`."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=Tasks(dataset, share, first, last),
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=ignore_stop_signals,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # or it would draw from the generator that training draws from
        # The cache reaches workers by fork only.
        multiprocessing_context="fork" if workers and any(items.has_kept for items in dataset.kinds) else None,
    )


class Positions(Sampler[list[int]]):
    """The positions of each micro-batch of one process."""

    def __init__(self, share: Share, first: int, last: int) -> None:
        self.share, self.first, self.last = share, first, last

    def __iter__(self) -> Iterator[list[int]]:
        share = self.share
        for start in range(self.first, self.last - share.batch + 1, share.batch):
            mine = start + share.process * share.local
            for part in range(share.parts):
                yield list(range(mine + part * share.micro, mine + (part + 1) * share.micro))

    def __len__(self) -> int:
        return max(0, self.last - self.first) // self.share.batch * self.share.parts


class Tasks(Sampler[list[Task]]):
    """What each position asks for. Streams are read here, in order, and their bytes go to the workers."""

    def __init__(self, dataset: Data, share: Share, first: int, last: int) -> None:
        self.dataset, self.share = dataset, share
        self.positions = Positions(share, first, last)

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[list[Task]]:
        with ExitStack() as stack:
            streams = {kind: stack.enter_context(closing(stream)) for kind, stream in self._streams()}
            for positions in self.positions:
                kind = self.dataset.turns.kind(positions[0] // self.share.batch)
                yield [self._task(position, kind, streams.get(kind)) for position in positions]

    def _streams(self) -> Iterator[tuple[Kind, Generator[Delivery, None, None]]]:
        """The streams among the kinds, at the place where the run goes on."""
        share, data = self.share, self.dataset
        step = self.positions.first // share.batch
        for kind in Kind:
            items = data.pictures if kind is Kind.PICTURES else data.clips
            if items is not None and items.stream is not None:
                skip = data.turns.steps_before(kind, step) * share.local
                reading = Reading(data.seed, data.shuffle, share.process, share.processes, skip)
                yield kind, read_ahead(items.stream, reading)

    def _task(self, position: int, kind: Kind, stream: Iterator[Delivery] | None) -> Task:
        step, within = divmod(position, self.share.batch)
        place = self.dataset.turns.steps_before(kind, step) * self.share.batch + within
        if stream is None:
            return Task(position, kind, place)
        delivery = next(stream)
        return Task(position, kind, place, (delivery.item, *delivery.stand_ins), delivery.refused)


def collate(samples: Sequence[Sample]) -> Batch:
    return Batch(
        stored=torch.stack([sample.pixels for sample in samples]),
        positions=torch.tensor([sample.position for sample in samples]),
        unreadable=tuple(name for sample in samples for name in sample.unreadable),
    )


def ignore_stop_signals(worker: int) -> None:
    """A Ctrl-C reaches the whole process group; the training process saves first and ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
