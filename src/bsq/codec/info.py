"""What the codes of a `.bsq` stream mean. What enters: sizes. What leaves: counts, held against limits.

Only sizes are stored in a stream (`bsq.codec.header`); nothing is allocated before the counts are known to be sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise

from pydantic import Field

from bsq.errors import BsqError, LimitError
from bsq.prior.allocated import MAX_LEVELS
from bsq.prior.base import MAX_RADIX, Grid
from bsq.settings import Settings

MAX_SIZE = 2**31 - 1
MAX_DIGITS = 1024
MAX_NAME_BYTES = 255
COLOUR_NUMBERS, COLOUR_BOUND = 12, 4096
"""Of a map of colours: how many numbers it has, and how far from 0 they may be."""


class Limits(Settings):
    """What a reader accepts; more is a LimitError. The defaults fit a 16384×16384 picture or minutes of video.

    Where a film is read group by group, they bound a group: what is in memory at once.
    """

    pixels: int = Field(default=2**28, ge=1, description="pixels of a frame")
    frames: int = Field(default=2**16, ge=1, description="frames")
    tokens: int = Field(default=2**24, ge=1, description="tokens of all frames")
    digits: int = Field(default=2**29, ge=1, description="digits of all tokens")


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """What the codes of a stream mean.

    height, width     pixels of the picture or of a frame, before padding
    patch             pixels along a side of a token's patch
    radices           of all L digits of the tokenizer; 2 … 2^16 each, at most 1024
    kept              how many of the L digits the stream holds (the first ones)
    code_hash         first 8 bytes of the tokenizer's `code_hash`
    tokenizer         its name, "" if it has none; a hint for finding it, the hash decides
    frames            T; frame_rate in frames per second makes it a video, None a picture (T = 1)
    frames_per_group  frames of one conversation with the prior, the last group may be shorter; None: all of them
    least_rows, least_columns   the grid is never smaller than this (tokenizers with learned positions)
    levels            of a picture whose tokens keep different numbers of digits: which, ascending, the last is `kept`;
                      () where all keep as many
    colours           the map that sets its colours right (`bsq.codec.colours`), () without one
    """

    height: int
    width: int
    patch: int
    radices: tuple[int, ...] = field(repr=False)
    kept: int
    code_hash: bytes
    tokenizer: str = ""
    frames: int = 1
    frame_rate: Fraction | None = None
    frames_per_group: int | None = None
    least_rows: int = 1
    least_columns: int = 1
    levels: tuple[int, ...] = ()
    colours: tuple[int, ...] = ()

    @property
    def grid(self) -> Grid:
        """The token grid (T, h, w): whole patches, at least the least grid."""
        rows, columns = -(-self.height // self.patch), -(-self.width // self.patch)
        return Grid(self.frames, max(rows, self.least_rows), max(columns, self.least_columns))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of a frame."""
        return self.height, self.width

    @property
    def groups(self) -> tuple[Grid, ...]:
        """The grids of the conversations, in order."""
        grid, size = self.grid, self.group_size
        starts = range(0, grid.frames, size)
        return tuple(replace(grid, frames=min(size, grid.frames - start)) for start in starts)

    @property
    def group_count(self) -> int:
        """How many conversations there are; a stream may claim more than memory holds `groups` of."""
        return -(-self.frames // self.group_size)

    @property
    def group_size(self) -> int:
        """Frames of a group, the last of which may have fewer."""
        return self.frames_per_group or self.frames

    def of_group(self, number: int) -> StreamInfo:
        """The same of one group alone."""
        frames = min(self.group_size, self.frames - number * self.group_size)
        return replace(self, frames=frames, frames_per_group=None)

    @property
    def kept_radices(self) -> tuple[int, ...]:
        """Radices of the digits of a code that the stream holds."""
        return self.radices[: self.kept]

    @property
    def coded_radices(self) -> tuple[int, ...]:
        """Radices of what is coded of a token: its digits, then its level where there are levels
        (`bsq.prior.allocated`).
        """
        return (*self.kept_radices, len(self.levels)) if self.levels else self.kept_radices

    @property
    def told_kept(self) -> str:
        """How many digits a token keeps, for people: "18", or "9 to 36"."""
        return f"{self.levels[0]} to {self.levels[-1]}" if self.levels else str(self.kept)

    @property
    def kind(self) -> str:
        """ "picture" or "video"."""
        return "picture" if self.frame_rate is None else "video"


def check_info(info: StreamInfo, error: type[BsqError]) -> None:
    """Raise `error` where the description contradicts itself."""
    sizes = {"height": info.height, "width": info.width, "patch": info.patch, "frames": info.frames}
    sizes |= {"least_rows": info.least_rows, "least_columns": info.least_columns}
    for name, size in sizes.items():
        if not 1 <= size <= MAX_SIZE:
            raise error(f"{name} must be 1 to 2^31 − 1, got {size}")
    if not 1 <= len(info.radices) <= MAX_DIGITS or not 2 <= min(info.radices) <= max(info.radices) <= MAX_RADIX:
        raise error("a code must have 1 to 1024 digits of radix 2 to 65536; split wider digits with Codes.from_groups")
    if not 1 <= info.kept <= len(info.radices):
        raise error(f"can keep 1 to {len(info.radices)} digits, got {info.kept}")
    if len(info.code_hash) != 8:
        raise error(f"the tokenizer's hash must be 8 bytes, got {len(info.code_hash)}")
    if len(info.tokenizer.encode()) > MAX_NAME_BYTES:
        raise error(f"the tokenizer's name is longer than {MAX_NAME_BYTES} bytes")
    if info.frame_rate is None and info.frames != 1:
        raise error(f"{info.frames} frames need a frame rate")
    if info.frame_rate is not None and not 0 < min(info.frame_rate.as_integer_ratio()) <= MAX_SIZE:
        raise error(f"the frame rate must be positive, got {info.frame_rate}")
    if info.frame_rate is not None and max(info.frame_rate.as_integer_ratio()) > MAX_SIZE:
        raise error(f"the frame rate's terms must be below 2^31, got {info.frame_rate}")
    if info.levels:
        check_levels(info, error)
    if info.colours:
        check_colours(info, error)
    if info.frames_per_group is not None and not 1 <= info.frames_per_group < info.frames:
        raise error(f"a group must have 1 to {info.frames - 1} of {info.frames} frames, got {info.frames_per_group}")


def check_levels(info: StreamInfo, error: type[BsqError]) -> None:
    """Raise `error` where levels contradict the rest."""
    levels = info.levels
    if not 2 <= len(levels) <= MAX_LEVELS or levels[0] < 1 or any(a >= b for a, b in pairwise(levels)):
        raise error(f"levels must be 2 to {MAX_LEVELS} ascending numbers of digits, got {levels[:20]}")
    if levels[-1] != info.kept:
        raise error(f"the largest level must be the {info.kept} digits kept, got {levels[-1]}")
    if info.frame_rate is not None:
        raise error("all tokens of a video keep as many digits, so it has no levels")


def check_colours(info: StreamInfo, error: type[BsqError]) -> None:
    """Raise `error` where the map of colours is none."""
    numbers = info.colours
    if len(numbers) != COLOUR_NUMBERS or max(map(abs, numbers)) > COLOUR_BOUND:
        raise error(f"colours must be {COLOUR_NUMBERS} numbers within ±{COLOUR_BOUND}, got {numbers[:20]}")


def check_limits(info: StreamInfo, limits: Limits) -> None:
    """Raise LimitError where the stream is larger than the limits allow."""
    tokens = info.grid.tokens
    counts = {
        "pixels": info.height * info.width,
        "frames": info.frames,
        "tokens": tokens,
        "digits": tokens * len(info.coded_radices),
    }
    for name, count in counts.items():
        limit = getattr(limits, name)
        if count > limit:
            raise LimitError(
                f"the stream holds {count} {name}, the limit is {limit}; raise Limits({name}=…) to read it"
            )
