"""What a container says of its streams. What enters: a stream of an open file. What leaves: facts."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


def is_cover(stream: Any) -> bool:
    """Whether it is a picture on the sleeve of a sound file."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def length_by_tag(stream: Any) -> Fraction | None:
    """Where a stream ends, in seconds, as Matroska and WebM note of each; None if nothing is noted."""
    found = CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    if found is None:
        return None
    hours, minutes, seconds = map(Fraction, found.groups())
    return 3600 * hours + 60 * minutes + seconds
