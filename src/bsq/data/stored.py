"""Encoded pictures where they lie. What enters: folders, files, globs, tars. What leaves: a list of `Stored` pictures.

A tar is read through once for the places of its members and never unpacked: any picture is one seek away, so that a
data set of tars can be read in any order and from any position, as a folder can.
"""

from __future__ import annotations

import glob
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bsq.data.pictures import PICTURE_SUFFIXES
from bsq.errors import DataError


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
        """The encoded picture. Raises OSError as `open` does, DataError if the file became shorter."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.length)
        if len(data) != self.length:
            raise DataError(f"{self.name}: {self.length} bytes were there when it was indexed, now {len(data)}")
        return data


def find_pictures(sources: Sequence[str]) -> list[Stored]:
    """All pictures of the sources, sorted inside each source, each once.

    A source is a folder (searched at any depth; tars in it are opened too), a tar, a picture, or a glob of these.
    Raises DataError for a source that does not exist or holds no picture.
    """
    found: dict[Stored, None] = {}
    for source in sources:
        pictures = [picture for path in _expand(source) for picture in _pictures_at(path)]
        if not pictures:
            raise DataError(f"{source} holds no pictures (folders, .tar files and {len(PICTURE_SUFFIXES)} suffixes)")
        found.update(dict.fromkeys(pictures))
    if not found:
        raise DataError("no pictures: data.source is empty; give a folder, a .tar file or a glob")
    return list(found)


def _expand(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.exists():
        return [path]
    matches = sorted(glob.glob(str(path), recursive=True))
    if not matches:
        raise DataError(f"no file or folder {source}; give a folder, a .tar file, a picture or a glob of these")
    return [Path(match) for match in matches]


def _pictures_at(path: Path) -> list[Stored]:
    if path.is_dir():
        return [picture for file in folder_files(path) for picture in _pictures_at(file)]
    if path.suffix.lower() == ".tar":
        return index_tar(path)
    return [Stored(str(path), 0, path.stat().st_size, "")]


def folder_files(folder: Path) -> list[Path]:
    """All visible pictures and tars of a folder at any depth, sorted by path."""
    wanted = {*PICTURE_SUFFIXES, ".tar"}
    files = (path for path in folder.rglob("*") if path.suffix.lower() in wanted and path.is_file())
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def index_tar(path: Path) -> list[Stored]:
    """The pictures of an uncompressed tar, sorted by name. Raises DataError for what is no such tar."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isreg() and not Path(member.name).name.startswith(".")]
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{path} cannot be read as an uncompressed tar: {error}") from error
    pictures = [member for member in members if Path(member.name).suffix.lower() in PICTURE_SUFFIXES]
    return [Stored(str(path), m.offset_data, m.size, m.name) for m in sorted(pictures, key=lambda m: m.name)]
