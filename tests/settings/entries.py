"""A table's rows: a field, another value for it, and where the difference shows.

A file `table_*.py` beside this one holds `TABLE`, a list of rows; `test_every_field.py` finds it by its name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bsq.errors import BsqError
from bsq.settings import Settings

Observer = Callable[[Any, Path], Any]


@dataclass(frozen=True)
class Row:
    """`observe(settings, folder)` gives something else for `kind(**base)` than for the same with `field` at `value`."""

    kind: type[Settings]
    field: str
    value: Any
    observe: Observer
    base: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.kind.__module__.removeprefix('bsq.')}.{self.kind.__name__}.{self.field}={str(self.value)[:40]}"


def rows(kind: type[Settings], observe: Observer, base: Mapping[str, Any], /, **values: Any) -> Iterator[Row]:
    """A row for each field named; `base` are settings to start from, `observe` takes them and an empty folder."""
    for field, value in values.items():
        yield Row(kind, field, value, observe, base)


def seen(observe: Observer, settings: Settings, folder: Path) -> Any:
    """What was observed in a form that can be compared; an error that a user would see is an observation too."""
    folder.mkdir()
    try:
        return plain(observe(settings, folder))
    except BsqError as error:
        return f"{type(error).__name__}: {error}".replace(str(folder), "")


def plain(thing: Any) -> Any:
    """Tensors and arrays as bytes, objects as their parts."""
    match thing:
        case torch.Tensor():
            return plain(thing.detach().cpu().numpy())
        case np.ndarray():
            return thing.shape, str(thing.dtype), thing.tobytes()
        case Mapping():
            return {name: plain(part) for name, part in thing.items()}
        case list() | tuple() | set():
            return [plain(part) for part in thing]
        case _ if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
            return {field.name: plain(getattr(thing, field.name)) for field in dataclasses.fields(thing)}
        case _:
            return thing
