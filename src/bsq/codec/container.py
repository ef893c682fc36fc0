"""The container. What enters: a header, chunks and a digest, or a stream's bytes. What leaves: the other.

Magic, version, header, chunks, closing digest; docs/format.md has them byte by byte. Every byte is covered by the
magic, a CRC-32C or the digest, so that damage anywhere is found; `bsq.codec.walk` finds what is left of a stream that
was cut or damaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from bsq.codec.checksum import crc32c
from bsq.codec.fields import FieldReader, varint
from bsq.codec.framing import (
    CLOSING_TAG,
    CRC_BYTES,
    DIGEST_BYTES,
    EXTRA,
    Chunk,
    Form,
    Place,
    blocks,
    first_crc,
    little_endian,
)
from bsq.codec.header import Header, header_body, read_header_body
from bsq.codec.info import Limits, StreamInfo, check_limits
from bsq.codec.walk import ChunkWalk
from bsq.errors import (
    DamagedStreamError,
    EmptyStreamError,
    NewerVersionError,
    NotABsqStreamError,
    StreamError,
    TruncatedStreamError,
)

# As in PNG: a byte above 127, the name, both kinds of line end, the end-of-file mark of DOS.
MAGIC = b"\x8fbsq\r\n\x1a\n"
MAJOR = 2
EXTRA_MINOR = 3  # the first with a chunk that is no digits
MAX_HEADER_BYTES = 4096


def minor_of(info: StreamInfo, extra: bool = False) -> int:
    """The least minor version that has all that the stream uses; `extra`: a chunk besides those of digits."""
    return EXTRA_MINOR if extra else 2 if info.colours else 1 if info.levels else 0


@dataclass(frozen=True)
class Container:
    """A stream taken apart.

    header_bytes  magic, version, header and checksum
    chunks        of each group those up to its first trouble; the last of them may be a beginning only
    residuals     the payloads of chunks of that number
    digest        8 bytes, None if the stream ends before them
    trouble       the first: truncation, damage, or a newer version's chunk; None in a sound stream
    """

    minor: int
    header: Header
    header_bytes: int
    chunks: tuple[Chunk, ...]
    residuals: tuple[bytes, ...]
    digest: bytes | None
    trouble: StreamError | None


class ContainerWriter:
    """Writes a stream into a binary file: the header, then group after group, chunk after chunk, then the digest."""

    def __init__(self, header: Header, file: BinaryIO, extra: bool = False) -> None:
        """`extra`: whether `add_extra` is going to be called."""
        body = header_body(header)
        head = MAGIC + bytes([MAJOR, minor_of(header.info, extra)]) + varint(len(body)) + body
        assert len(body) <= MAX_HEADER_BYTES
        self._crc, self._file = crc32c(head), file
        file.write(head + little_endian(self._crc))
        self._place, self._extra = Place(-1, 0), extra

    def begin_group(self) -> None:
        """What follows belongs to the next group of frames."""
        self._place = Place(self._place.group + 1, 0)

    def add(self, form: Form, steps: int, payload: bytes) -> None:
        """Append a chunk that covers so many steps of the prior."""
        self._append(steps << 2 | form.value, payload)

    def add_extra(self, number: int, payload: bytes) -> None:
        """Append a chunk, of what that number says, which a reader may skip."""
        assert self._extra
        self._append(number << 2 | EXTRA, payload)

    def _append(self, tag: int, payload: bytes) -> None:
        head = varint(tag) + varint(len(payload))
        self._file.write(head)
        crc = first_crc(self._crc, self._place, head)
        for block in blocks(len(payload)):
            crc = crc32c(payload[block], crc)
            self._file.write(payload[block] + little_endian(crc))
        self._place = Place(self._place.group, self._place.number + 1)

    def finish(self, digest: bytes) -> None:
        """Close with the digest."""
        assert len(digest) == DIGEST_BYTES
        self._file.write(varint(CLOSING_TAG) + digest)


def read_container(data: bytes, limits: Limits) -> Container:
    """Take a stream apart. Trouble in the header is raised; trouble after it is in `Container.trouble`.

    Raises EmptyStreamError, NotABsqStreamError, NewerVersionError, TruncatedStreamError (within the header),
    DamagedStreamError, LimitError.
    """
    fields = FieldReader(data)
    head = read_head(fields)
    check_limits(head.header.info, limits)
    walk = ChunkWalk(fields, head.crc, head.header.info.group_count)
    chunks = tuple(walk)
    return Container(head.minor, head.header, head.size, chunks, tuple(walk.residuals), walk.digest, walk.trouble)


class Head(NamedTuple):
    """The beginning of a stream, up to its first chunk: `size` bytes, whose CRC its chunks continue."""

    minor: int
    header: Header
    size: int
    crc: int


def read_head(fields: FieldReader) -> Head:
    """The beginning of a stream, its checksum verified, its claims not yet held against limits. Errors as
    `read_container`.
    """
    start = fields.peek(len(MAGIC))
    _check_magic(start)
    fields.take(len(MAGIC))
    major, minor = fields.take(2)
    if major > MAJOR:
        raise NewerVersionError(
            f"the stream has format {major}.{minor}, this bsq reads {MAJOR}.x; upgrade bsq to read it"
        )
    if major < MAJOR:
        raise DamagedStreamError(f"there is no format {major}.{minor}; drafts before {MAJOR}.0 must be written anew")
    length = fields.varint()
    if length > MAX_HEADER_BYTES:
        raise DamagedStreamError(f"the header claims {length} bytes, it has at most {MAX_HEADER_BYTES}")
    body = fields.take(length)
    crc = crc32c(fields.since(0))
    if fields.take(CRC_BYTES) != little_endian(crc):
        raise DamagedStreamError("the header's checksum does not hold; the stream was changed after it was written")
    return Head(minor, read_header_body(body), fields.position, crc)


def _check_magic(data: bytes) -> None:
    if not data:
        raise EmptyStreamError("the stream is empty: 0 bytes")
    if data.startswith(MAGIC):
        return
    if len(data) < len(MAGIC) and MAGIC.startswith(data):
        raise TruncatedStreamError(f"the stream is cut short: it has {len(data)} bytes")
    if data.startswith(MAGIC[:4]):
        raise DamagedStreamError("the first bytes were changed, as by a transfer in text mode; transfer it as binary")
    raise NotABsqStreamError(f"not a .bsq stream: it begins with {data[:8]!r}, not {MAGIC!r}")
