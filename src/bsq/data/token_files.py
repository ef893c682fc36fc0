"""Shards of tokens. What enters: rows of codes. What leaves: a Parquet file or a tar, and the rows again.

docs/scale.md describes both formats. The same rows give the same bytes: nothing of the time or the machine goes in.
pyarrow (extra `bulk`) is imported only here.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any, BinaryIO, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from bsq.codes import Codes
from bsq.data.tars import StrictMember
from bsq.errors import CodesError, DataError, MissingDependencyError
from bsq.settings import told_faults

ROWS_IN_MEMORY = 1024
"""Rows of a row group, which is what a writer of Parquet keeps before it writes."""
MEANING = "bsq"
"""The key of `Meaning` in a Parquet file's metadata; a tar has it in `MEANING_FILE`, a name that readers pass over."""
MEANING_FILE = "__bsq__"


class Meaning(BaseModel):
    """What every row of a shard shares: the model's name and its `code_hash`, the patch's side in pixels, the radices
    of a code's digits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    version: int = 1
    model: str
    code_hash: str
    patch: int
    radices: tuple[int, ...]


class RowHead(BaseModel):
    """A row without its digits: where it is from (`key`, the same wherever the data lie; `source`, where they lay;
    SHA-256 of the encoded input), `view` and first frame (`start`) of it, its label if it has one, pixels of the view,
    and the grid of tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    key: str
    source: str
    source_sha256: str
    view: int
    start: int
    label: str | None
    height: int
    width: int
    frames: int
    rows: int
    columns: int


@dataclass(frozen=True, eq=False)
class TokenRow:
    """`codes` (1, T, h, w, L) and what is known of them."""

    head: RowHead
    codes: Codes


class Format(Enum):
    """How a shard is stored; the value is its suffix."""

    PARQUET = ".parquet"
    WEBDATASET = ".tar"

    @staticmethod
    def of(name: str) -> Format:
        """Raises DataError for a name without one of the suffixes."""
        for kind in Format:
            if name.endswith(kind.value):
                return kind
        raise DataError(f"{name} is no shard of tokens; their suffixes are .parquet and .tar")


class ShardWriter(Protocol):
    def add(self, row: TokenRow) -> None: ...


class Shard(Protocol):
    """An open shard; its rows are unpacked when they are asked for."""

    meaning: Meaning

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> TokenRow:
        """Raises DataError for bytes that are no codes of the shard's radices."""
        ...


@contextmanager
def writing_shard(file: BinaryIO, kind: Format, meaning: Meaning) -> Iterator[ShardWriter]:
    """A writer of rows into a binary file. The shard is complete when the block ends."""
    match kind:
        case Format.PARQUET:
            writer = ParquetWriter(file, meaning)
            yield writer
            writer.close()
        case Format.WEBDATASET:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                yield TarWriter(tar, meaning)
        case _:
            raise AssertionError(kind)


def read_shard(file: BinaryIO, kind: Format, name: str) -> Shard:
    """Mirror of `writing_shard`. Raises DataError, naming the shard, for anything that it does not write."""
    match kind:
        case Format.PARQUET:
            read: Callable[[BinaryIO], Shard] = read_parquet
        case Format.WEBDATASET:
            read = read_tar
        case _:
            raise AssertionError(kind)
    try:
        return read(file)
    except (MissingDependencyError, MemoryError):
        raise
    except ValidationError as error:
        raise DataError(f"{name} is no shard of tokens: {told_faults(error)}") from error
    except Exception as error:  # pyarrow and tarfile raise a dozen kinds
        raise DataError(f"{name} is no shard of tokens, or damaged: {str(error) or type(error).__name__}") from error


def token_row(head: RowHead, data: bytes, meaning: Meaning) -> TokenRow:
    try:
        return TokenRow(head, Codes.unpack(data, (1, head.frames, head.rows, head.columns), meaning.radices))
    except CodesError as error:
        raise DataError(f"the codes of {head.key} are damaged: {error}") from error


# Parquet


