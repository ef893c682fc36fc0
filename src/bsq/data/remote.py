"""Addresses of files elsewhere. What enters: "s3://…", "gs://…", "hf://…", "memory://…". What leaves: fsspec's doors.

The library fsspec (extra `bulk`) and what it loads for a kind of address are imported only here. Its file systems raise
many kinds of errors; all of them leave this room as OSErrors that name the address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bsq.errors import BsqError, DataError, MissingDependencyError

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


@dataclass(frozen=True)
class Remote:
    """A file or folder behind an address: fsspec's file system, and the path in it."""

    files: Any
    path: str

    def at(self, path: str) -> str:
        """The address of a path of this file system."""
        return str(self.files.unstrip_protocol(path))


def local_path(address: str) -> Path | None:
    """The path that a plain name or a file:// address means; None for an address elsewhere."""
    scheme = ADDRESS.match(address)
    if scheme is None:
        return Path(address).expanduser()
    return Path(unquote(address[scheme.end() :])) if scheme[1].lower() == "file" else None


def remote(address: str) -> Remote:
    """Raises MissingDependencyError without the library for that kind of address, DataError for an unknown kind."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependencyError(f"{address} needs fsspec, not installed; pip install 'bsq[bulk]'") from error
    try:
        return Remote(*fsspec.core.url_to_fs(address))
    except ImportError as error:
        raise MissingDependencyError(f"{address} needs one more library: {error}") from error
    except Exception as error:  # each file system has its own errors
        raise DataError(f"cannot open {address}: {str(error).strip() or type(error).__name__}") from error


@contextmanager
def plain_errors(address: str) -> Iterator[None]:
    """What goes wrong behind an address, as an OSError that names it; a file that is not there as FileNotFoundError."""
    try:
        yield
    except (FileNotFoundError, BsqError):
        raise
    except Exception as error:
        raise OSError(f"{address}: {str(error).strip() or type(error).__name__}") from error
