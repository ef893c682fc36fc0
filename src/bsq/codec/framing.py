"""How a chunk lies in a stream. What enters: its place and its payload's length. What leaves: blocks and checksums.

A chunk is checked after its first 128 bytes, again each time it is four times as long, and at its end: what was checked
of a stream that was cut or damaged can be used, at the price of a few bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

from bsq.codec.checksum import crc32c

CRC_BYTES = 4
DIGEST_BYTES = 8
FIRST_BLOCK, GROWTH = 128, 4  # bytes of payload before the first check; how many times as many before each next one
EXTRA, CONTROL = 2, 3  # kinds of chunks besides the two forms of digits
CLOSING_TAG = 0 << 2 | CONTROL
RESIDUAL = 1  # number of the extra chunk with what a picture lacks


class Form(Enum):
    """How the digits of a chunk are stored."""

    CODED = 0
    RAW = 1


class Place(NamedTuple):
    """A chunk's group of frames, and its number among the chunks of the group. Its checksums hold only there."""

    group: int
    number: int

    def following(self) -> tuple[Place, Place]:
        """Where the next chunk may belong."""
        return Place(self.group, self.number + 1), Place(self.group + 1, 0)


@dataclass(frozen=True)
class Chunk:
    """Digits of some steps of the conversation.

    steps    how many chunk numbers of the prior the chunk covers, at least 1
    payload  its bytes, or the beginning of them that is there
    group    the group of frames it belongs to
    length   bytes of the whole payload
    checked  how many bytes of `payload` a checksum vouches for; the others are right unless they, too, were changed
    framed   bytes in the stream with tag, length and checksums
    """

    form: Form
    steps: int
    payload: bytes
    group: int
    length: int
    checked: int
    framed: int


def blocks(length: int) -> Iterator[slice]:
    """The parts of a payload of so many bytes that are each followed by a checksum.

    At least one, perhaps empty; the last is at least half of the payload, so that small chunks have few.
    """
    ends, end = [0], FIRST_BLOCK
    while 2 * end < length:
        ends.append(end)
        end *= GROWTH
    for start, stop in pairwise([*ends, length]):
        yield slice(start, stop)


def first_crc(head_crc: int, place: Place, head: bytes) -> int:
    """The CRC before the first block: it continues the header's, so that a chunk is bound to its stream and place."""
    return crc32c(little_endian(place.group) + little_endian(place.number) + head, head_crc)


def little_endian(value: int) -> bytes:
    return value.to_bytes(CRC_BYTES, "little")
