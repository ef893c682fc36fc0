"""Names of classes. What enters: what a person typed. What leaves: a number."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from bsq.errors import SettingsError

FEW = 12
"""So many names are told whole."""


def class_number(names: Sequence[str], asked: str) -> int:
    """The class of that name or number; an unambiguous beginning of a name will do.

    Raises SettingsError that names the nearest ones.
    """
    if not names:
        raise SettingsError("this generator knows no classes; leave the class out")
    plain = [_plain(name) for name in names]
    wanted = _plain(asked)
    if wanted in plain:
        return plain.index(wanted)
    if asked.strip().isdecimal() and int(asked) < len(names):
        return int(asked)
    begun = [number for number, name in enumerate(plain) if wanted and name.startswith(wanted)]
    if len(begun) == 1:
        return begun[0]
    near = [names[number] for number in begun] or [
        names[plain.index(name)] for name in get_close_matches(wanted, plain, n=5, cutoff=0.4)
    ]
    there = ", ".join(names) if len(names) <= FEW else f"{names[0]}, {names[-1]} and others"
    told = f"; did you mean {', '.join(near[:5])}?" if near else f"; there are {there}"
    raise SettingsError(f"no class {asked!r} among {len(names)}{told}")


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
