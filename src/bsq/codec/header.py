"""The header of a `.bsq` stream. What enters: what a stream is about, or its header's bytes. What leaves: the other.

Only sizes are stored; every count is derived from them here, and held against the limits before anything is allocated.
docs/format.md has the layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby, pairwise

from pydantic import Field

from bsq.codec.fields import FieldReader, varint
from bsq.errors import BsqError, DamagedStreamError, LimitError, NewerVersionError, StreamError, TruncatedStreamError
from bsq.prior.allocated import MAX_LEVELS
from bsq.prior.base import MAX_RADIX, NO_IDENTITY, Grid, Prior
from bsq.settings import Settings

MAX_SIZE = 2**31 - 1
MAX_DIGITS = 1024
MAX_NAME_BYTES = 255
PRIOR_NAMES = ("uniform", "adaptive", "masked", "causal")
OTHER_PRIOR = len(PRIOR_NAMES)
LEVELS = 1
"""The record of levels, since format 2.1."""

_VIDEO, _PORTABLE, _BINARY, _NAMED, _LEAST_GRID, _GROUPED, _IDENTITY = (1 << bit for bit in range(7))


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
    def kind(self) -> str:
        """ "picture" or "video"."""
        return "picture" if self.frame_rate is None else "video"


@dataclass(frozen=True)
class Header:
    """All that stands in a stream's header."""

    info: StreamInfo
    prior: str
    identity: bytes
    portable: bool

    def written_with(self, prior: Prior) -> bool:
        """Whether the stream was written with this prior."""
        return (prior.name, bytes(prior.identity)) == (self.prior, self.identity)


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


def header_body(header: Header) -> bytes:
    """The header's fields as bytes; mirror of `read_header_body`."""
    info, flags, parts = (
        header.info,
        0,
        [varint(header.info.height), varint(header.info.width), varint(header.info.patch)],
    )
    plain = replace(info, least_rows=1, least_columns=1)
    if plain.grid != info.grid:
        flags |= _LEAST_GRID
        parts += [varint(info.least_rows), varint(info.least_columns)]
    if info.frame_rate is not None:
        flags |= _VIDEO
        parts += [varint(info.frames), *map(varint, info.frame_rate.as_integer_ratio())]
    if info.frames_per_group is not None:
        flags |= _GROUPED
        parts.append(varint(info.frames_per_group))
    parts += [varint(len(info.radices)), varint(info.kept)]
    if set(info.radices) == {2}:
        flags |= _BINARY
    else:
        parts += [varint(len(list(run))) + varint(radix) for radix, run in groupby(info.radices)]
    parts.append(info.code_hash)
    if info.tokenizer:
        flags |= _NAMED
        parts.append(_text(info.tokenizer))
    if header.prior in PRIOR_NAMES:
        parts.append(varint(PRIOR_NAMES.index(header.prior)))
    else:
        parts.append(varint(OTHER_PRIOR) + _text(header.prior))
    if header.identity != NO_IDENTITY:
        flags |= _IDENTITY
        parts.append(header.identity)
    if header.portable:
        flags |= _PORTABLE
    if info.levels:
        content = b"".join(map(varint, info.levels))
        parts.append(varint(LEVELS) + varint(len(content)) + content)
    return bytes([flags]) + b"".join(parts)


def read_header_body(body: bytes) -> Header:
    """Bytes whose checksum holds → header. Raises DamagedStreamError, NewerVersionError."""
    fields = FieldReader(body)
    try:
        header = _read_records(_read_fields(fields), fields)
    except TruncatedStreamError as error:
        raise DamagedStreamError("the header's fields are longer than the header") from error
    check_info(header.info, DamagedStreamError)
    return header


def _read_fields(fields: FieldReader) -> Header:
    flags = fields.take(1)[0]
    if flags >> 7:
        raise _newer("a header flag")
    height, width, patch = fields.varint(), fields.varint(), fields.varint()
    least_rows, least_columns = (fields.varint(), fields.varint()) if flags & _LEAST_GRID else (1, 1)
    frames, frame_rate = 1, None
    if flags & _VIDEO:
        frames = fields.varint()
        frame_rate = _read_rate(fields)
    frames_per_group = fields.varint() if flags & _GROUPED else None
    length, kept = fields.varint(), fields.varint()
    radices = _read_radices(fields, length, flags)
    code_hash = fields.take(8)
    tokenizer = _read_text(fields) if flags & _NAMED else ""
    prior = fields.varint()
    if prior > OTHER_PRIOR:
        raise _newer(f"prior number {prior}")
    name = _read_text(fields) if prior == OTHER_PRIOR else PRIOR_NAMES[prior]
    identity = fields.take(8) if flags & _IDENTITY else NO_IDENTITY
    info = StreamInfo(
        height=height,
        width=width,
        patch=patch,
        radices=radices,
        kept=kept,
        code_hash=code_hash,
        tokenizer=tokenizer,
        frames=frames,
        frame_rate=frame_rate,
        frames_per_group=frames_per_group,
        least_rows=least_rows,
        least_columns=least_columns,
    )
    return Header(info, name, identity, bool(flags & _PORTABLE))


def _read_rate(fields: FieldReader) -> Fraction:
    numerator, denominator = fields.varint(), fields.varint()
    if not (1 <= numerator <= MAX_SIZE and 1 <= denominator <= MAX_SIZE):
        raise DamagedStreamError(f"the frame rate's terms must be 1 to 2^31 − 1, got {numerator} and {denominator}")
    return Fraction(numerator, denominator)


def _read_radices(fields: FieldReader, length: int, flags: int) -> tuple[int, ...]:
    if not 1 <= length <= MAX_DIGITS:
        raise DamagedStreamError(f"a code must have 1 to {MAX_DIGITS} digits, got {length}")
    if flags & _BINARY:
        return (2,) * length
    radices: list[int] = []
    while len(radices) < length:
        run, radix = fields.varint(), fields.varint()
        if not 1 <= run <= length - len(radices):
            raise DamagedStreamError("the radices do not fit the number of digits")
        radices += [radix] * run
    return tuple(radices)


def _read_records(header: Header, fields: FieldReader) -> Header:
    """The header with its records. Of unknown ones even numbers may be skipped, odd ones must be understood."""
    while fields.left:
        number, length = fields.varint(), fields.varint()
        content = FieldReader(fields.take(length))
        if number == LEVELS:
            if header.info.levels:
                raise DamagedStreamError("the header has two records of levels")
            levels = []
            while content.left:
                levels.append(content.varint())
            if not levels:
                raise DamagedStreamError("the header's record of levels is empty")
            header = replace(header, info=replace(header.info, levels=tuple(levels)))
        elif number & 1:
            raise _newer(f"header record {number}")
    return header


def _text(value: str) -> bytes:
    return varint(len(value.encode())) + value.encode()


def _read_text(fields: FieldReader) -> str:
    try:
        return fields.take(fields.varint()).decode()
    except UnicodeDecodeError as error:
        raise DamagedStreamError("a name in the header is not UTF-8") from error


def _newer(what: str) -> StreamError:
    return NewerVersionError(f"the stream uses {what}, unknown to this version of bsq; upgrade bsq to read it")
