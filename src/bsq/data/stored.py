"""Encoded pictures and videos where they lie. What enters: folders, files, globs, tars. What leaves: `Stored`s.

A tar is read through once for the places of its members and never unpacked: any picture is one seek away, so that a
data set of tars can be read in any order and from any position, as a folder can.
"""

from __future__ import annotations

import glob
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from bsq.data.pictures import PICTURE_SUFFIXES
from bsq.data.videos import VIDEO_SUFFIXES
from bsq.errors import DataError


class Kind(Enum):
    """What a source is searched for."""

    PICTURES = "pictures"
    VIDEOS = "videos"

    @property
    def suffixes(self) -> frozenset[str]:
        match self:
            case Kind.PICTURES:
                return PICTURE_SUFFIXES
            case Kind.VIDEOS:
                return VIDEO_SUFFIXES
            case _:
                raise AssertionError(self)

    def holds(self, name: str) -> bool:
        """Whether a file or member of a tar of that name counts."""
        path = Path(name)
        return path.suffix.lower() in self.suffixes and not path.name.startswith(".")


class Encoded(Protocol):
    """A picture or video as a file would hold it."""

    @property
    def name(self) -> str: ...

    def read(self) -> bytes:
        """Raises OSError or DataError if it is not there any more."""
        ...


@dataclass(frozen=True)
class Stored:
    """`length` bytes from `offset` of the file at `path`; `member` is the name inside a tar, empty for a plain file."""

    path: str
    offset: int
    length: int
    member: str

    @property
    def name(self) -> str:
        return f"{self.path}:{self.member}" if self.member else self.path

    def read(self) -> bytes:
        """The encoded bytes. Raises OSError as `open` does, DataError if the file became shorter."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.length)
        if len(data) != self.length:
            raise DataError(f"{self.name}: {self.length} bytes were there when it was indexed, now {len(data)}")
        return data


def find_pictures(sources: Sequence[str]) -> list[Stored]:
    """All pictures of the sources: `find_stored`."""
    return find_stored(sources, Kind.PICTURES)


def find_stored(sources: Sequence[str], kind: Kind) -> list[Stored]:
    """All pictures or all videos of the sources, sorted inside each source, each once.

    A source is a folder (searched at any depth; tars in it are opened too), a tar, a file of any suffix, or a glob of
    these. Raises DataError for a source that does not exist or holds none.
    """
    found: dict[Stored, None] = {}
    for source in sources:
        items = [item for path in _expand(source) for item in _items_at(path, kind)]
        if not items:
            known = f"folders, .tar files and {len(kind.suffixes)} suffixes"
            raise DataError(f"{source} holds no {kind.value} ({known})")
        found.update(dict.fromkeys(items))
    if not found:
        raise DataError(f"no {kind.value}: the source is empty; give a folder, a .tar file or a glob")
    return list(found)


def _expand(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.exists():
        return [path]
    matches = sorted(glob.glob(str(path), recursive=True))
    if not matches:
        raise DataError(f"no file or folder {source}; give a folder, a .tar file, a file or a glob of these")
    return [Path(match) for match in matches]


def _items_at(path: Path, kind: Kind) -> list[Stored]:
    if path.is_dir():
        return [item for file in folder_files(path, kind) for item in _items_at(file, kind)]
    if path.suffix.lower() == ".tar":
        return index_tar(path, kind)
    return [Stored(str(path), 0, path.stat().st_size, "")]


def folder_files(folder: Path, kind: Kind) -> list[Path]:
    """All visible files of that kind, and tars, of a folder at any depth, sorted by path."""
    wanted = {*kind.suffixes, ".tar"}
    files = (path for path in folder.rglob("*") if path.suffix.lower() in wanted and path.is_file())
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def index_tar(path: Path, kind: Kind) -> list[Stored]:
    """The pictures or videos of an uncompressed tar, sorted by name. Raises DataError for what is no such tar."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isreg() and kind.holds(member.name)]
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{path} cannot be read as an uncompressed tar: {error}") from error
    return [Stored(str(path), m.offset_data, m.size, m.name) for m in sorted(members, key=lambda m: m.name)]
