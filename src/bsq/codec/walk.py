"""From chunk to chunk. What enters: a stream behind its header. What leaves: chunks, the digest, the first trouble.

A stream that was cut or damaged gives what its checksums vouch for. A damaged chunk is stepped over by its length, for
the sake of the groups of frames after it, which do not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bsq.codec.checksum import crc32c
from bsq.codec.fields import FieldReader
from bsq.codec.framing import (
    CLOSING_TAG,
    CONTROL,
    CRC_BYTES,
    DIGEST_BYTES,
    EXTRA,
    RESIDUAL,
    Chunk,
    Form,
    Place,
    blocks,
    first_crc,
    little_endian,
)
from bsq.errors import DamagedStreamError, NewerVersionError, StreamError, TruncatedStreamError


@dataclass(frozen=True)
class Piece:
    """What can be read of a chunk; the fields are those of `Chunk`."""

    payload: bytes
    length: int
    checked: int
    framed: int


class ChunkWalk:
    """A walk over the chunks of one stream, one in memory at a time.

    trouble  the first one met so far; None if there is none
    digest   8 bytes, once the walk has come to them
    extra    bytes, with tags, lengths and checksums, of chunks that are no digits, whatever they hold
    residuals  what chunks of that number hold that are whole and come in the first group

    Groups before `first` are stepped over: only the first block of a chunk is checked, which vouches for its length.
    """

    def __init__(self, fields: FieldReader, head_crc: int, groups: int, first: int = 0) -> None:
        self.trouble: StreamError | None = None
        self.digest: bytes | None = None
        self.extra = 0
        self.residuals: list[bytes] = []
        self._fields, self._head_crc, self._groups, self._first = fields, head_crc, groups, first
        self._places: tuple[Place, ...] = (Place(0, 0),)  # where the next chunk may belong
        self._sound: Place | None = None  # the chunk before, if all of it is good: the next of its group can be used
        self._lost = False  # whether the chunk before was stepped over
        self._kept: Chunk | None = None

    def __iter__(self) -> Iterator[Chunk]:
        """Of each group the chunks up to its first trouble; the last of them may be a beginning only."""
        fields = self._fields
        try:
            while self._next_chunk():
                if self._kept is not None:
                    kept, self._kept = self._kept, None
                    yield kept
            digest = fields.take(DIGEST_BYTES)
            if fields.left:
                raise DamagedStreamError(f"{fields.left} bytes follow the end of the stream")
            self.digest = digest
        except StreamError as error:
            self._note(error)

    def _next_chunk(self) -> bool:
        """Take in one chunk; False at the end mark. Raises where no further chunk can be found."""
        fields = self._fields
        start = fields.position
        tag = fields.varint()
        if tag == CLOSING_TAG:
            return False
        length = fields.varint()
        head, spans = fields.since(start), list(blocks(length))
        end = fields.position + length + CRC_BYTES * len(spans)
        first = fields.take(spans[0].stop)
        place, crc = self._find_place(head, first)
        if place is None:
            self._step_over(start, end)
            return True
        if place.group < self._first:
            fields.move(end)
            self._places, self._lost = place.following(), False
            return True
        payload, checked = self._read_blocks(first, spans[1:], crc, end)
        self._places, self._lost = place.following(), False
        self._keep(place, tag, Piece(payload, length, checked, fields.position - start))
        return True

    def _find_place(self, head: bytes, first: bytes) -> tuple[Place | None, int]:
        """The place for which the first block's checksum holds, and the CRC so far."""
        stored = self._fields.take(CRC_BYTES)
        for place in self._places:
            if place.group < self._groups:
                crc = crc32c(first, first_crc(self._head_crc, place, head))
                if stored == little_endian(crc):
                    return place, crc
        return None, 0

    def _step_over(self, start: int, end: int) -> None:
        """Go on behind a chunk whose head cannot be trusted, if what it says leads to a chunk that can be."""
        error = damage(start)
        self._note(error)
        if self._lost:
            raise error
        self._sound, self._lost = None, True
        self._places = tuple({after: None for place in self._places for after in place.following()})
        self._fields.take(end - self._fields.position)

    def _read_blocks(self, payload: bytes, spans: list[slice], crc: int, end: int) -> tuple[bytes, int]:
        """The payload as far as it can be read, and how many bytes of it are checked. Leaves the chunk behind."""
        fields = self._fields
        for span in spans:
            start, size = fields.position, span.stop - span.start
            try:
                block, stored = fields.take(size), fields.take(CRC_BYTES)
            except TruncatedStreamError as error:
                self._note(error)
                fields.move(start + size)
                return payload + fields.since(start), len(payload)
            crc = crc32c(block, crc)
            if stored != little_endian(crc):
                self._note(damage(start))
                fields.move(end)
                break
            payload += block
        return payload, len(payload)

    def _keep(self, place: Place, tag: int, piece: Piece) -> None:
        """Keep what can be used: all before it in its group must be good."""
        number, kind = tag >> 2, tag & 3
        if kind == CONTROL:
            raise NewerVersionError(
                f"the stream uses chunk kind {number}, unknown to this version of bsq; upgrade to read it"
            )
        if kind != EXTRA and not number:
            raise DamagedStreamError("a chunk covers no step")
        usable = place.number == 0 or self._sound == Place(place.group, place.number - 1)
        self._sound = place if usable and piece.checked == piece.length else None
        if kind == EXTRA:
            self.extra += piece.framed
            if self._sound is not None and number == RESIDUAL and place.group == 0:
                self.residuals.append(piece.payload)
        elif usable:
            form = Form(kind)
            self._kept = Chunk(form, number, piece.payload, place.group, piece.length, piece.checked, piece.framed)

    def _note(self, error: StreamError) -> None:
        self.trouble = self.trouble or error


def damage(position: int) -> DamagedStreamError:
    return DamagedStreamError(f"a checksum behind byte {position} does not hold; the stream was changed")
