"""Coded video without wrapping. What enters: packets of an encoder. What leaves: the bytes its decoder must know.

Of H.264 and H.265 the supplemental messages go (x264 writes 700 bytes of its settings into the first picture), of AV1
the delimiters between pictures. Parameter sets and sequence headers stay: without them nothing can be decoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from bsq.errors import MediaError

START = re.compile(rb"\x00?\x00\x00\x01")
AVC_SEI, HEVC_SEI = (6,), (39, 40)
AV1_DELIMITER = 2


@dataclass(frozen=True)
class VideoStream:
    """What an encoder wrote for a clip, one piece for each of its packets, in the order of decoding.

    Which bytes belong to which packet is what a container tells, and costs nothing here; ours is one piece and needs
    no container.
    """

    packets: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """The bytes that count."""
        return sum(map(len, self.packets))


def without_avc_messages(packet: bytes) -> bytes:
    return _without_units(packet, lambda unit: unit[0] & 31 in AVC_SEI)


def without_hevc_messages(packet: bytes) -> bytes:
    return _without_units(packet, lambda unit: unit[0] >> 1 & 63 in HEVC_SEI)


def without_av1_delimiters(packet: bytes) -> bytes:
    """Open bitstream units, each with its size, but for the delimiters. Raises MediaError for other bytes."""
    kept, place = b"", 0
    while place < len(packet):
        head = packet[place]
        if not head & 2:
            raise MediaError("an AV1 packet holds a unit without its size")
        start = place + 1 + (head >> 2 & 1)
        size, start = _leb128(packet, start)
        if start + size > len(packet):
            raise MediaError("an AV1 packet breaks off inside a unit")
        if head >> 3 & 15 != AV1_DELIMITER:
            kept += packet[place : start + size]
        place = start + size
    return kept


def _without_units(packet: bytes, unwanted: Callable[[bytes], bool]) -> bytes:
    """Annex B: units behind start codes. Raises MediaError for a packet of another form."""
    starts = list(START.finditer(packet))
    if not starts or starts[0].start() != 0:
        raise MediaError("a packet does not begin with a start code (Annex B)")
    ends = [match.start() for match in starts[1:]] + [len(packet)]
    units = [(packet[m.start() : end], packet[m.end() : end]) for m, end in zip(starts, ends, strict=True)]
    return b"".join(whole for whole, unit in units if unit and not unwanted(unit))


def _leb128(data: bytes, place: int) -> tuple[int, int]:
    """A number and the place behind it."""
    value = 0
    for step in range(8):
        if place + step >= len(data):
            break
        value |= (data[place + step] & 127) << 7 * step
        if not data[place + step] & 128:
            return value, place + step + 1
    raise MediaError("an AV1 packet breaks off inside a number")
