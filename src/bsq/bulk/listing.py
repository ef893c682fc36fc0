"""What the sources hold. What enters: folders, files, globs, lists, addresses. What leaves: units, in a fixed order.

Folders are walked one at a time, sorted, so that the memory it takes is that of the largest folder, not of them all.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from bsq.bulk.parquet import count_rows
from bsq.bulk.pieces import ContainerPiece, ParquetPiece, TarPiece
from bsq.bulk.settings import TokenizeSettings
from bsq.bulk.tars import TAR_SUFFIXES, count_members
from bsq.data.files import plain_reason
from bsq.data.remote import Remote, local_path, plain_errors, remote
from bsq.data.stored import Kind
from bsq.errors import DataError

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
LIST_SUFFIXES = (".txt", ".lst")
FOLDER = "folder"
"""The label of loose files."""


@dataclass(frozen=True)
class File:
    """A file `name` below `root`, which together are its path or address; `size` in bytes, -1 if nobody asked."""

    root: str
    name: str
    size: int

    @property
    def address(self) -> str:
        return join(self.root, self.name)


def join(root: str, name: str) -> str:
    return f"{root.rstrip('/')}/{name}" if root else name


def list_units(sources: Sequence[str], settings: TokenizeSettings) -> Iterator[File | ContainerPiece]:
    """Files, tars and Parquet files, source by source, sorted within each.

    A source is a folder, searched at any depth; a file of any suffix; a tar, or a Parquet file with a column of
    encoded pictures; a list (.txt, .lst) of files, one a line; or a glob or a range {000..099} of these; here or behind
    an address. Raises DataError for a source that is not there or holds nothing, and where nothing could have a label
    of the kind that is asked for.
    """
    if not sources:
        raise DataError("no source is named; give folders, files, globs, tars, Parquet files or lists of files")
    kind, labelled = Kind(settings.inputs), settings.label is None
    for source in dict.fromkeys(sources):
        empty = True
        for file in files_of(source, kind):
            empty = False
            found = unit(file, settings)
            labelled |= isinstance(found, File) == (settings.label == FOLDER)
            yield found
        if empty:
            raise DataError(f"{source} holds no {kind.value}, tars or Parquet files")
    if not labelled:
        raise DataError(
            f"nothing here can be labelled by '{settings.label}': a label is the folder of a loose file (folder), a "
            "suffix of members of a tar, or a column of a Parquet file"
        )


def unit(file: File, settings: TokenizeSettings) -> File | ContainerPiece:
    """A container is counted here; one that cannot be is read to its end later, which says what is wrong with it."""
    name = file.name.lower()
    if name.endswith(".parquet"):
        count = count_rows(file.address, settings)
        return ParquetPiece(address=file.address, key=file.name, size=file.size, count=count)
    if name.endswith(TAR_SUFFIXES):
        path = local_path(file.address)
        plain = path is not None and name.endswith(".tar")
        counted = count_members(str(path), Kind(settings.inputs)) if plain else None
        return TarPiece(address=file.address, key=file.name, size=file.size, count=counted)
    return file


def files_of(source: str, kind: Kind) -> Iterator[File]:
    for name in expand_range(source):
        path = local_path(name)
        if path is None:
            yield from remote_files(name, kind)
        else:
            yield from local_files(path, kind)


def expand_range(source: str) -> Iterator[str]:
    """ "a-{08..10}.tar" → a-08.tar, a-09.tar, a-10.tar; several ranges, too."""
    found = RANGE.search(source)
    if found is None:
        yield source
        return
    for number in range(int(found[1]), int(found[2]) + 1):
        yield from expand_range(f"{source[: found.start()]}{number:0{len(found[1])}d}{source[found.end() :]}")


def searches(source: str, file: str) -> bool:
    """Whether a file that may not be there yet would be found by a folder or glob."""
    path = local_path(source)
    wild = any(sign in source for sign in "*?[") and not (path is not None and path.exists())
    if path is not None and not wild and not path.is_dir():
        return False
    parts, pattern = parts_of(file), parts_of(source)
    if not wild:
        return parts[: len(pattern)] == pattern
    return any(match_parts(parts[:end], pattern) for end in range(1, len(parts) + 1))  # folders that match are searched


def parts_of(address: str) -> tuple[str, ...]:
    """Names on the way to a file; of what lies here from the root on."""
    path = local_path(address)
    return tuple(address.rstrip("/").split("/")) if path is None else path.resolve().parts


def match_parts(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a glob's parts, among them `**` for any number of folders, describe these."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(match_parts(parts[count:], pattern[1:]) for count in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and match_parts(parts[1:], pattern[1:])


def wanted(name: str, kind: Kind) -> bool:
    lower = name.lower()
    if name.startswith("."):
        return False
    return kind.holds(name) or lower.endswith(TAR_SUFFIXES) or (kind is Kind.PICTURES and lower.endswith(".parquet"))


# Here


def local_files(path: Path, kind: Kind) -> Iterator[File]:
    """The files of a folder, one file, or those that a glob matches, sorted. Raises DataError where there is none."""
    if path.is_dir():
        yield from walk(path, "", kind)
    elif path.exists():
        yield from named(path, path.stat().st_size)
    else:
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise DataError(f"no file or folder {path}; give a folder, a file, a tar, a list or a glob of these")
        for match in matches:
            if os.path.isdir(match):
                if "**" not in str(path):  # there, the files in it match, too
                    yield from walk(Path(match), "", kind)
            elif "**" not in str(path) or wanted(os.path.basename(match), kind):
                yield from named(Path(match), os.path.getsize(match))


def named(path: Path, size: int) -> Iterator[File]:
    """A file that was named outright; or those that a list names."""
    if path.suffix.lower() in LIST_SUFFIXES:
        try:
            yield from listed(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise DataError(f"cannot read the list {path}: {plain_reason(error)}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no list of files in UTF-8, one a line") from error
    else:
        yield File(str(path.parent), path.name, size)


def walk(root: Path, inside: str, kind: Kind) -> Iterator[File]:
    """Visible files of the kind, tars and Parquet files; those of a folder before its folders."""
    try:
        with os.scandir(root / inside) as scanned:
            entries = sorted((e for e in scanned if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read the folder {root / inside}: {plain_reason(error)}") from error
    folders = []
    for entry in entries:
        if entry.is_dir():
            if entry.is_symlink() and is_above(entry.path, root / inside):
                continue  # it leads back to where it lies
            folders.append(entry.name)
        elif wanted(entry.name, kind):
            yield File(str(root), f"{inside}{entry.name}", size_of(entry))
    for folder in folders:
        yield from walk(root, f"{inside}{folder}/", kind)


def is_above(link: str, folder: Path) -> bool:
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(link))


def size_of(entry: os.DirEntry[str]) -> int:
    """-1 for a link that leads nowhere: reading it will say so."""
    try:
        return entry.stat().st_size
    except OSError:
        return -1


def listed(text: str, name: str) -> Iterator[File]:
    """A list's files. They are not looked for now: one that is missing is named as any that cannot be read."""
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#"):
            path = local_path(line)
            if path is None:
                yield File("", line, -1)
            else:
                yield File("", str(path), path.stat().st_size if path.is_file() else -1)


