"""Every field of every settings class changes something, and a table says where it shows.

A field that is in no table fails here by its name: add a row for it to the `table_*.py` of its room (see `entries.py`).
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from entries import Observer, Row, seen

import bsq
from bsq.settings import Settings

TABLES = sorted(path.stem for path in Path(__file__).parent.glob("table_*.py"))
ROWS: list[Row] = [row for name in TABLES for row in importlib.import_module(name).TABLE]

KNOWN: dict[tuple[Observer, str], Any] = {}


def classes(of: type[Settings] = Settings) -> Iterator[type[Settings]]:
    """All settings classes of the package."""
    for module in pkgutil.walk_packages(bsq.__path__, "bsq."):
        importlib.import_module(module.name)
    waiting, met = [of], set()
    while waiting:
        for kind in waiting.pop().__subclasses__():
            if kind not in met and kind.__module__.startswith("bsq."):
                met.add(kind)
                waiting.append(kind)
                yield kind


def fields() -> set[tuple[str, str, str]]:
    """(module, class, field), but for the names of kinds: another kind is another value of the field it stands in."""
    return {
        (kind.__module__, kind.__name__, name)
        for kind in classes()
        if ABC not in kind.__bases__  # seen in those that stand on it
        for name, field in kind.model_fields.items()
        if not (get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1)
    }


def test_every_field_has_a_row() -> None:
    listed = {(row.kind.__module__, row.kind.__name__, row.field) for row in ROWS}
    missing = sorted(f"{module}: {kind}.{name}" for module, kind, name in fields() - listed)
    assert not missing, "these settings are in no table of tests/settings:\n  " + "\n  ".join(missing)


def test_no_row_is_of_a_field_that_is_gone() -> None:
    assert {(row.kind.__module__, row.kind.__name__, row.field) for row in ROWS} <= fields()


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_changes_what_is_seen(row: Row, tmp_path: Path) -> None:
    before = row.kind.model_validate(dict(row.base))
    after = row.kind.model_validate({**row.base, row.field: row.value})
    assert getattr(after, row.field) != getattr(before, row.field), "the row changes nothing"
    assert seen(row.observe, after, tmp_path / "after") != seen_twice(row.observe, before, tmp_path)


def seen_twice(observe: Observer, settings: Settings, folder: Path) -> Any:
    """What many rows start from is looked at twice, once for all of them."""
    key = (observe, repr(settings))
    if key not in KNOWN:
        KNOWN[key] = seen(observe, settings, folder / "before")
        again = seen(observe, settings, folder / "again")
        assert again == KNOWN[key], "not the same twice, so a difference would mean nothing"
    return KNOWN[key]
