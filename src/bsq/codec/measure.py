"""What a stream is made of. What enters: its bytes. What leaves: the sizes of its parts, without decoding them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import BinaryIO

from bsq.codec.container import Head, read_head
from bsq.codec.fields import FieldReader, FileBytes
from bsq.codec.framing import DIGEST_BYTES, Chunk
from bsq.codec.info import Limits, StreamInfo, check_limits
from bsq.codec.walk import ChunkWalk
from bsq.codes import digit_bits
from bsq.errors import StreamError


@dataclass(frozen=True)
class StreamParts:
    """Sizes of a stream's parts, in bytes unless they say otherwise.

    header    with magic, version and checksum
    payload   of the chunks: the coded digits, as far as they are there
    framing   tags, lengths and checksums of the chunks
    extra     chunks that are no digits, with tags, lengths and checksums
    residual  payload of those of what a picture lacks (`bsq.codec.residual`)
    closing   end mark and digest
    raw_bits  what the digits would take uncoded, those that levels leave out among them
    """

    info: StreamInfo
    prior: str
    identity: bytes
    portable: bool
    total: int
    header: int
    payload: int
    framing: int
    extra: int
    residual: int
    closing: int
    raw_bits: int
    chunks: tuple[Chunk, ...] = field(repr=False)
    trouble: StreamError | None

    @property
    def overhead(self) -> int:
        """Bytes that are no coded digits."""
        return self.header + self.framing + self.extra + self.closing


def inspect(data: bytes, limits: Limits | None = None) -> StreamParts:
    """Measure a stream without decoding it. Raises for trouble in the header; later trouble is in the result."""
    fields = FieldReader(data)
    head = read_head(fields)
    check_limits(head.header.info, limits or Limits())
    walk = ChunkWalk(fields, head.crc, head.header.info.group_count)
    chunks = tuple(walk)
    return measure(head, chunks, sum(len(chunk.payload) for chunk in chunks), walk, len(data))


def inspect_file(file: BinaryIO) -> StreamParts:
    """As `inspect`, of a stream in a file that can be searched, of any length: without the chunks' payloads."""
    data = FileBytes(file)
    fields = FieldReader(data)
    head = read_head(fields)
    walk = ChunkWalk(fields, head.crc, head.header.info.group_count)
    chunks: list[Chunk] = []
    payload = 0
    for chunk in walk:
        payload += len(chunk.payload)
        chunks.append(replace(chunk, payload=b""))
    return measure(head, tuple(chunks), payload, walk, len(data))


def holds_video(file: BinaryIO) -> bool:
    """Whether a file that can be searched is a stream of a video; left at its beginning."""
    try:
        return read_head(FieldReader(FileBytes(file))).header.info.kind == "video"
    except StreamError:
        return False
    finally:
        file.seek(0)


def measure(head: Head, chunks: tuple[Chunk, ...], payload: int, walk: ChunkWalk, total: int) -> StreamParts:
    """What each part of a stream takes of its `total` bytes."""
    header = head.header
    return StreamParts(
        info=header.info,
        prior=header.prior,
        identity=header.identity,
        portable=header.portable,
        total=total,
        header=head.size,
        payload=payload,
        framing=sum(chunk.framed for chunk in chunks) - payload,
        extra=walk.extra,
        residual=sum(map(len, walk.residuals)),
        closing=0 if walk.digest is None else 1 + DIGEST_BYTES,
        raw_bits=header.info.grid.tokens * sum(map(digit_bits, header.info.coded_radices)),
        chunks=chunks,
        trouble=walk.trouble,
    )
