"""Inputs inside tars. What enters: a tar's path or open file. What leaves: its members, counted, or read in order.

Members of one stem are one sample (the convention of WebDataset): its label is the member with the label's suffix.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from bsq.data.stored import Kind
from bsq.data.tars import StrictMember

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
Place = tuple[int, int]
"""Offset and length, in bytes."""


@dataclass(frozen=True)
class Member:
    """`label` is where the text of the sample's label is, if it has one."""

    name: str
    place: Place
    label: Place | None


@dataclass(frozen=True)
class Taken:
    """A member that was read, and its label."""

    name: str
    data: bytes
    label: str | None


def stem(name: str) -> str:
    """All before the first dot of the file's name, with the folders: what the members of a sample share."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def count_members(path: str, kind: Kind) -> int | None:
    """Inputs of an uncompressed tar of this machine, None if it cannot be read to its end."""
    try:
        return len(index(path, kind, None))
    except (OSError, tarfile.TarError):
        return None


@lru_cache(maxsize=1)  # the shards of one tar come one after another
def index(path: str, kind: Kind, label: str | None) -> tuple[Member, ...]:
    """The inputs in the order of the tar. Raises OSError or tarfile.TarError."""
    found: list[tuple[str, Place]] = []
    labels: dict[str, Place] = {}
    with tarfile.open(path, "r:", tarinfo=StrictMember) as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep a note of each
            place = member.offset_data, member.size
            if not member.isreg():
                continue
            if kind.holds(member.name):
                found.append((member.name, place))
            elif label is not None and member.name == f"{stem(member.name)}.{label}":
                labels[stem(member.name)] = place
    return tuple(Member(name, place, labels.get(stem(name))) for name, place in found)


def read_members(path: str, members: tuple[Member, ...]) -> Iterator[Taken]:
    """Raises OSError if the tar became shorter."""
    with open(path, "rb") as file:
        for member in members:
            label = None if member.label is None else text(read_at(file, member.label))
            yield Taken(member.name, read_at(file, member.place), label)


def read_at(file: BinaryIO, place: Place) -> bytes:
    file.seek(place[0])
    data = file.read(place[1])
    if len(data) != place[1]:
        raise OSError(f"ends at byte {place[0] + len(data)}, inside a member")
    return data


def stream_members(file: BinaryIO, kind: Kind, label: str | None) -> Iterator[Taken]:
    """The inputs of a tar, compressed or not, that is read once from its beginning. Raises OSError, after all
    members that are whole.
    """
    sample: list[tuple[str, bytes]] = []
    try:
        with tarfile.open(fileobj=file, mode="r|*", tarinfo=StrictMember) as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]
                if sample and stem(sample[0][0]) != stem(member.name):
                    yield from inputs_of(sample, kind, label)
                    sample = []
                if member.isreg() and (kind.holds(member.name) or member.name == f"{stem(member.name)}.{label}"):
                    content = tar.extractfile(member)
                    assert content is not None
                    sample.append((member.name, content.read()))
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        yield from inputs_of(sample, kind, label)
        raise OSError(f"broke off: {str(error) or type(error).__name__}") from error
    yield from inputs_of(sample, kind, label)


def inputs_of(sample: list[tuple[str, bytes]], kind: Kind, label: str | None) -> Iterator[Taken]:
    labels = [data for name, data in sample if name == f"{stem(name)}.{label}"]
    for name, data in sample:
        if kind.holds(name):
            yield Taken(name, data, text(labels[0]) if labels else None)


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()
