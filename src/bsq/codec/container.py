"""The container. What enters: a header, chunks and a digest, or a stream's bytes. What leaves: the other.

Magic, version, header, chunks, closing digest; docs/format.md has them byte by byte. Every byte is covered by the
magic, a CRC-32C or the digest, so that damage anywhere is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bsq.codec.checksum import crc32c
from bsq.codec.fields import FieldReader, varint
from bsq.codec.header import Header, Limits, header_body, read_header_body
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
MAJOR, MINOR = 1, 0
MAX_HEADER_BYTES = 4096
CRC_BYTES = 4
DIGEST_BYTES = 8

_CODED, _RAW, _EXTRA, _CONTROL = range(4)
_CLOSING_TAG = 0 << 2 | _CONTROL


class Form(Enum):
    """How the digits of a chunk are stored."""

    CODED = _CODED
    RAW = _RAW


@dataclass(frozen=True)
class Chunk:
    """Digits of some steps of the conversation.

    steps    how many chunk numbers of the prior the chunk covers, at least 1
    framed   bytes in the stream with tag, length and checksum; 0 before it is written
    """

    form: Form
    steps: int
    payload: bytes
    framed: int = 0


@dataclass(frozen=True)
class Container:
    """A stream taken apart.

    header_bytes  magic, version, header and checksum
    chunks        the sound ones, up to the first trouble
    digest        8 bytes, None if the stream ends before them
    trouble       what ended the chunks early: truncation, damage, or a newer version's chunk; None in a sound stream
    """

    minor: int
    header: Header
    header_bytes: int
    chunks: tuple[Chunk, ...]
    digest: bytes | None
    trouble: StreamError | None


class ContainerWriter:
    """Builds a stream: the header, then chunk after chunk, then the digest."""

    def __init__(self, header: Header) -> None:
        body = header_body(header)
        head = MAGIC + bytes([MAJOR, MINOR]) + varint(len(body)) + body
        assert len(body) <= MAX_HEADER_BYTES
        self._crc = crc32c(head)
        self._parts = [head, _little_endian(self._crc)]
        self._chunks = 0

    def add(self, chunk: Chunk) -> None:
        """Append a chunk."""
        tag = varint(chunk.steps << 2 | chunk.form.value)
        length = varint(len(chunk.payload))
        crc = _chunk_crc(self._crc, self._chunks, tag + length, chunk.payload)
        self._parts += [tag, length, _little_endian(crc), chunk.payload]
        self._chunks += 1

    def finish(self, digest: bytes) -> bytes:
        """Close with the digest; the whole stream."""
        assert len(digest) == DIGEST_BYTES
        return b"".join([*self._parts, varint(_CLOSING_TAG), digest])


def read_container(data: bytes, limits: Limits) -> Container:
    """Take a stream apart. Trouble in the header is raised; trouble after it is in `Container.trouble`.

    Raises EmptyStreamError, NotABsqStreamError, NewerVersionError, TruncatedStreamError (within the header),
    DamagedStreamError, LimitError.
    """
    _check_magic(data)
    fields = FieldReader(data, len(MAGIC))
    major, minor = fields.take(2)
    if major > MAJOR:
        raise NewerVersionError(
            f"the stream has format {major}.{minor}, this bsq reads {MAJOR}.x; upgrade bsq to read it"
        )
    if major < MAJOR:
        raise DamagedStreamError(f"there is no format {major}.{minor}")
    length = fields.varint()
    if length > MAX_HEADER_BYTES:
        raise DamagedStreamError(f"the header claims {length} bytes, it has at most {MAX_HEADER_BYTES}")
    body = fields.take(length)
    crc = crc32c(data[: fields.position])
    if fields.take(CRC_BYTES) != _little_endian(crc):
        raise DamagedStreamError("the header's checksum does not hold; the stream was changed after it was written")
    header = read_header_body(body, limits)
    header_bytes = fields.position
    chunks: list[Chunk] = []
    digest, trouble = None, None
    try:
        digest = _read_chunks(data, fields, crc, chunks)
    except StreamError as error:
        trouble = error
    return Container(minor, header, header_bytes, tuple(chunks), digest, trouble)


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


def _read_chunks(data: bytes, fields: FieldReader, head_crc: int, chunks: list[Chunk]) -> bytes:
    """Append the chunks to `chunks` as they are found sound; return the digest."""
    index = 0
    while True:
        start = fields.position
        tag = fields.varint()
        if tag == _CLOSING_TAG:
            break
        length = fields.varint()
        frame = fields.position
        crc = fields.take(CRC_BYTES)
        payload = fields.take(length)
        head = data[start:frame]
        if crc != _little_endian(_chunk_crc(head_crc, index, head, payload)):
            raise DamagedStreamError(
                f"the checksum of chunk {index} (byte {start}) does not hold; its data were changed"
            )
        _add_chunk(chunks, tag, payload, fields.position - start)
        index += 1
    digest = fields.take(DIGEST_BYTES)
    if fields.left:
        raise DamagedStreamError(f"{fields.left} bytes follow the end of the stream")
    return digest


def _add_chunk(chunks: list[Chunk], tag: int, payload: bytes, framed: int) -> None:
    number, kind = tag >> 2, tag & 3
    if kind == _CONTROL:
        raise NewerVersionError(
            f"the stream uses chunk kind {number}, unknown to this version of bsq; upgrade to read it"
        )
    if kind == _EXTRA:
        return
    if not number:
        raise DamagedStreamError("a chunk covers no step")
    chunks.append(Chunk(Form(kind), number, payload, framed))


def _chunk_crc(head_crc: int, index: int, frame: bytes, payload: bytes) -> int:
    """Continues the header's CRC, so that a chunk is bound to its stream and its place."""
    return crc32c(payload, crc32c(_little_endian(index) + frame, head_crc))


def _little_endian(value: int) -> bytes:
    return value.to_bytes(CRC_BYTES, "little")
