"""The header of a `.bsq` stream. What enters: what a stream is about, or its header's bytes. What leaves: the other.

docs/format.md has the layout; what the fields mean is in `bsq.codec.info`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby

from bsq.codec.fields import FieldReader, signed_varint, varint
from bsq.codec.info import MAX_DIGITS, MAX_SIZE, StreamInfo, check_info
from bsq.errors import DamagedStreamError, NewerVersionError, StreamError, TruncatedStreamError
from bsq.prior.base import NO_IDENTITY, Prior

PRIOR_NAMES = ("uniform", "adaptive", "masked", "causal")
OTHER_PRIOR = len(PRIOR_NAMES)
LEVELS, COLOURS = 1, 2
"""The records of levels, since format 2.1, and of colours, since 2.2."""

_VIDEO, _PORTABLE, _BINARY, _NAMED, _LEAST_GRID, _GROUPED, _IDENTITY = (1 << bit for bit in range(7))


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


def header_body(header: Header) -> bytes:
    """The header's fields as bytes; mirror of `read_header_body`."""
    info, flags = header.info, 0
    parts = [varint(info.height), varint(info.width), varint(info.patch)]
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
        parts.append(_record(LEVELS, map(varint, info.levels)))
    if info.colours:
        parts.append(_record(COLOURS, map(signed_varint, info.colours)))
    return bytes([flags]) + b"".join(parts)


def _record(number: int, values: Iterable[bytes]) -> bytes:
    content = b"".join(values)
    return varint(number) + varint(len(content)) + content


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
            levels = _read_values("levels", header.info.levels, content, content.varint)
            header = replace(header, info=replace(header.info, levels=levels))
        elif number == COLOURS:
            colours = _read_values("colours", header.info.colours, content, content.signed_varint)
            header = replace(header, info=replace(header.info, colours=colours))
        elif number & 1:
            raise _newer(f"header record {number}")
    return header


def _read_values(name: str, before: tuple[int, ...], content: FieldReader, read: Callable[[], int]) -> tuple[int, ...]:
    """All that a record holds. Raises DamagedStreamError: nothing, or a record of that name came `before`."""
    if before:
        raise DamagedStreamError(f"the header has two records of {name}")
    values = []
    while content.left:
        values.append(read())
    if not values:
        raise DamagedStreamError(f"the header's record of {name} is empty")
    return tuple(values)


def _text(value: str) -> bytes:
    return varint(len(value.encode())) + value.encode()


def _read_text(fields: FieldReader) -> str:
    try:
        return fields.take(fields.varint()).decode()
    except UnicodeDecodeError as error:
        raise DamagedStreamError("a name in the header is not UTF-8") from error


def _newer(what: str) -> StreamError:
    return NewerVersionError(f"the stream uses {what}, unknown to this version of bsq; upgrade bsq to read it")
