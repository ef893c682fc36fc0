"""Hugging Face data sets. What enters: a data set's name or folder, a column. What leaves: encoded pictures, videos.

The library `datasets` (extra `hub`) is imported only here. Columns are taken as they are stored and decoded by our own
readers, so that a picture gives the same pixels wherever it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, overload

import numpy as np

from bsq.data.stored import Encoded
from bsq.data.streams import InMemory, Refused
from bsq.errors import DataError, MissingDependencyError
from bsq.settings import Settings

SHARDS = 64
"""Parts of a stored data set that is streamed; their order is drawn anew in each epoch."""


class HuggingFaceSettings(Settings):
    """`path`: a name on the hub, a folder of files, or one that `save_to_disk` wrote; `name`: its configuration;
    `column` holds pictures or videos. `streaming` reads in order and never stores the whole: see `bsq.data.streams`.
    """

    kind: Literal["hugging_face"] = "hugging_face"
    path: str
    name: str | None = None
    split: str = "train"
    column: str = "image"
    revision: str | None = None
    streaming: bool = False


@dataclass(frozen=True, eq=False)
class Row:
    """One row's picture or video."""

    rows: Rows
    number: int

    @property
    def name(self) -> str:
        return f"{self.rows.title}[{self.number}]"

    def read(self) -> bytes:
        """Raises DataError for an empty cell."""
        return bytes_of(self.rows.table[self.number][self.rows.column], self.name)


class Rows(Sequence[Encoded]):
    """A stored data set, any row at once."""

    def __init__(self, table: Any, column: str, title: str) -> None:
        self.table, self.column, self.title = table, column, title

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, number: int) -> Row: ...

    @overload
    def __getitem__(self, number: slice) -> list[Encoded]: ...

    def __getitem__(self, number: int | slice) -> Row | list[Encoded]:
        if isinstance(number, slice):
            return [Row(self, n) for n in range(*number.indices(len(self)))]
        return Row(self, range(len(self))[number])


class RowStream:
    """A streamed data set, read in order."""

    def __init__(self, table: Any, column: str, title: str) -> None:
        self.table, self.column, self.name = table, column, title

    def epoch(self, order: int, process: int, processes: int) -> Iterator[InMemory | Refused]:
        """The rows of this process's parts, which come in an order that follows from `order`.

        Raises DataError if there are fewer parts (files, mostly) than processes.
        """
        parts = self.table.num_shards
        if parts < processes:
            raise DataError(f"{self.name} has {parts} parts to stream, too few for {processes} processes")
        mine = range(parts)[process::processes]
        for part in np.random.default_rng(order).permutation(mine).tolist():
            # The library's own shuffling threads take five seconds to end.
            for number, row in enumerate(self.table.shard(num_shards=parts, index=part)):
                name = f"{self.name}[{part}:{number}]"
                try:
                    yield InMemory(name, bytes_of(row[self.column], name))
                except (DataError, OSError) as error:
                    yield Refused(name, str(error))


def open_rows(settings: HuggingFaceSettings) -> Rows | RowStream:
    """Raises DataError if there is no such data set, split or column, MissingDependencyError without the library."""
    library = import_datasets()
    title = f"{settings.path}/{settings.split}"
    try:
        table = load(library, settings)
    except Exception as error:  # the library raises a dozen kinds
        raise DataError(f"cannot open the data set {title}: {str(error).strip() or type(error).__name__}") from error
    table = undecoded(library, table, settings.column, title)
    if settings.streaming:
        return RowStream(table, settings.column, title)
    if not len(table):
        raise DataError(f"{title} has no rows")
    return Rows(table, settings.column, title)


def import_datasets() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError("Hugging Face data sets need a library; pip install 'bsq[hub]'") from error
    return datasets


def load(library: ModuleType, settings: HuggingFaceSettings) -> Any:
    """The data set, from a folder that was saved or from the hub, as the library's own kind."""
    folder = Path(settings.path).expanduser()
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        table = library.load_from_disk(str(folder))
        table = table[settings.split] if isinstance(table, Mapping) else table
        return table.to_iterable_dataset(num_shards=min(SHARDS, len(table))) if settings.streaming else table
    return library.load_dataset(
        settings.path,
        name=settings.name,
        split=settings.split,
        revision=settings.revision,
        streaming=settings.streaming,
    )


def undecoded(library: ModuleType, table: Any, column: str, title: str) -> Any:
    """The table with that column as encoded bytes. Raises DataError that names the columns there are."""
    features = table.features or {}
    match features.get(column):
        case library.Image():
            return table.cast_column(column, library.Image(decode=False))
        case library.Video():
            return table.cast_column(column, library.Video(decode=False))
        case library.Value(dtype=("binary" | "large_binary")):
            return table
        case None if not features:
            return table
        case found:
            there = f"it is {found}" if found else f"there are {', '.join(features)}"
            raise DataError(f"{title} has no pictures or videos in a column '{column}'; {there}; set source.column")


def bytes_of(cell: Any, name: str) -> bytes:
    """A cell is bytes, or a mapping of bytes and path. Raises DataError if it is empty, OSError as `open` does."""
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, Mapping):
        if cell.get("bytes") is not None:
            return cell["bytes"]
        if cell.get("path"):
            return Path(cell["path"]).read_bytes()
    raise DataError(f"{name} is empty, or no picture or video but {type(cell).__name__}")
