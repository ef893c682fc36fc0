"""Maps of colours for pictures and films. What enters: codes, and what they should show. What leaves: a map, or none.

Codes are decoded for it: those of a picture whole, or squares of a huge one; of a film the first groups, then some.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bsq.checkpoint.decoders import faithful_of
from bsq.codec.colours import ColourFit, ColourMap
from bsq.codec.frames import decode_group
from bsq.codes import Codes
from bsq.data.pictures import to_pixels
from bsq.tokenizer import Tokenizer

WHOLE = 65_536
"""Tokens of a grid that is decoded whole, at most."""
SIDE, MOST, RIM = 32, 16_384, 4
"""Tokens of a side of the squares that a map is fitted to in place of it, of all of them, and of their rims, which lack
their surroundings and do not count.
"""
FIRST, EVERY, LONGEST = 2, 8, 64
"""So many groups of a film are decoded, then one of so many; of each so many frames at most."""
THIN = 1 << 16
"""At most about so many pixels of a frame are looked at."""


class Seen(NamedTuple):
    """Parts (B, 3, 1, …) of what a picture's codes show, and of the picture: all of it, or squares all over."""

    shown: Tensor
    meant: Tensor
    whole: bool


def colours_of(seen: Seen, codes: Codes, pixels: Tensor) -> ColourMap:
    """The map that brings what a picture's codes show nearest to its pixels (1, 3, H, W) in [−1, 1], none where it does
    not pay.
    """
    fit = ColourFit()
    fit.add(seen.shown, seen.meant)
    if not seen.whole:
        every = max(1, int((pixels.numel() / seen.meant.numel()) ** 0.5))
        fit.see(pixels[..., ::every, ::every])
    return fit.colours(codes.shape[2] * codes.shape[3] * codes.bits_per_code)


@torch.no_grad()
def look(
    model: Tokenizer,
    codes: Codes,
    pixels: Tensor,
    kept: Tensor | None = None,
    show: Callable[[Codes], Tensor] | None = None,
) -> Seen:
    """What codes show of a picture (1, 3, H, W) by the faithful decoder; `kept` as `Tokenizer.decode` takes it. `show`
    knows what it makes of whole pictures whose tokens keep all digits, default: the decoder.
    """
    model = faithful_of(model)
    patch, (height, width) = model.patch, pixels.shape[-2:]
    if codes.shape[2] * codes.shape[3] <= WHOLE:
        shown = show(codes) if show is not None and kept is None else model.decode(codes, (height, width), kept)
        return Seen(shown, pixels[:, :, None], True)
    inside = max(1, height // patch), max(1, width // patch)  # tokens that are not partly padding
    places = list(squares(*inside, model.grid(1, 1)))
    digits = torch.cat([codes.digits[:, :, rows, columns] for rows, columns in places])
    counts = None if kept is None else torch.cat([kept[:, :, rows, columns] for rows, columns in places])
    size = min(height, digits.shape[2] * patch), min(width, digits.shape[3] * patch)
    meant = [
        pixels[..., rows.start * patch :, columns.start * patch :][..., : size[0], : size[1]]
        for rows, columns in places
    ]
    shown = model.decode(Codes(digits, codes.radices), size, counts)
    down, across = (slice(rim := min(RIM * patch, side // 4), side - rim) for side in size)
    return Seen(shown[..., down, across], torch.cat(meant)[:, :, None, down, across], False)


def squares(rows: int, columns: int, least: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """About `MOST` tokens of a larger grid, in squares that are spread evenly, none smaller than `least`."""
    tall, wide = (max(min(side, SIDE), few) for side, few in zip((rows, columns), least, strict=True))
    count = max(1.0, MOST / (tall * wide))
    down = min(-(-rows // tall), max(1, round(min(count, (count * rows / columns) ** 0.5))))
    across = min(-(-columns // wide), max(1, round(count / down)))
    # A single row of squares, or column, goes up and down over the grid.
    tops = starts(rows, tall, down if down > 1 else min(-(-rows // tall), across))
    lefts = starts(columns, wide, across if across > 1 else min(-(-columns // wide), down))
    for number in range(down * across):
        top = tops[(number // across if down > 1 else number) % len(tops)]
        left = lefts[number % len(lefts)]
        yield slice(top, top + tall), slice(left, left + wide)


def starts(side: int, length: int, count: int) -> list[int]:
    """Where `count` pieces of that length begin that are spread over a side from end to end."""
    return [round(number * max(0, side - length) / max(1, count - 1)) for number in range(count)]


class FilmColours:
    """The map of a film, whose frames go by: `watch` them, and `add` each group's codes when its frames have gone by.

    What is in memory is a group's frames, thinned out.
    """

    def __init__(self, model: Tokenizer) -> None:
        self._model, self._fit = faithful_of(model), ColourFit()
        self._waiting: list[np.ndarray] = []
        self._groups, self._bits = 0, 0
        self._size = 0, 0

    def watch(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The same frames, uint8 (H, W, 3)."""
        for frame in frames:
            self._size = frame.shape[0], frame.shape[1]
            thin = thinned(frame).copy()
            self._fit.see(to_pixels(thin))
            if self._looks and len(self._waiting) < LONGEST:
                self._waiting.append(thin)
            yield frame

    @property
    def _looks(self) -> bool:
        """Whether the group that goes by is one of those that are decoded."""
        return self._groups < FIRST or self._groups % EVERY == 0

    def add(self, codes: Codes) -> None:
        """Of the next group, (1, T, h, w, kept); its frames, and no others, were watched since the last one."""
        meant, self._waiting = self._waiting, []
        if meant:
            shown = decode_group(codes, self._model, self._size, range(len(meant)))
            for again, frame in zip(shown, meant, strict=True):
                self._fit.add(to_pixels(thinned(again)), to_pixels(frame))
        self._groups += 1
        self._bits += codes.digits[..., 0].numel() * codes.bits_per_code

    def colours(self) -> ColourMap:
        """Of all groups so far, none where it does not pay."""
        return self._fit.colours(self._bits)


def film_colours(model: Tokenizer, groups: Iterable[Codes], frames: Iterable[np.ndarray]) -> ColourMap:
    """Of a film that is there as a whole."""
    film = FilmColours(model)
    watched = film.watch(iter(frames))
    for codes in groups:
        deque(islice(watched, codes.shape[1]), maxlen=0)
        film.add(codes)
    return film.colours()


def thinned(frame: np.ndarray) -> np.ndarray:
    """About `THIN` pixels of a frame (H, W, 3) at most, evenly spread."""
    every = math.ceil((frame.shape[0] * frame.shape[1] / THIN) ** 0.5)
    return frame[::every, ::every]
