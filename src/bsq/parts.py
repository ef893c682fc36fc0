"""Large pictures through models whose tokens see only so far. What enters: a grid's size. What leaves: parts of it.

A part carries a margin as wide as a token's reach, so that what is computed for its inside is what the whole picture
would give: no seams, and memory that does not grow with the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

TOKENS = 65_536
"""Tokens of a part at most; the margins come on top."""
MOST_PIECES = 64
"""Widths that are tried: from the widest on, each a piece a row more."""


@dataclass(frozen=True)
class Reach:
    """A token depends on tokens up to `margin` rows and columns away; parts begin at multiples of `step`."""

    margin: int
    step: int


@dataclass(frozen=True)
class Span:
    """Tokens start … stop − 1 of an axis, computed from tokens outer_start … outer_stop − 1."""

    start: int
    stop: int
    outer_start: int
    outer_stop: int

    @property
    def inside(self) -> slice:
        """Where the span lies within what was computed."""
        return slice(self.start - self.outer_start, self.stop - self.outer_start)

    @property
    def outer(self) -> slice:
        return slice(self.outer_start, self.outer_stop)

    @property
    def own(self) -> slice:
        return slice(self.start, self.stop)

    def times(self, patch: int) -> Span:
        """The same span in pixels."""
        return Span(self.start * patch, self.stop * patch, self.outer_start * patch, self.outer_stop * patch)


@dataclass(frozen=True)
class Part:
    """A rectangle of the token grid."""

    rows: Span
    columns: Span


def cut_parts(rows: int, columns: int, reach: Reach, most: int | None = None) -> Iterator[Part]:
    """Parts of about `most` tokens (None: `TOKENS`) that cover a grid of rows × columns once; a single one if that is
    small.
    """
    most = TOKENS if most is None else most
    height, width = rows, columns
    if rows * columns > most and reach.margin < max(rows, columns):
        height, width = _sides(rows, columns, reach, most)
    for row_span in _spans(rows, height, reach):
        for column_span in _spans(columns, width, reach):
            yield Part(row_span, column_span)


def _sides(rows: int, columns: int, reach: Reach, most: int) -> tuple[int, int]:
    """Height and width of parts of `most` tokens, or of as few more as their margins allow, so that what is computed
    with all the margins is least. No side is shorter than its two margins.
    """

    def sides(width: int) -> tuple[int, int]:
        return min(rows, max(most // width // reach.step * reach.step, reach.step, 2 * reach.margin)), width

    def cost(of: tuple[int, int]) -> tuple[int, int]:
        height, width = of
        return max(most, height * width), _computed(rows, height, reach) * _computed(columns, width, reach)

    # Wider parts than of `most` in their lowest form are never better.
    widest = min(columns, max(most // max(1, min(rows, reach.step)), reach.step, 2 * reach.margin))
    pieces = range(-(-columns // widest), -(-columns // widest) + MOST_PIECES)
    widths = {min(columns, max(-(-columns // n // reach.step) * reach.step, 2 * reach.margin)) for n in pieces}
    return min(map(sides, sorted(widths, reverse=True)), key=cost)


def _computed(size: int, length: int, reach: Reach) -> int:
    """Tokens of an axis in spans of `length` with their margins, as `_spans` has them."""
    spans = -(-size // length)
    if spans == 1:
        return size
    if 2 * reach.margin <= length:
        last = size - (spans - 1) * length
        return size + 2 * reach.margin * (spans - 1) - max(0, reach.margin - last)
    return sum(span.outer_stop - span.outer_start for span in _spans(size, length, reach))


def _spans(size: int, length: int, reach: Reach) -> Iterator[Span]:
    for start in range(0, size, length):
        stop = min(start + length, size)
        yield Span(start, stop, max(0, start - reach.margin), min(size, stop + reach.margin))
