"""Names without the folders of this machine. What enters: paths and systems as typed. What leaves: what reports say."""

from __future__ import annotations

from pathlib import PurePath


def shown_path(text: str) -> str:
    """The last part of a path that is of this machine alone; others as they are."""
    return PurePath(text).name or text if text.startswith(("/", "~", "..")) else text


def shown_spec(text: str) -> str:
    """A system whose path is `shown_path`: "LFQ=lfq@18" for "LFQ=/data/lfq@18", "dalle:dvae" for "dalle:/dvae"."""
    label, sign, rest = text.partition("=")
    if not sign:
        label, rest = "", text
    head, colon, path = rest.partition(":")
    return f"{label}{sign}{shown_path(head)}{colon}{shown_path(path)}" if colon else f"{label}{sign}{shown_path(rest)}"
