"""Tokens for the training of generators. What enters: a folder that `bsq tokenize` wrote. What leaves: codes, labels.

Position p of a process is a pure function of (folder, seed, process, p), as in `bsq.data.dataset`: the number of loader
workers changes nothing, and a run resumes from a counter. In each epoch the shards come in an order of their own and
are dealt out to the processes in equal runs of rows, so that each row is seen once by one of them; rows are then mixed
within `mix` shards at a time, which is what a worker keeps in memory.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bsq.codes import Codes
from bsq.data.loader import Positions, Share, ignore_stop_signals
from bsq.data.storage import Store, open_store
from bsq.data.token_files import Format, Meaning, RowHead, Shard, TokenRow, read_shard
from bsq.errors import DataError, SettingsError, ShapeError
from bsq.settings import told_faults

INDEX_FILE = "index.json"
SHARDS, ROWS = 7, 8
"""What these streams of random numbers are for (others: see `bsq.data.streams`)."""


class IndexedShard(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    rows: int
    sha256: str


class Index(BaseModel):
    """All shards of a finished folder, and what their codes mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    meaning: Meaning
    rows: int
    shards: tuple[IndexedShard, ...]


def read_index(store: Store) -> Index:
    """Raises DataError if the folder is no finished one."""
    if INDEX_FILE not in store.names():
        raise DataError(f"{store.place} holds no {INDEX_FILE}: no tokens, or a run that has not ended; start it again")
    try:
        return Index.model_validate_json(store.read(INDEX_FILE))
    except ValidationError as error:
        raise DataError(f"{store.place}/{INDEX_FILE} is damaged: {told_faults(error)}") from error


@dataclass(frozen=True, eq=False)
class TokenSample:
    """`digits` (T, h, w, L) of the row that stands at `position`; `label` its number among the classes, -1 without: the
    row has a class's name, or its number.
    """

    position: int
    digits: Tensor
    label: int
    head: RowHead


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """`codes` (B, T, h, w, L), `labels` and `positions` int64 (B,)."""

    codes: Codes
    labels: Tensor
    positions: Tensor
    heads: tuple[RowHead, ...]