def import_pyarrow() -> tuple[ModuleType, ModuleType]:
    """pyarrow and its Parquet. Raises MissingDependencyError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            "Parquet needs pyarrow, which is not installed; pip install 'bsq[bulk]'"
        ) from error
    return pyarrow, pyarrow.parquet


class ParquetWriter:
    """Digits do not shrink and are stored as they are; the other columns are compressed."""

    def __init__(self, file: BinaryIO, meaning: Meaning) -> None:
        self._arrow, parquet = import_pyarrow()
        schema = self._schema(meaning)
        plain = [name for name in schema.names if name not in ("key", "source", "source_sha256", "digits")]
        compression = {name: "none" if name == "digits" else "zstd" for name in schema.names}
        self._writer = parquet.ParquetWriter(file, schema, compression=compression, use_dictionary=plain)
        self._columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        self._file_schema, self._waiting = schema, 0

    def add(self, row: TokenRow) -> None:
        for name in RowHead.model_fields:
            self._columns[name].append(getattr(row.head, name))
        self._columns["digits"].append(row.codes.pack())
        self._waiting += 1
        if self._waiting == ROWS_IN_MEMORY:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._arrow.table(self._columns, schema=self._file_schema))
            self._columns = {name: [] for name in self._columns}
            self._waiting = 0

    def _schema(self, meaning: Meaning) -> Any:
        arrow = self._arrow
        fields = [
            arrow.field(name, arrow.int32() if field.annotation is int else arrow.string(), nullable=name == "label")
            for name, field in RowHead.model_fields.items()
        ]
        digits = arrow.field("digits", arrow.binary(), nullable=False)
        return arrow.schema([*fields, digits], metadata={MEANING: meaning.model_dump_json()})


class ParquetRows:
    def __init__(self, table: Any, meaning: Meaning) -> None:
        self.table, self.meaning = table, meaning

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, number: int) -> TokenRow:
        head = {name: self.table.column(name)[number].as_py() for name in RowHead.model_fields}
        return token_row(RowHead.model_construct(**head), self.table.column("digits")[number].as_py(), self.meaning)


def read_parquet(file: BinaryIO) -> ParquetRows:
    """A shard. Raises DataError where it is none of ours."""
    arrow, parquet = import_pyarrow()
    table = parquet.read_table(arrow.BufferReader(file.read()), use_threads=False)
    metadata = table.schema.metadata or {}
    if MEANING.encode() not in metadata:
        raise DataError("its metadata name no model")
    missing = {*RowHead.model_fields, "digits"} - set(table.schema.names)
    if missing:
        raise DataError(f"it has no columns {', '.join(sorted(missing))}")
    return ParquetRows(table.combine_chunks(), Meaning.model_validate_json(metadata[MEANING.encode()]))


# Tars, as the library webdataset reads them: members of one stem are one sample


class TarWriter:
    """Of row 17 "000017.bits" (packed digits) and "000017.json" (all else)."""

    def __init__(self, tar: tarfile.TarFile, meaning: Meaning) -> None:
        self._tar, self._meaning, self._count = tar, meaning, 0
        self._member(MEANING_FILE, meaning.model_dump_json().encode())

    def add(self, row: TokenRow) -> None:
        stem = f"{self._count:06d}"
        told = {**row.head.model_dump(), "code_hash": self._meaning.code_hash, "radices": self._meaning.radices}
        self._member(f"{stem}.bits", row.codes.pack())
        self._member(f"{stem}.json", json.dumps(told, ensure_ascii=False).encode())
        self._count += 1

    def _member(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o644
        self._tar.addfile(member, io.BytesIO(data))
        self._tar.members.clear()  # type: ignore[attr-defined]  # it would keep a note of each for a listing


class TarRows:
    def __init__(self, rows: list[tuple[RowHead, bytes]], meaning: Meaning) -> None:
        self.rows, self.meaning = rows, meaning

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> TokenRow:
        return token_row(*self.rows[number], self.meaning)


def read_tar(file: BinaryIO) -> TarRows:
    """A shard. Raises DataError where it is none of ours."""
    bits: dict[str, bytes] = {}
    heads: dict[str, RowHead] = {}
    meaning: Meaning | None = None
    with tarfile.open(fileobj=file, mode="r:", tarinfo=StrictMember) as tar:
        for member in tar:
            content = tar.extractfile(member)
            stem, _, kind = member.name.partition(".")
            data = b"" if content is None else content.read()
            if member.name == MEANING_FILE:
                meaning = Meaning.model_validate_json(data)
            elif kind == "bits":
                bits[stem] = data
            elif kind == "json":
                told = {name: value for name, value in json.loads(data).items() if name in RowHead.model_fields}
                heads[stem] = RowHead.model_validate(told)
    if meaning is None or bits.keys() != heads.keys():
        raise DataError("it names no model" if meaning is None else "some rows lack their bits or their json")
    return TarRows([(heads[stem], bits[stem]) for stem in bits], meaning)
