"""A folder of results, here or elsewhere. What enters: a path or an address. What leaves: a `Store` of named files.

A file of a store is whole or not there: on this machine by a hidden draft that is renamed; elsewhere because it is
uploaded when it is complete, which object stores show at once or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from bsq.data.files import Existing, drafting, plain_reason, write_file
from bsq.data.remote import Remote, local_path, plain_errors, remote
from bsq.errors import DataError, MediaError

IN_MEMORY = 1 << 26
"""Bytes of a draft for elsewhere that are kept in memory; more go to a temporary file."""


class Store(Protocol):
    """Names are paths inside the folder, with "/" between their parts."""

    place: str

    def names(self, folder: str = "") -> set[str]:
        """Names of the files in the folder or one of its folders; none if it is not there."""
        ...

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes start … end − 1. Raises DataError if they cannot be read."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file that can be searched. Raises DataError."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Replaces what has the name. Raises MediaError."""
        ...

    def drafting(self, name: str) -> AbstractContextManager[BinaryIO]:
        """As `write`, for what is written piece by piece; nothing gets the name where the block raises."""
        ...

    def remove(self, name: str) -> None:
        """No error if it is not there."""
        ...


def open_store(place: str) -> Store:
    """Raises MissingDependencyError or DataError for an address that cannot be opened."""
    path = local_path(place)
    return LocalStore(path) if path is not None else RemoteStore(place, remote(place))


class LocalStore:
    """A folder of this machine, or one that is mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, str(folder)

    def names(self, folder: str = "") -> set[str]:
        """Files directly in `folder`; none where it is missing. Raises DataError."""
        try:
            with os.scandir(self.folder / folder) as entries:
                return {entry.name for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise DataError(f"cannot read the folder {self.folder / folder}: {plain_reason(error)}") from error

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        with self.open(name) as file:
            file.seek(start)
            return file.read() if end is None else file.read(end - start)

    def open(self, name: str) -> BinaryIO:
        try:
            return open(self.folder / name, "rb")
        except OSError as error:
            raise DataError(f"cannot read {self.folder / name}: {plain_reason(error)}") from error

    def write(self, name: str, data: bytes) -> None:
        write_file(self.folder / name, data, Existing.REPLACE)

    def drafting(self, name: str) -> AbstractContextManager[BinaryIO]:
        return drafting(self.folder / name, Existing.REPLACE)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)


class RemoteStore:
    """A folder behind an address."""

    def __init__(self, place: str, root: Remote) -> None:
        self.place, self._files, self._root = place.rstrip("/"), root.files, root.path.rstrip("/")

    def names(self, folder: str = "") -> set[str]:
        """Files directly in `folder`; none where it is missing. Raises DataError."""
        self._files.invalidate_cache()
        try:
            with plain_errors(self.place):
                entries = self._files.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise DataError(f"cannot read the folder {error}") from error
        return {entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file"}

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        try:
            with plain_errors(f"{self.place}/{name}"):
                return bytes(self._files.cat_file(self._path(name), start=start or None, end=end))
        except OSError as error:
            raise DataError(f"cannot read {error}") from error

    def open(self, name: str) -> BinaryIO:
        try:
            with plain_errors(f"{self.place}/{name}"):
                return cast(BinaryIO, self._files.open(self._path(name), "rb"))
        except OSError as error:
            raise DataError(f"cannot read {error}") from error

    def write(self, name: str, data: bytes) -> None:
        try:
            with plain_errors(f"{self.place}/{name}"):
                self._make_folder(name)
                self._files.pipe_file(self._path(name), data)
        except OSError as error:
            raise MediaError(f"cannot write {error}") from error

    @contextmanager
    def drafting(self, name: str) -> Iterator[BinaryIO]:
        """A file that is sent when the block ends without an error. Raises MediaError."""
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as draft:
            yield cast(BinaryIO, draft)
            draft.seek(0)
            try:
                with plain_errors(f"{self.place}/{name}"):
                    self._make_folder(name)
                    with self._files.open(self._path(name), "wb") as target:
                        shutil.copyfileobj(draft, target, 1 << 22)
            except OSError as error:
                raise MediaError(f"cannot write {error}") from error

    def remove(self, name: str) -> None:
        with plain_errors(f"{self.place}/{name}"):
            if self._files.exists(self._path(name)):
                self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _make_folder(self, name: str) -> None:
        """Object stores have no folders, and make none."""
        self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
