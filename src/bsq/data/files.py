"""Files that are whole or not there. What enters: a path and bytes. What leaves: the file, or an error and no file.

Bytes go to a hidden file in the same folder first and take their final name only when all of them are on the disk, so
that an interrupt, a crash or a full disk never leaves half a file under a name that looks finished.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from bsq.errors import MediaError


class Existing(Enum):
    """What happens to a file that already has the name."""

    REFUSE = "refuse"
    REPLACE = "replace"


def write_file(path: str | os.PathLike[str], data: bytes, existing: Existing = Existing.REFUSE) -> None:
    """Write `data` to `path` at once. Missing folders above it are made.

    Devices and named pipes (`/dev/null`) are written straight through. Raises MediaError if the file exists and
    `existing` is REFUSE, or if the folder cannot be written or the disk is full; in every case nothing new remains.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            write_through(target, data)
            return
        make_folder(target.parent)
        draft = target.parent / f".bsq-{secrets.token_hex(6)}.part"
        try:
            write_draft(draft, data)
            publish(draft, target, existing)
        finally:
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
    except OSError as error:
        raise MediaError(f"cannot write {path}: {plain_reason(error)}") from error


@contextlib.contextmanager
def drafting(path: str | os.PathLike[str], existing: Existing = Existing.REFUSE) -> Iterator[BinaryIO]:
    """As `write_file`, for files that are written piece by piece: an open one, which can be searched and read back.

    It takes the name when the `with` block ends; where that raises, nothing remains.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with tempfile.TemporaryFile() as copy:
            yield copy
            copy.seek(0)
            write_file(path, copy.read(), existing)
        return
    draft = target.parent / f".bsq-{secrets.token_hex(6)}.part"
    try:
        if existing is Existing.REFUSE and target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        make_folder(target.parent)
        with open(draft, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(draft, target, existing)
    except OSError as error:
        raise MediaError(f"cannot write {path}: {plain_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error


def write_through(device: Path, data: bytes) -> None:
    if device.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    with open(device, "wb") as file:
        file.write(data)


def write_draft(draft: Path, data: bytes) -> None:
    with open(draft, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def publish(draft: Path, target: Path, existing: Existing) -> None:
    """Give the finished draft its name. A hard link fails if the name is taken, even if only just now."""
    match existing:
        case Existing.REPLACE:
            os.replace(draft, target)
        case Existing.REFUSE:
            try:
                os.link(draft, target)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                if target.exists():
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
                os.replace(draft, target)
        case _:
            raise AssertionError(existing)


def plain_reason(error: OSError) -> str:
    """The reason of an OSError in the user's words, with the next step where there is one."""
    match error.errno:
        case errno.EEXIST:
            return "it exists already; -f replaces it (in Python, existing=REPLACE), another name keeps it"
        case errno.ENOSPC | errno.EDQUOT:
            return "the disk is full"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "no permission"
        case errno.EISDIR:
            return "it is a folder"
        case errno.ENOTDIR:
            return "a part of its path is a file, not a folder"
        case errno.ENOENT:
            return "no such file"
        case errno.ENAMETOOLONG:
            return "the name is too long"
        case _:
            return error.strerror or str(error) or type(error).__name__
