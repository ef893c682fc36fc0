"""CRC-32C (Castagnoli, reflected polynomial 0x82F63B78). What enters: bytes. What leaves: a 32-bit integer.

The CRC of a long message is the exclusive-or of what each byte contributes from its place, so that blocks are gathered
from one table and folded together: no C library is needed for some hundred megabytes a second.
"""

from __future__ import annotations

from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78
_BLOCK = 512
_SHORT = 96  # bytes below which the plain loop is the faster


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C of `data`; `crc` is that of the bytes before it (crc32c(a + b) == crc32c(b, crc32c(a)))."""
    state = crc ^ 0xFFFFFFFF
    if len(data) >= _SHORT:
        whole = len(data) - len(data) % _BLOCK
        if whole:
            state = _fold_blocks(data[:whole], state)
            data = data[whole:]
    table = _byte_table()
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def _fold_blocks(data: bytes, state: int) -> int:
    blocks = np.frombuffer(data, np.uint8).reshape(-1, _BLOCK)
    places, shifts = _place_table(), _shift_tables()
    low, second, third, high = shifts
    for start in range(0, len(blocks), 256):  # 256 blocks at once: the gather stays in the cache
        part = blocks[start : start + 256]
        remainders = np.bitwise_xor.reduce(places[np.arange(_BLOCK), part], axis=1)
        for remainder in remainders.tolist():
            shifted = low[state & 255] ^ second[state >> 8 & 255] ^ third[state >> 16 & 255] ^ high[state >> 24]
            state = shifted ^ remainder
    return state


@cache
def _byte_table() -> list[int]:
    """What one byte, entered last, leaves in the register."""
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


@cache
def _place_table() -> np.ndarray:
    """(_BLOCK, 256) uint32: what a byte at each place of a block leaves in the register after the block."""
    step = np.array(_byte_table(), np.uint32)
    places = np.empty((_BLOCK, 256), np.uint32)
    places[-1] = step
    for place in range(_BLOCK - 2, -1, -1):
        places[place] = step[places[place + 1] & 0xFF] ^ (places[place + 1] >> np.uint32(8))
    return places


@cache
def _shift_tables() -> tuple[list[int], ...]:
    """What each of the register's four bytes becomes after a block of zeros: it acts as a byte of the block's head."""
    places = _place_table()
    return tuple(places[byte].tolist() for byte in range(4))
