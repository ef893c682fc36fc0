"""Numbers in bytes. What enters: bytes or whole numbers. What leaves: the other, LEB128 varints and fixed runs.

A varint holds 0 … 2^63 − 1 in groups of 7 bits, lowest first, the top bit of a byte saying that another follows. The
shortest form is the only one allowed, so that a value has one spelling.
"""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol

from bsq.errors import DamagedStreamError, TruncatedStreamError

MAX_VARINT_BYTES = 9


def varint(value: int) -> bytes:
    """0 ≤ value < 2^63 as 1 to 9 bytes."""
    assert 0 <= value < 2**63, value
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_varint(value: int) -> bytes:
    """−2^62 ≤ value < 2^62 as the varint 2·value, or −2·value − 1 if it is negative."""
    return varint(2 * value if value >= 0 else -2 * value - 1)


class Bytes(Protocol):
    """Bytes in memory, or in a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, span: slice, /) -> bytes: ...


class FileBytes:
    """The bytes of a file that can be searched, read when they are asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, file.seek(0, os.SEEK_END)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice) -> bytes:
        start, stop, _ = span.indices(self._size)
        self._file.seek(start)
        return self._file.read(max(0, stop - start))


class FieldReader:
    """Reads fields one after another from a part of a stream; never reads past its end."""

    def __init__(self, data: Bytes, position: int = 0) -> None:
        self._data = data
        self.position = position

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self.position

    def take(self, count: int) -> bytes:
        """The next `count` bytes. Raises TruncatedStreamError."""
        if count > self.left:
            raise TruncatedStreamError(
                f"the stream ends at byte {len(self._data)}, at least {count - self.left} bytes early; it was cut short"
            )
        self.position += count
        return self._data[self.position - count : self.position]

    def peek(self, count: int) -> bytes:
        """The next `count` bytes, fewer where the stream ends, without reading them."""
        return self._data[self.position : self.position + count]

    def since(self, start: int) -> bytes:
        """The bytes from `start` to here."""
        return self._data[start : self.position]

    def move(self, position: int) -> None:
        """Go on at `position`, or at the end where that lies behind it."""
        self.position = min(position, len(self._data))

    def varint(self) -> int:
        """The next varint. Raises TruncatedStreamError, DamagedStreamError."""
        value = 0
        for place in range(MAX_VARINT_BYTES):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                if not byte and place:
                    break
                return value
        raise DamagedStreamError(f"no number can be read at byte {self.position - 1}")

    def signed_varint(self) -> int:
        """Mirror of `signed_varint`. Raises as `varint`."""
        value = self.varint()
        return -(value + 1) // 2 if value & 1 else value // 2
