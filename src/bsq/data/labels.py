"""Labels of stored pictures. What enters: pictures in tars or folders. What leaves: a class number for each.

A picture's number stands in a text file of its name with the suffix .cls, beside it or in the same tar (WebDataset).
Otherwise the folder it lies in is its class, where the names of classes are given and that is one of them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bsq.data.stored import Stored
from bsq.errors import DataError

SUFFIX = ".cls"
NO_LABEL = -1


def read_class_names(path: str) -> tuple[str, ...]:
    """One name a line, in the order of their numbers. Raises DataError."""
    try:
        names = tuple(line.strip() for line in Path(path).expanduser().read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the names of classes in {path}: {error}") from error
    names = names[: len(names) - next((n for n, name in enumerate(reversed(names)) if name), len(names))]
    if not names or not all(names) or len(set(names)) < len(names):
        raise DataError(f"{path} must hold a name a line, each once and none empty")
    return names


def labels_of(items: Sequence[Stored], names: Sequence[str]) -> list[int]:
    """A number for each item, `NO_LABEL` where there is none. Raises DataError for one that is no class of `names`."""
    tars: dict[str, dict[str, int]] = {}
    numbers = {name: number for number, name in enumerate(names)}
    labels = []
    for item in items:
        if item.member:
            if item.path not in tars:
                tars[item.path] = _labels_in_tar(item.path)
            label = tars[item.path].get(_stem(item.member), NO_LABEL)
            folder = PurePosixPath(item.member).parent.name
        else:
            beside = Path(item.path).with_suffix(SUFFIX)
            label = _number(beside.read_bytes(), str(beside)) if beside.is_file() else NO_LABEL
            folder = Path(item.path).parent.name
        if label == NO_LABEL:
            label = numbers.get(folder, NO_LABEL)
        if names and label >= len(names):
            raise DataError(f"{item.name} has the label {label}; there are names for {len(names)} classes")
        labels.append(label)
    return labels


def _labels_in_tar(path: str) -> dict[str, int]:
    with tarfile.open(path, "r:") as tar:
        members = [member for member in tar if member.isreg() and member.name.endswith(SUFFIX)]
        return {
            _stem(member.name): _number(file.read(), f"{path}:{member.name}")
            for member in members
            if (file := tar.extractfile(member)) is not None
        }


def _stem(member: str) -> str:
    return str(PurePosixPath(member).with_suffix(""))


def _number(content: bytes, name: str) -> int:
    text = content.decode("utf-8", "replace").strip()
    if not text.isdecimal():
        raise DataError(f"{name} must hold the number of a class, got {text[:20]!r}")
    return int(text)