class TokenDataset(Dataset[TokenSample]):
    """A folder of tokens, for process `rank` of `ranks`; `len` is one epoch of it, and positions go on beyond.

    >>> tokens = TokenDataset("tokens/", seed=0, classes=["cat", "dog"])
    >>> for batch in tokens.batches(256, first=0, last=1_000_000, workers=4):
    ...     batch.codes, batch.labels

    Epochs of two processes differ by at most one row. Read positions in order (as `batches` does): one that lies
    elsewhere costs the reading of its shards.
    """

    def __init__(
        self,
        place: str,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        mix: int = 8,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Raises DataError for a folder with fewer rows than processes, SettingsError for a rank out of range."""
        if not 0 <= rank < ranks or mix < 1:
            raise SettingsError(f"rank must be 0 to ranks − 1, and mix 1 or more; got rank={rank}, {ranks=}, {mix=}")
        self.place, self.seed, self.rank, self.ranks, self.mix = str(place), seed, rank, ranks, mix
        self._store = open_store(self.place)
        self.index = read_index(self._store)
        if self.index.rows < ranks:
            raise DataError(f"{place} holds {self.index.rows} rows, too few for {ranks} processes")
        self._classes = None if classes is None else {name: number for number, name in enumerate(classes)}
        self._epoch: Epoch | None = None
        self._group: tuple[int, int, np.ndarray] | None = None
        self._open: OrderedDict[int, Shard] = OrderedDict()

    @property
    def meaning(self) -> Meaning:
        """The model, its hash, and the radices of the codes."""
        return self.index.meaning

    def __len__(self) -> int:
        first, last = share_of(self.index.rows, self.rank, self.ranks)
        return last - first

    def __getitem__(self, position: int) -> TokenSample:
        """Raises DataError if a shard is gone or damaged, or has a label that is none of the classes."""
        epoch, place = divmod(position, len(self))
        if self._epoch is None or self._epoch.number != epoch:
            self._epoch, self._group = Epoch.of(self.index, self.seed, epoch, self.rank, self.ranks), None
        shard, number = self._locate(self._epoch, place)
        row = self._shard(shard)[number]
        return TokenSample(position, row.codes.digits[0], self._label(row), row.head)

    def batches(self, batch: int, first: int, last: int, workers: int = 0) -> DataLoader[TokenBatch]:
        """Batches of the positions first … last − 1, whole ones only. Raises as `__getitem__`, and ShapeError where
        the rows of a batch have different grids.
        """
        return DataLoader(
            self,  # type: ignore[arg-type]
            batch_sampler=Positions(Share(batch, batch), first, last),
            collate_fn=self.collate,
            num_workers=workers,
            worker_init_fn=ignore_stop_signals,
            prefetch_factor=4 if workers else None,
            generator=torch.Generator(),  # or it would draw from the generator that training draws from
        )

    def collate(self, samples: Sequence[TokenSample]) -> TokenBatch:
        """Samples as a batch, (B, T, h, w, digits). Raises ShapeError for grids that differ."""
        shapes = {tuple(sample.digits.shape) for sample in samples}
        if len(shapes) > 1:
            raise ShapeError(
                f"rows of grids {sorted(shapes)} make no batch; tokenize with --size, or take one at a time"
            )
        return TokenBatch(
            codes=Codes(torch.stack([sample.digits for sample in samples]), self.meaning.radices),
            labels=torch.tensor([sample.label for sample in samples]),
            positions=torch.tensor([sample.position for sample in samples]),
            heads=tuple(sample.head for sample in samples),
        )

    def __getstate__(self) -> dict[str, object]:
        """Loader workers open shards of their own."""
        return {**self.__dict__, "_open": OrderedDict()}

    def _locate(self, epoch: Epoch, place: int) -> tuple[int, int]:
        """(shard, row in it) at a place of this process's epoch."""
        group = bisect.bisect_right(epoch.ends, place, lo=0, hi=len(epoch.ends), key=None) // self.mix
        first = group * self.mix
        start = epoch.ends[first - 1] if first else 0
        runs = epoch.runs[first : first + self.mix]
        if self._group is None or self._group[:2] != (epoch.number, group):
            random = np.random.default_rng((self.seed, ROWS, epoch.number, self.rank, group))
            self._group = epoch.number, group, random.permutation(sum(run.rows for run in runs))
        drawn = int(self._group[2][place - start])
        for run in runs:
            if drawn < run.rows:
                return run.shard, run.first + drawn
            drawn -= run.rows
        raise AssertionError(place)

    def _shard(self, number: int) -> Shard:
        """From memory, if it is among the last `mix` + 1 that were read."""
        if number not in self._open:
            listed = self.index.shards[number]
            with self._store.open(listed.name) as file:
                shard = read_shard(file, Format.of(listed.name), f"{self.place}/{listed.name}")
            if len(shard) != listed.rows or shard.meaning != self.meaning:
                raise DataError(f"{self.place}/{listed.name} is not the shard that the index lists; tokenize anew")
            while len(self._open) > self.mix:
                self._open.popitem(last=False)
            self._open[number] = shard
        self._open.move_to_end(number)
        return self._open[number]

    def _label(self, row: TokenRow) -> int:
        if self._classes is None or row.head.label is None:
            return -1
        label = row.head.label
        if label.isdecimal() and label not in self._classes and int(label) < len(self._classes):
            return int(label)
        if label not in self._classes:
            raise DataError(f"{row.head.source} is labelled {label!r}, which is none of the classes")
        return self._classes[label]


@dataclass(frozen=True)
class Run:
    """`rows` rows of a shard, from `first` on."""

    shard: int
    first: int
    rows: int


@dataclass(frozen=True)
class Epoch:
    """What one process sees in one epoch: runs of rows, and how many rows there are up to the end of each."""

    number: int
    runs: tuple[Run, ...]
    ends: tuple[int, ...]

    @staticmethod
    def of(index: Index, seed: int, epoch: int, rank: int, ranks: int) -> Epoch:
        """Which rows rank `rank` of `ranks` reads in this epoch: shards in an order drawn by seed and epoch."""
        first, last = share_of(index.rows, rank, ranks)
        runs, start = [], 0
        for number in np.random.default_rng((seed, SHARDS, epoch)).permutation(len(index.shards)).tolist():
            end = start + index.shards[number].rows
            low, high = max(start, first), min(end, last)
            if low < high:
                runs.append(Run(number, low - start, high - low))
            start = end
        return Epoch(epoch, tuple(runs), tuple(accumulate(run.rows for run in runs)))


def share_of(rows: int, rank: int, ranks: int) -> tuple[int, int]:
    """First and last + 1 of the rows, in the order of an epoch, that a process takes."""
    return rows * rank // ranks, rows * (rank + 1) // ranks
