"""Which inputs go into which shard. What enters: sources, settings, a model. What leaves: a plan, kept with the tokens.

The plan follows from what the sources hold alone, so that the shards are the same whatever number of workers writes
them. It lies in two files: `inputs.jsonl`, a line for each shard, of which a worker reads its own, and `plan.json`, all
else with the first one's hash. A folder whose plan is another is refused.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from bsq.bulk.listing import File, list_units
from bsq.bulk.pieces import PIECES, AnyPiece, ContainerPiece, FilesPiece, count_of
from bsq.bulk.settings import TokenizeSettings
from bsq.data.storage import Store
from bsq.data.token_files import Meaning
from bsq.errors import DataError, SettingsError
from bsq.settings import told_faults

PLAN_FILE, INPUTS_FILE, DONE_FOLDER = "plan.json", "inputs.jsonl", "done"


class Plan(BaseModel):
    """`inputs` is None where some can only be counted by reading them; `device` is "cpu" or "cuda": the two may round
    a latent next to zero differently.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: int = 1
    meaning: Meaning
    settings: TokenizeSettings
    device: str
    shards: int
    inputs: int | None
    inputs_bytes: int
    inputs_sha256: str

    def shard_name(self, number: int) -> str:
        return f"shard-{number:05d}{self.settings.shard_format.value}"


@dataclass(frozen=True)
class Line:
    """Shard `number`: bytes start … end − 1 of `inputs.jsonl`, and how many inputs, if that is known."""

    number: int
    start: int
    end: int
    inputs: int | None


@dataclass(frozen=True)
class Planned:
    plan: Plan
    lines: tuple[Line, ...]


def make_plan(
    sources: Sequence[str],
    settings: TokenizeSettings,
    meaning: Meaning,
    device: str,
    store: Store,
    listed: Callable[[int], None] = lambda count: None,
) -> Planned:
    """List the sources and keep the plan in the store; or find the same one there. `listed` is told how many inputs
    were found so far.

    Raises DataError for sources that hold nothing, SettingsError if the folder was begun with anything else.
    """
    with tempfile.TemporaryFile() as draft:
        lines = tuple(write_lines(shards_of(list_units(sources, settings), settings.shard_size), draft, listed))
        counts = [line.inputs for line in lines]
        draft.seek(0)
        plan = Plan(
            meaning=meaning,
            settings=settings,
            device=device,
            shards=len(lines),
            inputs=None if None in counts else sum(filter(None, counts)),
            inputs_bytes=lines[-1].end,
            inputs_sha256=hashlib.file_digest(draft, "sha256").hexdigest(),
        )
        if PLAN_FILE in store.names():
            check_same(read_plan(store), plan, store)
        else:
            draft.seek(0)
            with store.drafting(INPUTS_FILE) as kept:
                shutil.copyfileobj(draft, kept, 1 << 20)
            store.write(PLAN_FILE, plan.model_dump_json(indent=1).encode())
    return Planned(plan, lines)


def read_plan(store: Store) -> Plan:
    """Raises DataError if there is none, or it is damaged or of a newer version."""
    try:
        return Plan.model_validate_json(store.read(PLAN_FILE))
    except ValidationError as error:
        raise DataError(f"{store.place}/{PLAN_FILE} is damaged, or a newer bsq's: {told_faults(error)}") from error


def read_pieces(store: Store, line: Line) -> tuple[AnyPiece, ...]:
    """The inputs of a shard. Raises DataError."""
    try:
        return PIECES.validate_json(store.read(INPUTS_FILE, line.start, line.end))
    except ValidationError as error:
        raise DataError(f"{store.place}/{INPUTS_FILE} is damaged; a folder is begun anew by deleting it") from error


def shards_of(units: Iterable[File | ContainerPiece], size: int) -> Iterator[tuple[AnyPiece, ...]]:
    """Runs of `size` inputs, the last one fewer. What was not counted is a shard of its own."""
    filling = Filling(size)
    for unit in units:
        match unit:
            case File():
                filling.add_file(unit)
            case ContainerPiece(count=None):
                yield from filling.taken()
                yield (unit,)  # type: ignore[misc]
            case ContainerPiece():
                yield from cut(unit, filling)
            case _:
                raise AssertionError(unit)
        if not filling.room:
            yield from filling.taken()
    yield from filling.taken()


def cut(unit: ContainerPiece, filling: Filling) -> Iterator[tuple[AnyPiece, ...]]:
    """A container of many inputs in parts that fill shards; each shard as it becomes full."""
    first, count = 0, unit.count
    assert count is not None
    while first < count:
        if not filling.room:
            yield from filling.taken()
        part = unit.model_copy(update={"first": first, "count": min(filling.room, count - first)})
        filling.add_part(part)
        first += part.count or 0


class Filling:
    """A shard that is being put together: `room` for so many more inputs."""

    def __init__(self, size: int) -> None:
        self.size = self.room = size
        self._pieces: list[AnyPiece] = []
        self._root, self._files = "", list[tuple[str, int]]()

    def add_file(self, file: File) -> None:
        if file.root != self._root:
            self._close_files()
            self._root = file.root
        self._files.append((file.name, file.size))
        self.room -= 1

    def add_part(self, part: ContainerPiece) -> None:
        self._close_files()
        self._pieces.append(part)  # type: ignore[arg-type]
        self.room -= part.count or 0

    def taken(self) -> Iterator[tuple[AnyPiece, ...]]:
        """The shard, if there is anything in it; the next one begins."""
        self._close_files()
        if self._pieces:
            yield tuple(self._pieces)
        self._pieces, self.room = [], self.size

    def _close_files(self) -> None:
        if self._files:
            self._pieces.append(FilesPiece(root=self._root, files=tuple(self._files)))
        self._files = []


def write_lines(
    shards: Iterable[tuple[AnyPiece, ...]], file: BinaryIO, listed: Callable[[int], None]
) -> Iterator[Line]:
    """Write the pieces of each shard as a line of JSON; yields where each line lies. `listed` hears how many."""
    start = total = 0
    for number, pieces in enumerate(shards):
        data = PIECES.dump_json(pieces) + b"\n"
        file.write(data)
        count = count_of(pieces)
        total += count or 0
        listed(total)
        yield Line(number, start, start + len(data), count)
        start += len(data)


def check_same(kept: Plan, asked: Plan, store: Store) -> None:
    """Raises SettingsError that names what differs."""
    if kept == asked:
        return
    before, now = flat(kept.model_dump(mode="json")), flat(asked.model_dump(mode="json"))
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    told = [name for name in changed if not name.startswith(("inputs", "shards"))]
    if told:
        differences = ", ".join(f"{name} was {before.get(name)}, is {now.get(name)}" for name in told[:4])
        reason = f"with other settings: {differences}"
    else:
        reason = (
            f"with other inputs: {kept.inputs or 'uncounted'} then, {asked.inputs or 'uncounted'} now"
            if kept.inputs != asked.inputs
            else "with other inputs: as many, but of other folders, names or sizes"
        )
    raise SettingsError(f"{store.place} was begun {reason}; go on as it was begun, or name another folder")


def flat(told: dict[str, object], above: str = "") -> dict[str, object]:
    """{"views": {"size": 64}} → {"views.size": 64}."""
    found: dict[str, object] = {}
    for name, value in told.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{above}{name}."))
        else:
            found[f"{above}{name}"] = value
    return found
