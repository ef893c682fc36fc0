"""Batches from any position on. What enters: a data set, positions, the shape of batches. What leaves: `Batch`es.

Step s of a run of `share.batch` pictures a step takes positions s·batch … (s + 1)·batch − 1, whatever the number of
processes: process r of n takes the r-th of n equal runs of them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, field_validator
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from bsq.data.dataset import PictureDataset, Sample
from bsq.data.stored import find_pictures
from bsq.data.transforms import CropSettings
from bsq.errors import SettingsError


class DataSettings(CropSettings):
    """`source`: folders, tars, pictures, globs of them. `workers` processes decode and crop (0: the training process
    itself); up to `cache_gib` GiB of decoded pictures are kept in memory.
    """

    source: tuple[str, ...] = Field(min_length=1)
    workers: NonNegativeInt = 2
    cache_gib: NonNegativeFloat = 0.0

    @field_validator("source", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, source: object) -> object:
        return (source,) if isinstance(source, str) else source


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


@dataclass(frozen=True, eq=False)
class Batch:
    """`stored` uint8 (B, 3, 1, H, W), `positions` int64 (B,), and the names of pictures that could not be read."""

    stored: Tensor
    positions: Tensor
    unreadable: tuple[str, ...]


def open_dataset(settings: DataSettings, seed: int) -> PictureDataset:
    """The data set of `settings`, with its cache filled. Raises DataError if there are no pictures."""
    crop = CropSettings(**{name: getattr(settings, name) for name in CropSettings.model_fields})
    dataset = PictureDataset(find_pictures(settings.source), crop, seed)
    if settings.cache_gib:
        dataset.keep(settings.cache_gib)
    return dataset


def load_batches(dataset: PictureDataset, share: Share, first: int, last: int, workers: int) -> DataLoader[Batch]:
    """Micro-batches of whole steps, from position `first` to `last`."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=Positions(share, first, last),
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=ignore_stop_signals,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # or it would draw from the generator that training draws from
        # The cache reaches workers by fork only.
        multiprocessing_context="fork" if workers and dataset._kept else None,
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
