"""docs/format.md is enough: a decoder written from that page alone, with nothing of `bsq` in it, reads our streams."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import describe, likely_codes

from bsq.codec.framing import Form
from bsq.codec.measure import inspect
from bsq.codec.stream import write_codes
from bsq.prior.uniform import UniformPrior

PAGE = Path(__file__).parents[2] / "docs" / "format.md"


def crc32c(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


class Stranger:
    """Reads a stream of the uniform prior: §§ 1 to 6 of the page."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        assert self.take(8).hex() == "8f6273710d0a1a0a"
        assert self.take(2) == b"\2\0"
        end = self.varint() + self.at
        self.read_header(end)
        self.signed = data[: self.at]
        assert self.take(4) == crc32c(self.signed).to_bytes(4, "little")
        self.codes: list[list[int]] = []
        hashes = b""
        for number, start in enumerate(range(0, self.frames, self.group)):
            frames = min(self.group, self.frames - start)
            group = self.read_group(frames * self.h * self.w, number)
            hashes += self.hash(group, frames)
            self.codes += group
        assert self.take(1) == b"\3"
        assert self.take(8) == hashlib.sha256(hashes).digest()[:8]
        assert self.at == len(data)

    def take(self, count: int) -> bytes:
        self.at += count
        assert self.at <= len(self.data)
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        value, place = 0, 0
        while True:
            byte = self.take(1)[0]
            value, place = value + ((byte & 127) << place), place + 7
            if byte < 128:
                return value

    def read_header(self, end: int) -> None:
        flags = self.take(1)[0]
        height, width, patch = self.varint(), self.varint(), self.varint()
        least = (self.varint(), self.varint()) if flags & 16 else (1, 1)
        self.h, self.w = max(-(-height // patch), least[0]), max(-(-width // patch), least[1])
        self.frames = self.varint() if flags & 1 else 1
        self.rate = (self.varint(), self.varint()) if flags & 1 else None
        self.group = self.varint() if flags & 32 else self.frames
        digits, self.kept = self.varint(), self.varint()
        self.radices: list[int] = [2] * digits if flags & 4 else []
        while len(self.radices) < digits:
            count, radix = self.varint(), self.varint()
            self.radices += [radix] * count
        self.radices = self.radices[: self.kept]
        self.take(8)
        self.name = self.take(self.varint()).decode() if flags & 8 else ""
        assert self.varint() == 0
        assert self.at == end

    def read_group(self, tokens: int, group: int) -> list[list[int]]:
        columns: list[list[int]] = []
        number = 0
        while len(columns) < self.kept:
            start = self.at
            tag, length = self.varint(), self.varint()
            signed = self.signed + group.to_bytes(4, "little") + number.to_bytes(4, "little")
            payload = self.read_payload(signed + self.data[start : self.at], length)
            steps = self.radices[len(columns) : len(columns) + tag // 4]
            read = {0: self.read_coded, 1: self.read_raw}[tag % 4]
            columns += read(payload, steps, tokens)
            number += 1
        return [list(row) for row in zip(*columns, strict=True)]

    def read_payload(self, signed: bytes, length: int) -> bytes:
        payload, end = b"", 128
        while True:
            last = 2 * end >= length
            block = self.take((length if last else end) - len(payload))
            payload, signed, end = payload + block, signed + block, 4 * end
            assert self.take(4) == crc32c(signed).to_bytes(4, "little")
            if last:
                return payload

    def read_raw(self, payload: bytes, steps: list[int], tokens: int) -> list[list[int]]:
        bits, columns = "".join(f"{byte:08b}" for byte in payload), []
        for radix in steps:
            size = (radix - 1).bit_length()
            columns.append([int(bits[i * size : (i + 1) * size], 2) for i in range(tokens)])
            bits = bits[tokens * size :]
        assert len(bits) < 8
        assert "1" not in bits
        return columns

    def read_coded(self, payload: bytes, steps: list[int], tokens: int) -> list[list[int]]:
        payload += bytes(12 + 4 * tokens * len(steps))
        low, width, point, at, columns = 0, 2**64 - 1, int.from_bytes(payload[:8], "big"), 8, []
        for radix in steps:
            share, rest = divmod(2**16, radix)
            column = []
            for _ in range(tokens):
                unit = width >> 24
                target = (point - low) % 2**64 // unit >> 8
                digit = target // (share + 1)
                if digit >= rest:
                    digit = rest + (target - rest * (share + 1)) // share
                start = digit * share + min(digit, rest)
                low = (low + unit * (start << 8)) % 2**64
                width = unit * ((share + (digit < rest)) << 8)
                if width < 2**32:
                    low, width = (low << 32) % 2**64, width << 32
                    point = (point << 32) % 2**64 + int.from_bytes(payload[at : at + 4], "big")
                    at += 4
                column.append(digit)
            columns.append(column)
        return columns

    def hash(self, group: list[list[int]], frames: int) -> bytes:
        sizes = [1, frames, self.h, self.w, self.kept]
        head = ",".join(map(str, sizes)) + ";" + ",".join(map(str, self.radices)) + ";"
        pairs = [
            (digit, (radix - 1).bit_length()) for row in group for digit, radix in zip(row, self.radices, strict=True)
        ]
        bits = "".join(f"{digit:0{size}b}" for digit, size in pairs)
        bits += "0" * (-len(bits) % 8)
        return hashlib.sha256(head.encode() + int(bits, 2).to_bytes(len(bits) // 8, "big")).digest()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 300) | st.just(2), min_size=1, max_size=9).map(tuple), st.data())
def test_a_stranger_reads_our_streams(radices: tuple[int, ...], data: st.DataObject) -> None:
    sizes = {name: data.draw(st.integers(1, 50)) for name in ("height", "width")}
    frames = data.draw(st.integers(1, 4))
    video = {"frames": frames, "frame_rate": data.draw(st.fractions(1, 60, max_denominator=9))} if frames > 1 else {}
    if frames > 1 and data.draw(st.booleans()):
        video["frames_per_group"] = data.draw(st.integers(1, frames - 1))
    info = describe(
        radices,
        kept=data.draw(st.integers(1, len(radices))),
        tokenizer=data.draw(st.sampled_from(["", "x"])),
        **sizes,
        **video,
    )
    codes = likely_codes(info, data.draw(st.integers(0, 9)))
    stranger = Stranger(write_codes(codes, info, UniformPrior()))
    assert stranger.codes == codes.digits.reshape(-1, codes.length).tolist()
    assert stranger.name == info.tokenizer


@pytest.mark.parametrize(("radices", "form"), [((2,) * 40, Form.RAW), ((5,) * 20, Form.CODED)])
def test_a_stranger_reads_streams_of_several_chunks(
    radices: tuple[int, ...], form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bsq.codec.chunks.ENOUGH", 1 << 12)
    info = describe(radices, height=320, width=256)
    codes = likely_codes(info)
    data = write_codes(codes, info, UniformPrior())
    parts = inspect(data)
    assert len(parts.chunks) > 1
    assert {chunk.form for chunk in parts.chunks} == {form}
    assert Stranger(data).codes == codes.digits.reshape(-1, codes.length).tolist()


def test_the_example_of_the_page_is_a_stream() -> None:
    lines = re.findall(r"^0000[0-9a-f]{4}  ([0-9a-f ]+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    data = bytes.fromhex("".join(lines))
    info = describe((2,) * 12, height=20, width=30, kept=9)
    stranger = Stranger(data)
    codes = torch.tensor(stranger.codes)
    assert codes.tolist() == [[(7 * token + digit * digit) // 3 % 2 for digit in range(9)] for token in range(12)]
    assert inspect(data).info == info
    assert len(data) == 59
