"""Which file becomes which. What enters: the sources and `-o` as typed. What leaves: jobs, each with its target.

`-` is a pipe on either side; a folder stands for all suitable files in it, at any depth. Names are looked up with
`os.path`, to which a name that no file can have is a file that is not there; reading or writing it then says why.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, cast

from bsq.errors import MediaError, SettingsError

IN_MEMORY = 1 << 26  # bytes of a pipe; more go to a temporary file


class Pipe(Enum):
    """Standard input or output."""

    PIPE = "-"


PIPE = Pipe.PIPE
Place = Path | Pipe


def name_of(source: Place) -> str:
    return "standard input" if isinstance(source, Pipe) else str(source)


@dataclass(frozen=True)
class Job:
    """One input and where its result goes."""

    source: Place
    target: Place

    @property
    def name(self) -> str:
        return name_of(self.source)


@dataclass(frozen=True)
class Found:
    """An input and its path inside the folder it was found in (its bare name if it was named outright)."""

    place: Place
    inside: Path

    @property
    def name(self) -> str:
        return name_of(self.place)


Renaming = Callable[[Path], Path]
"""The target's name for a source's name."""


@dataclass(frozen=True)
class Naming:
    """`plain` is used unless two inputs would get the same name; then both get `full`, which keeps their suffix."""

    plain: Renaming
    full: Renaming


def plan(sources: list[str], output: str | None, suffixes: frozenset[str], naming: Naming) -> list[Job]:
    """Jobs in the order of the sources. Raises SettingsError for requests that cannot be met as a whole."""
    if output == "":
        raise SettingsError("the name after -o is empty; a folder is written out, as in -o .")
    found = find_all(sources, suffixes)
    piped = [item for item in found if isinstance(item.place, Pipe)]
    if output == "-" or (output is None and piped):
        if len(found) > 1:
            raise SettingsError(f"a pipe takes one result, there are {len(found)} inputs; use -o FOLDER")
        return [Job(found[0].place, PIPE)]
    if piped and len(found) > 1:
        raise SettingsError("standard input (-) cannot stand among other inputs")
    if output is not None and names_a_file(output, sources):
        jobs = [Job(found[0].place, Path(output))]
    elif piped:
        raise SettingsError(f"{output} is a folder; standard input has no name, so give one: -o {output}/NAME")
    else:
        jobs = [Job(item.place, target) for item, target in name_all(found, output, naming)]
    refuse_own_source(jobs)
    return jobs


def find_all(sources: list[str], suffixes: frozenset[str]) -> list[Found]:
    """All inputs, each once, in the order they were named; folders as `find` has them.

    Raises MediaError if all there is is a folder without suitable files; among others, it fails when it is read.
    """
    found = list(dict.fromkeys(item for source in sources for item in find(source, suffixes)))
    if len(found) == 1 and is_folder(found[0].place):
        raise MediaError(f"{nothing_in(found[0].place)} ({' '.join(sorted(suffixes))})")
    return found


def find(source: str, suffixes: frozenset[str]) -> Iterator[Found]:
    """A file or pipe as it is; of a folder, all visible files with one of `suffixes`, sorted; itself, if none."""
    if source == "-":
        yield Found(PIPE, Path("-"))
        return
    if source == "":
        raise SettingsError("the name of an input is empty; a folder is written out, as in .")
    path = Path(source)
    if not os.path.isdir(source):
        yield Found(path, Path(path.name))
        return
    inside = sorted(
        file.relative_to(path) for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file()
    )
    visible = [file for file in inside if not any(part.startswith(".") for part in file.parts)]
    if not visible:
        yield Found(path, Path(path.name))
    for file in visible:
        yield Found(path / file, file)


def is_folder(place: Place) -> bool:
    return isinstance(place, Path) and os.path.isdir(place)


def nothing_in(folder: Place) -> str:
    return f"the folder {folder} holds no files of a known kind"


def names_a_file(output: str, sources: list[str]) -> bool:
    """-o names the one result, rather than a folder for many."""
    if output.endswith(("/", "\\")) or os.path.isdir(output):
        return False
    if len(sources) > 1 or os.path.isdir(sources[0]):
        if os.path.exists(output):
            raise SettingsError(f"-o {output} is a file; a folder is wanted for several inputs")
        return False
    return True


def name_all(found: list[Found], output: str | None, naming: Naming) -> Iterator[tuple[Found, Path]]:
    """Each input and the name of its result. Raises SettingsError where two results would have one name."""

    def place(item: Found, rename: Renaming) -> Path:
        assert isinstance(item.place, Path)
        if is_folder(item.place):
            return item.place  # reading it fails, so nothing is ever written here
        return rename(item.place) if output is None else Path(output) / rename(item.inside)

    uses = Counter(place(item, naming.plain) for item in found)
    taken: dict[Path, Place] = {}
    for item in found:
        target = place(item, naming.plain)
        if uses[target] > 1:
            target = place(item, naming.full)
        if target in taken:
            raise SettingsError(f"{taken[target]} and {item.place} would both become {target}; run them one by one")
        taken[target] = item.place
        yield item, target


def refuse_own_source(jobs: list[Job]) -> None:
    for job in jobs:
        if isinstance(job.source, Pipe) or isinstance(job.target, Pipe) or is_folder(job.source):
            continue
        if os.path.exists(job.source) and os.path.exists(job.target) and job.source.samefile(job.target):
            raise SettingsError(f"{job.source} would be written over itself; choose another -o")


class PipeCopy(tempfile.SpooledTemporaryFile[bytes]):
    """What came through a pipe, or will go through one: a file that can be searched."""

    name = "standard input"

    def __init__(self) -> None:
        super().__init__(max_size=IN_MEMORY)


@contextmanager
def opened(place: Place) -> Iterator[BinaryIO]:
    """The input as a file that can be searched."""
    if isinstance(place, Pipe):
        with PipeCopy() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy, 1 << 20)
            copy.seek(0)
            yield cast(BinaryIO, copy)
        return
    if is_folder(place):
        raise MediaError(nothing_in(place))
    try:
        file = open(place, "rb")  # noqa: SIM115
    except OSError as error:
        from bsq.data.files import plain_reason

        raise MediaError(f"cannot read {place}: {plain_reason(error)}") from error
    with file:
        yield file


def read(place: Place) -> bytes:
    with opened(place) as file:
        return file.read()


@contextmanager
def output(place: Place, force: bool) -> Iterator[BinaryIO]:
    """A file for what is written piece by piece: it gets its name, or goes into the pipe, when it is whole."""
    from bsq.data.files import Existing, drafting

    if isinstance(place, Pipe):
        with PipeCopy() as copy:
            yield cast(BinaryIO, copy)
            copy.seek(0)
            shutil.copyfileobj(copy, sys.stdout.buffer, 1 << 20)
            sys.stdout.buffer.flush()
    else:
        with drafting(place, Existing.REPLACE if force else Existing.REFUSE) as file:
            yield file


def write(place: Place, data: bytes, force: bool) -> None:
    """Write to the pipe, or to a file that is whole or not there."""
    from bsq.data.files import Existing, write_file

    if isinstance(place, Pipe):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_file(place, data, Existing.REPLACE if force else Existing.REFUSE)


def check_free(place: Place, force: bool) -> None:
    """Say so before the work is done, rather than after."""
    if isinstance(place, Path) and not force and os.path.isfile(place):
        raise MediaError(f"{place} exists already; -f replaces it, -o names another")


def refuse_terminal(jobs: list[Job]) -> None:
    if any(isinstance(job.target, Pipe) for job in jobs) and sys.stdout.isatty():
        raise SettingsError("binary data would be written to the terminal; use -o FILE, or pipe it on")
    if any(isinstance(job.source, Pipe) for job in jobs) and sys.stdin.isatty():
        raise SettingsError("standard input is the terminal; pipe a file in, or name one")


def place_name(place: Place) -> str:
    return "standard output" if isinstance(place, Pipe) else str(place)
