"""Samples that can only be read in order. What enters: tars from pipes and addresses. What leaves: encoded samples.

A stream cannot be searched, so its order is made of two draws that follow from the seed: the order of the tars in each
epoch, and a buffer in memory from which samples are taken at random. Each process reads tars of its own. A run resumes
by reading the current epoch again up to its place (and, beyond the first epoch, one epoch more to learn its length):
exact, but not free. The opening of addresses is the library webdataset's.
"""

from __future__ import annotations

import contextlib
import importlib
import queue
import re
import tarfile
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from bsq.data.stored import Kind
from bsq.errors import BsqError, DataError, MissingDependencyError

TARS, TAKEN = 4, 5
"""What these streams of random numbers are for (others: 0 order, 1 crops, 2 kept digits, 3 noise)."""
ADDRESS = re.compile(r"(pipe|https?|ftps?|sftp|scp|gs|hf|ais|s3):", re.IGNORECASE)
STAND_INS = 4
AHEAD = 64
BUFFER_BYTES = 2**28


@dataclass(frozen=True)
class Refused:
    """A sample, or a tar, that cannot be used, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


@dataclass(frozen=True, eq=False)
class InMemory:
    """A sample that was read already."""

    name: str
    data: bytes

    def read(self) -> bytes:
        return self.data


class Stream(Protocol):
    """Something that gives its samples in an order that follows from `order`, to each process its share."""

    name: str

    def epoch(self, order: int, process: int, processes: int) -> Iterator[InMemory | Refused]: ...


@dataclass(frozen=True, eq=False)
class Delivery:
    """A sample, those just before it (should it be damaged), and what was refused on the way to it."""

    item: InMemory
    stand_ins: tuple[InMemory, ...]
    refused: tuple[Refused, ...]


def is_stream(source: str) -> bool:
    """Whether a source is a pipe or an address rather than a path."""
    return ADDRESS.match(source) is not None


class TarStream:
    """Tars behind pipes ("pipe:curl -s https://…") and addresses ("https://…/{000..099}.tar")."""

    def __init__(self, sources: Sequence[str], kind: Kind) -> None:
        """Raises DataError for addresses that need a command, such as s3."""
        self.tars = [tar for source in sources for tar in webdataset("shardlists").expand_urls(source)]
        for tar in self.tars:
            if tar.partition(":")[0].lower() not in webdataset("gopen").gopen_schemes:
                raise DataError(f"{tar} needs a command that reads it, such as 'pipe:aws s3 cp {tar} -'")
        self.kind = kind
        self.name = sources[0]

    def epoch(self, order: int, process: int, processes: int) -> Iterator[InMemory | Refused]:
        """Raises DataError if there are fewer tars than processes."""
        if len(self.tars) < processes:
            raise DataError(f"{processes} processes need as many tars to stream from, got {len(self.tars)}")
        mine = self.tars[process::processes]
        for number in np.random.default_rng(order).permutation(len(mine)):
            yield from self._tar(mine[number])

    def _tar(self, address: str) -> Iterator[InMemory | Refused]:
        """The samples of one tar; if it breaks off, those before that."""
        file = None
        try:
            file = webdataset("gopen").gopen(address)
            # Past webdataset's wrapper, which drops what a failed command wrote if it has ended by then, or not.
            data = getattr(file, "stream", file)
            for sample in webdataset("tariterators").tar_file_iterator(data, select_files=self.kind.holds):
                yield InMemory(f"{address}:{sample['fname']}", sample["data"])
            while data.read(1 << 20):  # the padding
                pass
            file.close()  # a command that failed says so now
        except (OSError, ValueError, EOFError, tarfile.TarError) as error:
            yield Refused(address, f"broke off: {str(error)[:200] or type(error).__name__}")
        finally:
            if file is not None:
                end_quietly(file)


def end_quietly(file: Any) -> None:
    """Close a pipe that is no longer wanted, and end its command."""
    with contextlib.suppress(Exception):
        file.proc.terminate()
    with contextlib.suppress(Exception):
        file.close()


def webdataset(part: str) -> ModuleType:
    """A module of the library, which hides some of them behind functions of the same name."""
    try:
        return importlib.import_module(f"webdataset.{part}")
    except ImportError as error:
        raise MissingDependencyError("tars from pipes and addresses need a library; pip install 'bsq[hub]'") from error


@dataclass(frozen=True)
class Reading:
    """How a stream is read: by which process, shuffled through how many samples, from which place of it on."""

    seed: int
    shuffle: int
    process: int = 0
    processes: int = 1
    skip: int = 0


def deliveries(stream: Stream, reading: Reading) -> Generator[Delivery, None, None]:
    """The endless samples of a stream from the place `skip` on. Raises DataError if an epoch has none."""
    epoch, left, length = 0, reading.skip, 0
    while True:
        if length:  # of epoch 0, which was read to learn it; whole epochs before the place need no reading
            epoch, left = epoch + left // length, left % length
        count = 0
        items = stream.epoch(draw(reading, TARS, epoch), reading.process, reading.processes)
        for delivery in with_stand_ins(shuffled(items, reading, epoch), stream.name):
            count += 1
            if left:
                left -= 1
            else:
                yield delivery
        epoch, length = epoch + 1, length or count


def with_stand_ins(items: Iterator[InMemory | Refused], name: str) -> Iterator[Delivery]:
    """Each sample of an epoch with a few of those that follow and went before."""
    before: deque[InMemory] = deque(maxlen=STAND_INS)
    waiting: deque[InMemory] = deque()
    refused: list[Refused] = []

    def deliver() -> Delivery:
        item = waiting.popleft()
        delivery = Delivery(item, (*waiting, *before), tuple(refused))
        before.append(item)
        refused.clear()
        return delivery

    for item in items:
        if isinstance(item, Refused):
            refused.append(item)
            continue
        waiting.append(item)
        if len(waiting) > STAND_INS:
            yield deliver()
    if not waiting and not before:
        raise DataError(f"nothing can be read from {name}{f'; {refused[0]}' if refused else ''}")
    while waiting:
        yield deliver()


def draw(reading: Reading, purpose: int, epoch: int) -> int:
    """A number that follows from seed, epoch and process."""
    words = np.random.SeedSequence((reading.seed, purpose, epoch, reading.process))
    return int(words.generate_state(1)[0])


def shuffled(items: Iterator[InMemory | Refused], reading: Reading, epoch: int) -> Iterator[InMemory | Refused]:
    """Each sample waits in a buffer until it is drawn; what was refused passes at once. Empty at the epoch's end."""
    random = np.random.default_rng(draw(reading, TAKEN, epoch))
    waiting: list[InMemory] = []
    size = 0
    for item in items:
        if isinstance(item, Refused):
            yield item
            continue
        waiting.append(item)
        size += len(item.data)
        while waiting and (len(waiting) >= reading.shuffle or size > BUFFER_BYTES):
            size -= len(waiting[chosen := int(random.integers(len(waiting)))].data)
            waiting[chosen], waiting[-1] = waiting[-1], waiting[chosen]
            yield waiting.pop()
    for chosen in random.permutation(len(waiting)):
        yield waiting[chosen]


def read_ahead(stream: Stream, reading: Reading) -> Generator[Delivery, None, None]:
    """`deliveries`, read by a thread while training computes; closing the iterator ends the thread."""
    ready: queue.Queue[Delivery | BaseException] = queue.Queue(AHEAD)
    stop = threading.Event()

    def put(thing: Delivery | BaseException) -> None:
        while not stop.is_set():
            try:
                return ready.put(thing, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        source = deliveries(stream, reading)
        try:
            for delivery in source:
                put(delivery)
                if stop.is_set():
                    return
        except Exception as error:
            put(error)
        finally:
            source.close()

    threading.Thread(target=work, name="bsq-stream", daemon=True).start()
    try:
        while True:
            thing = ready.get()
            if isinstance(thing, BsqError):
                raise thing
            if isinstance(thing, BaseException):
                raise DataError(f"reading {stream.name} failed: {thing}") from thing
            yield thing
    finally:
        stop.set()
