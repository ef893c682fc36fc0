"""What a stream is made of. What enters: its bytes. What leaves: the sizes of its parts, without decoding them."""

from __future__ import annotations

from dataclasses import dataclass, field

from bsq.codec.container import read_container
from bsq.codec.framing import DIGEST_BYTES, Chunk
from bsq.codec.header import Limits, StreamInfo
from bsq.codes import digit_bits
from bsq.errors import StreamError


@dataclass(frozen=True)
class StreamParts:
    """Sizes of a stream's parts, in bytes unless they say otherwise.

    header    with magic, version and checksum
    payload   of the chunks: the coded digits
    framing   tags, lengths and checksums of the chunks
    closing   end mark and digest
    raw_bits  what the digits would take uncoded
    """

    info: StreamInfo
    prior: str
    identity: bytes
    portable: bool
    total: int
    header: int
    payload: int
    framing: int
    closing: int
    raw_bits: int
    chunks: tuple[Chunk, ...] = field(repr=False)
    trouble: StreamError | None

    @property
    def overhead(self) -> int:
        """Bytes that are no coded digits."""
        return self.header + self.framing + self.closing


def inspect(data: bytes, limits: Limits | None = None) -> StreamParts:
    """Measure a stream without decoding it. Raises for trouble in the header; later trouble is in the result."""
    container = read_container(data, limits or Limits())
    header, chunks = container.header, container.chunks
    payload = sum(len(chunk.payload) for chunk in chunks)
    return StreamParts(
        info=header.info,
        prior=header.prior,
        identity=header.identity,
        portable=header.portable,
        total=len(data),
        header=container.header_bytes,
        payload=payload,
        framing=sum(chunk.framed for chunk in chunks) - payload,
        closing=0 if container.digest is None else 1 + DIGEST_BYTES,
        raw_bits=header.info.grid.tokens * sum(map(digit_bits, header.info.kept_radices)),
        chunks=chunks,
        trouble=container.trouble,
    )
