"""CRC-32C against the values of RFC 3720 and the plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from bsq.codec.checksum import crc32c


def plain(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


@pytest.mark.parametrize("size", [1, 95, 96, 97, 511, 512, 513, 1024, 5000, 200_000])
def test_the_table_agrees_with_the_loop_and_parts_with_the_whole(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == plain(data)
    for cut in (0, 1, size // 3, size):
        assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)