# Elsewhere


def remote_files(address: str, kind: Kind) -> Iterator[File]:
    """The same of an address (s3://…). Raises DataError where nothing is there."""
    place = remote(address)
    try:
        with plain_errors(address):
            if any(sign in address for sign in "*?["):
                matches = sorted(place.files.glob(place.path))
                if not matches:
                    raise DataError(f"no file matches {address}")
                found = [(path, place.files.info(path)) for path in matches]
            else:
                found = [(place.path, place.files.info(place.path))]
    except OSError as error:
        raise DataError(f"cannot read {address}: no such file or folder ({error})") from error
    for path, told in found:
        if told["type"] == "directory":
            yield from remote_walk(place, path.rstrip("/"), "", kind)
        elif path.lower().endswith(LIST_SUFFIXES):
            yield from listed(place.files.cat_file(path).decode("utf-8"), address)
        else:
            root, _, name = place.at(path).rpartition("/")
            yield File(root, name, int(told.get("size") or -1))


def remote_walk(place: Remote, root: str, inside: str, kind: Kind) -> Iterator[File]:
    """As `walk`."""
    try:
        with plain_errors(place.at(root)):
            entries = sorted(place.files.ls(join(root, inside.rstrip("/")), detail=True), key=lambda told: told["name"])
    except OSError as error:
        raise DataError(f"cannot read the folder {error}") from error
    folders = []
    for told in entries:
        name = PurePosixPath(told["name"]).name
        if name.startswith("."):
            continue
        if told["type"] == "directory":
            folders.append(name)
        elif wanted(name, kind):
            yield File(place.at(root), f"{inside}{name}", int(told.get("size") or 0))
    for folder in folders:
        yield from remote_walk(place, root, f"{inside}{folder}/", kind)
