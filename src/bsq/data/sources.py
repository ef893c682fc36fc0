"""Where samples come from. What enters: what a recipe calls a source. What leaves: stored items, or a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator

from bsq.data.hub import HuggingFaceSettings, open_rows
from bsq.data.stored import Encoded, Kind, find_stored
from bsq.data.streams import Stream, TarStream, is_stream
from bsq.errors import DataError, SettingsError


def _one_is_a_list_of_one(source: object) -> object:
    return (source,) if isinstance(source, str) else source


AnySource = Annotated[tuple[str, ...] | HuggingFaceSettings, BeforeValidator(_one_is_a_list_of_one)]
"""Folders, files, tars and globs of them; or pipes and addresses of tars; or a Hugging Face data set."""


def open_source(source: tuple[str, ...] | HuggingFaceSettings, kind: Kind) -> Sequence[Encoded] | Stream:
    """Raises DataError for a source that holds nothing of the kind, or mixes what is stored with what streams."""
    match source:
        case HuggingFaceSettings():
            return open_rows(source)
        case tuple():
            streamed = [is_stream(name) for name in source]
            if not any(streamed):
                return find_stored(source, kind)
            if not all(streamed):
                stored = source[streamed.index(False)]
                raise DataError(
                    f"{stored} is stored, {source[streamed.index(True)]} streams; take all from one or other"
                )
            return TarStream(source, kind)
        case _:
            raise SettingsError(f"no source: {source!r}")
