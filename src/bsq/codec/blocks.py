"""Clips in blocks, where gradients are needed. What enters: a clip's size in tokens. What leaves: blocks of it.

A block is a part of the grid (`bsq.parts`) in some frames, with a margin of what is around it. Other than in a part,
margins are not as wide as a token's reach: what is computed need not be what the whole clip would give.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bsq.errors import LimitError
from bsq.parts import Part, Reach, Span, cut_parts


@dataclass(frozen=True)
class Block:
    """A part of the token grid in some frames."""

    frames: Span
    part: Part

    @property
    def tokens(self) -> int:
        """With the margins."""
        rows, columns = self.part.rows, self.part.columns
        area = (rows.outer_stop - rows.outer_start) * (columns.outer_stop - columns.outer_start)
        return (self.frames.outer_stop - self.frames.outer_start) * area


def cut_blocks(
    frames: int, rows: int, columns: int, reach: Reach, margin: int, past: int | None, most: int
) -> list[Block]:
    """Blocks that cover a clip of frames × rows × columns tokens once, in the order of time, of at most `most` tokens.

    `reach` is that of the model's tokens. Margins are of `margin` tokens or a little more, where tokens see only so
    far, and of `past` earlier frames (None: frames cannot be parted). Raises LimitError where the smallest block is
    too large.
    """
    near = reach
    if reach.margin < max(rows, columns):
        near = Reach(min(reach.margin, -(-margin // reach.step) * reach.step), reach.step)
    length, own = frames, most
    while True:
        blocks = [
            Block(span, part)
            for span in time_spans(frames, length, past or 0)
            for part in cut_parts(rows, columns, near, own)
        ]
        needed = max(block.tokens for block in blocks)
        if needed <= most:
            return blocks
        if own > 1:
            own //= 2
        elif past is not None and length > 1:
            length = -(-length // 2)
        else:
            raise LimitError(
                f"a search needs gradients of {needed:,} tokens at once, {most:,} are what memory is meant to hold: "
                "scale the picture down, or give a video smaller groups"
            )


def time_spans(frames: int, length: int, past: int) -> Iterator[Span]:
    """Spans of `length` frames, computed from `past` frames more in front."""
    for start in range(0, frames, length):
        stop = min(start + length, frames)
        yield Span(start, stop, max(0, start - past), stop)
