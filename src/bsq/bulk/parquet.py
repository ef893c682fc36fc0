"""Inputs in Parquet files. What enters: an address, rows, a column. What leaves: encoded pictures, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bsq.bulk.settings import TokenizeSettings
from bsq.data.remote import local_path, plain_errors, remote
from bsq.data.token_files import import_pyarrow
from bsq.errors import DataError

AT_ONCE = 16
"""Rows that are in memory together."""


@contextmanager
def opened(address: str) -> Iterator[Any]:
    """pyarrow's file. Raises OSError."""
    _, parquet = import_pyarrow()
    path = local_path(address)
    with plain_errors(address):
        source = open(path, "rb") if path is not None else open_remote(address)  # noqa: SIM115
    with source:
        with plain_errors(address):
            file = parquet.ParquetFile(source)
        yield file


def open_remote(address: str) -> Any:
    place = remote(address)
    return place.files.open(place.path, "rb")


def count_rows(address: str, settings: TokenizeSettings) -> int | None:
    """None if it cannot be read. Raises DataError if it lacks a column that the settings name."""
    try:
        with opened(address) as file:
            names = file.schema_arrow.names
            rows = int(file.metadata.num_rows)
    except OSError:
        return None
    wanted = [settings.column] if settings.label in (None, "folder") else [settings.column, settings.label]
    for name in wanted:
        if name not in names:
            raise DataError(f"{address} has no column '{name}', but {', '.join(names)}; name one: --column, --label")
    return rows


def read_rows(
    address: str, first: int, count: int, settings: TokenizeSettings
) -> Iterator[tuple[int, Any, str | None]]:
    """(number, cell, label) of rows first … first + count − 1. Raises OSError."""
    with opened(address) as file:
        groups: list[int] = []
        start, skip = 0, first
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if start + rows > first and start < first + count:
                skip = first - start if not groups else skip
                groups.append(group)
            start += rows
        label = settings.label if settings.label in file.schema_arrow.names else None
        columns = [settings.column] if label is None else [settings.column, label]
        number = first - skip
        with plain_errors(address):
            for batch in file.iter_batches(AT_ONCE, row_groups=groups, columns=columns, use_threads=False):
                for row in range(batch.num_rows):
                    if first <= number < first + count:
                        told = None if label is None else batch.column(label)[row].as_py()
                        yield number, batch.column(settings.column)[row].as_py(), None if told is None else str(told)
                    number += 1
