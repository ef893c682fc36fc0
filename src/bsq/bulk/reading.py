"""Inputs, one by one. What enters: a piece of the plan. What leaves: encoded pictures and videos, or what is wrong.

One input is in memory at a time; a video file is not even that.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bsq.bulk.listing import FOLDER, join
from bsq.bulk.parquet import read_rows
from bsq.bulk.pieces import AnyPiece, ContainerPiece, FilesPiece, ParquetPiece, TarPiece
from bsq.bulk.settings import TokenizeSettings
from bsq.bulk.tars import Taken, index, read_members, stream_members
from bsq.data.files import plain_reason
from bsq.data.hub import bytes_of
from bsq.data.remote import local_path, plain_errors, remote
from bsq.data.stored import Kind
from bsq.errors import BsqError, DataError, MissingDependencyError


class Fault(BaseModel):
    """An input that gave no tokens, or not all, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    key: str
    source: str
    reason: str


@dataclass(frozen=True)
class Input:
    """`key` names it wherever the data lie, `source` where it lay. `data` is its bytes, or the file that has them."""

    key: str
    source: str
    label: str | None
    data: bytes | Path


def read_inputs(pieces: Iterable[AnyPiece], settings: TokenizeSettings) -> Iterator[Input | Fault]:
    """The inputs in the order of the plan; a fault for each that cannot be read."""
    for piece in pieces:
        match piece:
            case FilesPiece():
                yield from read_files(piece, settings)
            case TarPiece():
                yield from named(piece, read_tar(piece, settings))
            case ParquetPiece():
                yield from read_parquet(piece, settings)
            case _:
                raise AssertionError(piece)


def reason_of(error: Exception) -> str:
    """Why, in a line."""
    match error:
        case BsqError():
            return str(error)
        case OSError():
            return plain_reason(error)
        case _:
            return str(error).strip() or type(error).__name__


def read_files(piece: FilesPiece, settings: TokenizeSettings) -> Iterator[Input | Fault]:
    """The files of a piece, or why one cannot be read."""
    for name, _ in piece.files:
        address = join(piece.root, name)
        try:
            with FileData(address, Kind(settings.inputs)) as data:
                yield Input(name, address, folder_label(address, settings), data.value)
        except MissingDependencyError:
            raise
        except (OSError, BsqError) as error:
            yield Fault(key=name, source=address, reason=reason_of(error))


class FileData:
    """A picture's bytes; a video's path here, after copying it if it lies elsewhere."""

    def __init__(self, address: str, kind: Kind) -> None:
        self.value: bytes | Path
        self._copy = None
        path = local_path(address)
        if path is not None:
            self.value = path if kind is Kind.VIDEOS else path.read_bytes()
            return
        place = remote(address)
        with plain_errors(address):
            if kind is Kind.PICTURES:
                self.value = place.files.cat_file(place.path)
                return
            self._copy = tempfile.NamedTemporaryFile(prefix="bsq-", suffix=Path(place.path).suffix)  # noqa: SIM115
            place.files.get_file(place.path, self._copy.name)
        self.value = Path(self._copy.name)

    def __enter__(self) -> FileData:
        return self

    def __exit__(self, *_: object) -> None:
        if self._copy is not None:
            self._copy.close()


def folder_label(address: str, settings: TokenizeSettings) -> str | None:
    """The name of the folder that a file lies in, if that is asked for."""
    if settings.label != FOLDER:
        return None
    path = local_path(address)
    return path.absolute().parent.name if path is not None else address.rpartition("/")[0].rpartition("/")[2]


def read_tar(piece: TarPiece, settings: TokenizeSettings) -> Iterator[Taken]:
    """Raises OSError."""
    kind, path = Kind(settings.inputs), local_path(piece.address)
    label = None if settings.label == FOLDER else settings.label
    if piece.count is not None:
        try:
            members = index(str(path), kind, label)
        except tarfile.TarError as error:
            raise OSError(f"was a tar when the plan was made, and is none now: {error}") from error
        yield from read_members(str(path), members[piece.first : piece.first + piece.count])
        return
    if path is not None:
        with open(path, "rb") as file:
            yield from stream_members(file, kind, label)
        return
    place = remote(piece.address)
    with plain_errors(piece.address), place.files.open(place.path, "rb") as file:
        yield from stream_members(file, kind, label)


def named(piece: TarPiece, members: Iterator[Taken]) -> Iterator[Input | Fault]:
    """Members of a tar as inputs named after it; what breaks off becomes a fault for the rest."""
    count = 0
    with closing(members):  # type: ignore[type-var]
        try:
            for member in members:
                count += 1
                source = f"{piece.address}:{member.name}"
                label = member.label
                yield Input(f"{piece.key}:{member.name}", source, label, member.data)
        except (OSError, BsqError) as error:
            yield unread(piece, count, error)


def unread(piece: ContainerPiece, count: int, error: Exception) -> Fault:
    """The end of a container that cannot be read."""
    left = "" if piece.count is None else f", {piece.count - count} inputs lost"
    return Fault(key=piece.key, source=piece.address, reason=f"{reason_of(error)} (after {count} inputs{left})")


def read_parquet(piece: ParquetPiece, settings: TokenizeSettings) -> Iterator[Input | Fault]:
    """The cells of a piece of a Parquet file, or why one, or all that are left, cannot be read."""
    count = 0
    wanted = piece.count
    try:
        if wanted is None:  # its footer could not be read when the plan was made
            raise DataError("is no Parquet file, or damaged")
        for number, cell, label in read_rows(piece.address, piece.first, wanted, settings):
            count += 1
            key, source = f"{piece.key}:{number}", f"{piece.address}:{number}"
            try:
                yield Input(key, source, label, bytes_of(cell, "the cell"))
            except (OSError, BsqError) as error:
                yield Fault(key=key, source=source, reason=reason_of(error))
    except (OSError, BsqError) as error:
        yield unread(piece, count, error)
