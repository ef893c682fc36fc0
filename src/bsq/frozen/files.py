"""Where published weights come from. What enters: a `WeightFile`. What leaves: a path, its SHA-256 checked where known.

A file is looked for in the package, then in the folder named by the variable BSQ_WEIGHTS, then in the cache
(~/.cache/bsq/weights, or below XDG_CACHE_HOME), and is at last downloaded into the cache. With HF_HUB_OFFLINE=1 nothing
is downloaded.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import Progress

from bsq.errors import CheckpointError

PACKAGED = Path(__file__).parent / "weights"
BLOCK = 1 << 20
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class WeightFile:
    """One published file of weights. `sha256` is the file's hash in hex, or as much of its beginning as the publisher
    states; None where none is stated: such a file is not checked, and whoever reads it records its hash.
    """

    name: str
    sha256: str | None
    url: str | None  # None for files inside the package
    use: str  # what needs it, for messages
    without: str  # how to go on without it, for messages


def find(file: WeightFile) -> Path:
    """Path of `file`, downloaded if need be. CheckpointError says which file, where from and where to put it."""
    cached = cache_folder() / file.name
    for path in (PACKAGED / file.name, *_user_folder(file.name), cached):
        if path.is_file():
            check(path, file)
            return path
    return download(file, cached)


def check(path: Path, file: WeightFile) -> None:
    """Raises CheckpointError unless the file at `path` is the published one."""
    if file.sha256 is None:
        return
    found = sha256(path)
    if not found.startswith(file.sha256):
        raise CheckpointError(
            f"{path} is not the published {file.name}: SHA-256 {found[:16]}…, expected {file.sha256[:16]}…. "
            "Delete it and fetch it again."
        )


def download(file: WeightFile, target: Path) -> Path:
    """Fetches `file` to `target`; the file appears there only whole and with the right SHA-256."""
    if file.url is None or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        raise CheckpointError(_missing(file, "downloads are turned off" if file.url else "the installation is damaged"))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=file.name, suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as out, urllib.request.urlopen(file.url, timeout=TIMEOUT_SECONDS) as source:
            _copy(source, out, file.name)
        check(Path(partial), file)
        os.replace(partial, target)
    except (urllib.error.URLError, OSError) as error:
        raise CheckpointError(_missing(file, f"the download failed ({error})")) from error
    finally:
        Path(partial).unlink(missing_ok=True)
    return target


def _copy(source: Any, out: IO[bytes], name: str) -> None:
    """Copies an answer to a file, with progress on the terminal. Raises OSError when less comes than was promised."""
    promised = source.headers.get("Content-Length")
    total = int(promised) if promised is not None and promised.isdigit() else None
    written = 0
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(name, total=total)
        while block := source.read(BLOCK):
            out.write(block)
            written += len(block)
            progress.update(task, completed=written)
    if total is not None and written != total:
        raise OSError(f"{written} of {total} bytes came")


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def cache_folder() -> Path:
    """The folder downloads go to."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bsq" / "weights"


def _user_folder(name: str) -> tuple[Path, ...]:
    folder = os.environ.get("BSQ_WEIGHTS")
    return (Path(folder) / name,) if folder else ()


def _promise(file: WeightFile) -> str:
    return "its publisher states no SHA-256" if file.sha256 is None else f"SHA-256 {file.sha256}"


def _missing(file: WeightFile, why: str) -> str:
    return (
        f"{file.use} needs {file.name}, which is not here, and {why}.\n"
        f"Get it from {file.url or 'the bsq package'} and put it into {cache_folder()}, or into a folder named by the "
        f"variable BSQ_WEIGHTS ({_promise(file)}).\n{file.without}"
    )
