"""One shard. What enters: its line of the plan. What leaves: a file of tokens, and behind it a note that it is whole.

A shard is the unit of everything: it is read, encoded and written by one worker, in the order of the plan, in batches
that follow from the plan, so its bytes do not depend on who writes it, when, or beside how many others. It counts from
the moment when its note is there; until then it is written anew, under the same name, with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from bsq.bulk.plan import DONE_FOLDER, Line, Plan, read_pieces
from bsq.bulk.reading import Fault, Input, read_inputs, reason_of
from bsq.bulk.settings import TokenizeSettings
from bsq.bulk.views import View, hash_of, views_of
from bsq.codec.shelf import usual_group
from bsq.codes import Codes
from bsq.data.dataset import to_pixels
from bsq.data.storage import Store, open_store
from bsq.data.token_files import RowHead, TokenRow, writing_shard
from bsq.errors import BsqError, MissingDependencyError
from bsq.tokenizer import Tokenizer


class Note(BaseModel):
    """A shard that is whole: its rows, what is in them (`packed`: bytes of codes alone), its bytes and hash, the inputs
    that were read, and those that gave no rows, or not all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int
    name: str
    rows: int
    tokens: int
    packed: int
    pixels: int
    bytes: int
    sha256: str
    inputs: int
    inputs_bytes: int
    faults: tuple[Fault, ...]


def note_name(number: int) -> str:
    return f"{DONE_FOLDER}/{number:05d}.json"


def read_note(store: Store, number: int) -> Note | None:
    """None for a note that was not written to its end. Raises DataError if it cannot be read."""
    try:
        return Note.model_validate_json(store.read(note_name(number)))
    except ValidationError:
        return None


@dataclass(frozen=True)
class Encoding:
    """The work of a run: lines of the plan to shards in the folder at `place`. Goes to other processes as it is."""

    plan: Plan
    place: str
    tokenizer: Tokenizer

    def open(self) -> Callable[[Line], Note]:
        """Once in each worker: what writes a shard. Raises as `Shard`'s steps do, for all but faulty inputs."""
        torch.set_num_threads(1)  # sums in another order round differently
        store = open_store(self.place)
        tokenizer = self.tokenizer.to(self.plan.device).eval()
        return lambda line: write_shard(line, self.plan, tokenizer, store)


def write_shard(line: Line, plan: Plan, tokenizer: Tokenizer, store: Store) -> Note:
    """Raises MediaError if the shard cannot be written (a full disk), DataError if the plan cannot be read."""
    inputs = read_inputs(read_pieces(store, line), plan.settings)
    name, tally = plan.shard_name(line.number), Tally()
    with store.drafting(name) as file:
        with writing_shard(file, plan.settings.shard_format, plan.meaning) as shard:
            for row in encoded(viewed(inputs, plan.settings, tokenizer, tally), plan.settings, tokenizer, tally):
                tally.count(row)
                shard.add(row)
        size = file.tell()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    note = tally.note(line.number, name, size, digest)
    store.write(note_name(line.number), note.model_dump_json().encode())
    return note


@dataclass(frozen=True, eq=False)
class Pending:
    """A view that waits to be encoded, of an input whose hash is known."""

    given: Input
    sha256: str
    view: View


class Tally:
    """What a shard's note will say."""

    def __init__(self) -> None:
        self.rows = self.tokens = self.packed = self.pixels = self.inputs = self.inputs_bytes = 0
        self.faults: list[Fault] = []

    def count(self, row: TokenRow) -> None:
        head, tokens = row.head, row.head.frames * row.head.rows * row.head.columns
        self.rows += 1
        self.tokens += tokens
        self.packed += (tokens * row.codes.bits_per_code + 7) // 8
        self.pixels += head.frames * head.height * head.width

    def fault(self, given: Input, error: Exception) -> None:
        fault = Fault(key=given.key, source=given.source, reason=reason_of(error))
        if fault not in self.faults[-1:]:  # of an input with several views
            self.faults.append(fault)

    def note(self, number: int, name: str, size: int, sha256: str) -> Note:
        """What the shard `number`, written as `name` with `size` bytes, came to."""
        return Note(
            number=number,
            name=name,
            rows=self.rows,
            tokens=self.tokens,
            packed=self.packed,
            pixels=self.pixels,
            bytes=size,
            sha256=sha256,
            inputs=self.inputs,
            inputs_bytes=self.inputs_bytes,
            faults=tuple(self.faults),
        )


def viewed(
    inputs: Iterator[Input | Fault], settings: TokenizeSettings, tokenizer: Tokenizer, tally: Tally
) -> Iterator[Pending]:
    """The views of all inputs that have any; the others are tallied as faults."""
    group = settings.frames.frames or usual_group(tokenizer)
    for given in inputs:
        tally.inputs += 1
        if isinstance(given, Fault):
            tally.faults.append(given)
            continue
        try:
            sha256 = hash_of(given.data)
            tally.inputs_bytes += len(given.data) if isinstance(given.data, bytes) else given.data.stat().st_size
            for view in views_of(given, settings, group):
                yield Pending(given, sha256, view)
        except MissingDependencyError:
            raise
        except (BsqError, OSError) as error:
            tally.fault(given, error)


def encoded(
    waiting: Iterator[Pending], settings: TokenizeSettings, tokenizer: Tokenizer, tally: Tally
) -> Iterator[TokenRow]:
    """Rows in the order of the views. Neighbours of one size are encoded together, `batch` at a time."""
    for _, alike in groupby(waiting, key=lambda pending: pending.view.pixels.shape):
        while batch := list(islice(alike, settings.batch)):
            yield from encode_batch(batch, settings.bits, tokenizer, tally)


def encode_batch(batch: list[Pending], bits: int | None, tokenizer: Tokenizer, tally: Tally) -> Iterator[TokenRow]:
    """Where the batch fails, its views one by one; an input is at fault only if it fails alone."""
    stored = torch.from_numpy(np.stack([pending.view.pixels for pending in batch]))  # (B, T, H, W, 3)
    try:
        with torch.inference_mode():
            codes = tokenizer.encode(to_pixels(stored.permute(0, 4, 1, 2, 3)), bits).to("cpu")
    except BsqError as error:
        if len(batch) == 1:
            tally.fault(batch[0].given, error)
            return
        for pending in batch:
            yield from encode_batch([pending], bits, tokenizer, tally)
        return
    for number, pending in enumerate(batch):
        yield row_of(pending, Codes(codes.digits[number : number + 1], codes.radices))


def row_of(pending: Pending, codes: Codes) -> TokenRow:
    """One view and its codes (1, T, h, w, digits) as a row of a shard."""
    given, view = pending.given, pending.view
    _, frames, rows, columns, _ = codes.shape
    head = RowHead(
        key=given.key,
        source=given.source,
        source_sha256=pending.sha256,
        view=view.number,
        start=view.start,
        label=given.label,
        height=view.pixels.shape[1],
        width=view.pixels.shape[2],
        frames=frames,
        rows=rows,
        columns=columns,
    )
    return TokenRow(head, codes)
