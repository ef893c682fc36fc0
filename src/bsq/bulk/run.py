"""A whole run. What enters: sources, settings, a model, a folder. What leaves: shards, an index, a list of faults.

A run can be broken off at any moment; the next one writes the shards that are missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from bsq.bulk.encoding import Encoding, Note, note_name, read_note
from bsq.bulk.listing import expand_range, join, searches
from bsq.bulk.plan import DONE_FOLDER, Line, Plan, Planned, make_plan
from bsq.bulk.reading import Fault
from bsq.bulk.settings import TokenizeSettings
from bsq.bulk.spread import Workers
from bsq.codec.shelf import name_of
from bsq.data.storage import LocalStore, Store, open_store
from bsq.data.token_files import Meaning
from bsq.data.tokens import INDEX_FILE, Index, IndexedShard
from bsq.data.videos import import_av
from bsq.errors import DataError, SettingsError
from bsq.tokenizer import Tokenizer

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FAULTS_FILE = "errors.jsonl"
LOCK_FILE = ".lock"
SHOWN = 10
"""Faults that a summary shows."""
READERS = 16
"""Notes that are read at once."""


class Listener(Protocol):
    """What is told of a run."""

    def listed(self, inputs: int) -> None:
        """So many inputs were found so far."""
        ...

    def begins(self, plan: Plan, done: int, inputs: int) -> None:
        """So many shards of the plan, of so many inputs, were written by earlier runs."""
        ...

    def wrote(self, note: Note) -> None:
        """One more shard is whole."""
        ...


class Faulty(Enum):
    """What a run does about inputs that gave no tokens in an earlier one."""

    KEEP = "keep"
    RETRY = "retry"


@dataclass(frozen=True)
class Request:
    """What is to be tokenized, and where the tokens go. `place` is a folder or an address."""

    sources: tuple[str, ...]
    place: str
    settings: TokenizeSettings
    device: str = "cpu"
    faulty: Faulty = Faulty.KEEP


@dataclass(frozen=True)
class Summary:
    """What the folder holds now."""

    plan: Plan
    index: Index
    tokens: int
    packed: int
    pixels: int
    inputs: int
    inputs_bytes: int
    bytes: int
    faults: int
    first_faults: tuple[Fault, ...]


def tokenize(request: Request, tokenizer: Tokenizer, workers: Workers, listener: Listener) -> Summary:
    """Write all shards that are missing, then the index and the list of faults.

    Raises SettingsError (the folder holds other tokens; digits that the model has not), DataError (no inputs, no
    cluster), MediaError (the folder cannot be written).
    """
    refuse_own_source(request)
    store = open_store(request.place)
    meaning = meaning_of(tokenizer, request.settings)
    if request.settings.inputs == "videos":
        import_av()  # or every video would be at fault
    with only_run(store):
        planned = make_plan(request.sources, request.settings, meaning, request.device, store, listener.listed)
        missing = missing_lines(planned, store, request.faulty)
        done = set(planned.lines) - set(missing)
        listener.begins(planned.plan, len(done), sum(line.inputs or 0 for line in done))
        if missing:
            store.remove(INDEX_FILE)
            work = Encoding(planned.plan, request.place, tokenizer)
            with closing(workers.spread(work, missing)) as notes:
                for note in notes:
                    listener.wrote(note)
            check_seen(planned, store)
        return finish(planned, store)


def refuse_own_source(request: Request) -> None:
    """Raises SettingsError for tokens that the next listing of the sources would find."""
    shard = join(request.place, f"shard-00000{request.settings.shard_format.value}")
    for source in request.sources:
        if any(searches(name, shard) for name in expand_range(source)):
            raise SettingsError(f"{request.place} lies inside {source}, which is searched; write the tokens elsewhere")


def check_seen(planned: Planned, store: Store) -> None:
    """Raises DataError where workers wrote to disks of their own."""
    unseen = missing_lines(planned, store, Faulty.KEEP)
    if unseen:
        raise DataError(
            f"{len(unseen)} shards were written where this machine does not see them: on a cluster, {store.place} "
            "must be a folder that all machines share, or an address (s3://…)"
        )


def meaning_of(tokenizer: Tokenizer, settings: TokenizeSettings) -> Meaning:
    """Raises SettingsError for a model without codes, or more bits than it has."""
    radices = tokenizer.radices
    if not radices:
        raise SettingsError("this model has a continuous latent and makes no codes; choose another --model")
    if settings.bits is not None and settings.bits > len(radices):
        raise SettingsError(f"the model's codes have {len(radices)} digits, bits={settings.bits} asks for more")
    return Meaning(
        model=name_of(tokenizer),
        code_hash=tokenizer.code_hash,
        patch=tokenizer.patch,
        radices=radices[: settings.bits],
    )


def missing_lines(planned: Planned, store: Store, faulty: Faulty) -> list[Line]:
    """The shards that are not yet written whole; with RETRY also those with failed inputs."""
    notes, shards = store.names(DONE_FOLDER), store.names()
    missing = []
    for line in planned.lines:
        whole = f"{line.number:05d}.json" in notes and planned.plan.shard_name(line.number) in shards
        if whole and faulty is Faulty.RETRY:
            note = read_note(store, line.number)
            whole = note is not None and not note.faults
        if not whole:
            missing.append(line)
    return missing


def finish(planned: Planned, store: Store) -> Summary:
    """Write the list of faults and the index. Raises DataError if a note is damaged, which the next run mends."""
    shards: list[IndexedShard] = []
    sums = dict.fromkeys(("tokens", "packed", "pixels", "inputs", "inputs_bytes", "bytes"), 0)
    first_faults: list[Fault] = []
    faults = 0
    with store.drafting(FAULTS_FILE) as file:
        for note in notes_of(planned, store):
            shards.append(IndexedShard(name=note.name, rows=note.rows, sha256=note.sha256))
            for name in sums:
                sums[name] += getattr(note, name)
            for fault in note.faults:
                file.write(fault.model_dump_json().encode() + b"\n")
            faults += len(note.faults)
            first_faults += note.faults[: SHOWN - len(first_faults)]
    plan = planned.plan
    index = Index(meaning=plan.meaning, rows=sum(shard.rows for shard in shards), shards=tuple(shards))
    store.write(INDEX_FILE, index.model_dump_json(indent=1).encode())
    return Summary(plan=plan, index=index, faults=faults, first_faults=tuple(first_faults), **sums)


def notes_of(planned: Planned, store: Store) -> Iterator[Note]:
    """In the order of the plan, some at once."""
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(planned.lines), 8 * READERS):
            some = planned.lines[start : start + 8 * READERS]
            for line, note in zip(some, pool.map(lambda line: read_note(store, line.number), some), strict=True):
                if note is None:
                    store.remove(note_name(line.number))
                    raise DataError(f"the note on shard {line.number} was damaged; start again to write the shard anew")
                yield note


@contextlib.contextmanager
def only_run(store: Store) -> Iterator[None]:
    """One run at a time writes to a folder of this machine. What a killed one left of files is swept away.

    Raises SettingsError if there is another one.
    """
    if not isinstance(store, LocalStore) or fcntl is None:
        yield
        return
    store.write(LOCK_FILE, b"") if LOCK_FILE not in store.names() else None
    with open(store.folder / LOCK_FILE, "rb+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(f"another run is writing to {store.place}; wait for it, or stop it") from error
        for folder in ("", DONE_FOLDER):
            for name in store.names(folder):
                if name.startswith(".bsq-") and name.endswith(".part"):
                    store.remove(f"{folder}/{name}" if folder else name)
        yield
