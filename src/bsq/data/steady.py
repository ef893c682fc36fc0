"""Videos at a constant frame rate. What enters: an open video. What leaves: its frames, one every 1 / rate seconds.

Each frame takes the place that is nearest to its time. A place that none takes shows the frame before it, of several
frames for one place the last is shown: so the duration is kept, whatever the times do, and a video whose rate is
constant keeps every frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import repeat

import numpy as np

from bsq.data.videos import Video

USUAL_RATE = Fraction(25)
LONGEST_HOLD = 600  # seconds; times that jump further are taken for damage


class SteadyFrames:
    """uint8 (H, W, 3), one by one; `count` so far, of which `held` are the frame before once more; `dropped` are not
    shown.
    """

    def __init__(self, video: Video, rate: Fraction | None = None) -> None:
        """`rate` in frames a second; default: the video's own mean rate."""
        self.video = video
        self.rate = rate or video.rate or USUAL_RATE
        self.count = self.held = self.dropped = 0
        self._jumps = 0

    @property
    def expected(self) -> int | None:
        """How many frames there will be, as far as the file says."""
        if self.video.duration is not None:
            return max(1, round(self.video.duration * self.rate))
        return self.video.frames or None

    def __iter__(self) -> Iterator[np.ndarray]:
        """All frames, once. Errors as iterating the video."""
        shown: np.ndarray | None = None
        place = shift = 0
        end: Fraction | None = None
        for frame in self.video:
            wanted = self._place(frame.time) - shift
            if wanted - place > LONGEST_HOLD * self.rate:
                self._jumps += 1
                shift += wanted - place - 1
                wanted = place + 1
            if shown is not None and wanted <= place:
                self.dropped += 1
            elif shown is not None:
                self.held += wanted - place - 1
                self.count += wanted - place
                yield from repeat(shown, wanted - place)
                place = wanted
            shown = frame.pixels
            end = None if frame.duration is None else frame.time + frame.duration
        if shown is not None:
            longer = 0 if end is None else self._place(end) - shift - place - 1
            if longer < 0 and self.dropped and self.count:  # of a thinned film, nearest to a place behind its end
                self.dropped += 1
                return
            longer = max(0, min(longer, int(LONGEST_HOLD * self.rate)))
            self.held += longer
            self.count += 1 + longer
            yield from repeat(shown, 1 + longer)

    def _place(self, time: Fraction) -> int:
        """The place nearest to a time."""
        return math.floor(time * self.rate + Fraction(1, 2))

    def notes(self) -> Iterator[str]:
        """What was changed, in plain words, when all frames were taken."""
        if self.video.rate is None and self.rate == USUAL_RATE:
            yield f"names no frame rate; {self.rate} a second are assumed"
        if self.held or self.dropped:
            yield (
                f"was brought to a constant {float(self.rate):g} frames a second: {self.held} shown longer, "
                f"{self.dropped} left out"
            )
        if self._jumps:
            yield f"has times that jump by more than {LONGEST_HOLD} s; the gaps are closed"
