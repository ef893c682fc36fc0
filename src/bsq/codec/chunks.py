"""Chunks. What enters: questions and answers, or a chunk's payload. What leaves: the other.

The steps of a prior are gathered into stream chunks, each about as long as all before it: quality grows evenly with the
logarithm of the bytes kept, and the framing stays a few dozen bytes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bsq.codec.coder import DigitDecoder, DigitEncoder
from bsq.codec.container import Chunk, ContainerWriter, Form
from bsq.codes import digit_bits, from_bits, to_bits
from bsq.errors import DamagedStreamError
from bsq.prior.base import Question

SMALLEST_CHUNKS = 512, 2048  # bytes of the first chunk: a small stream has few chunks, a large one an early first
FIRST_SHARE = 24  # of the digits uncoded, between those two
LARGEST_CHUNK = 1 << 16  # a large stream loses little to a cut


class ChunkBuilder:
    """Collects one conversation into chunks of a writer. Chunks end only between steps of the prior."""

    def __init__(self, writer: ContainerWriter, raw_bytes: int) -> None:
        """`raw_bytes`: what the conversation's digits take uncoded."""
        low, high = SMALLEST_CHUNKS
        self._smallest = min(max(low, raw_bytes // FIRST_SHARE), high)
        self._writer = writer
        self._written = 0
        self._first = 0  # the prior's first step in the chunk being built
        self._last = 0
        self._reset()

    def add(self, question: Question, answer: np.ndarray, radix: int) -> None:
        """Take in the answer (n,) to a question."""
        if question.chunk < self._last:
            raise ValueError(f"a prior's chunk numbers must not decrease: {question.chunk} after {self._last}")
        if question.chunk > self._last and self._coder.size >= self._target():
            self._end(question.chunk)
        self._last = question.chunk
        self._coder.encode(answer, question.frequencies)
        self._bits.append(to_bits(answer, digit_bits(radix)))

    def close(self) -> None:
        """Write what is left, at the end of the conversation."""
        self._end(self._last + 1)

    def _target(self) -> int:
        return min(max(self._smallest, self._written), LARGEST_CHUNK)

    def _end(self, following: int) -> None:
        coded, raw = self._coder.finish(), np.packbits(np.concatenate(self._bits)).tobytes()
        form, payload = (Form.CODED, coded) if len(coded) < len(raw) else (Form.RAW, raw)
        self._writer.add(Chunk(form, following - self._first, payload))
        self._written += len(payload)
        self._first = following
        self._reset()

    def _reset(self) -> None:
        self._coder = DigitEncoder()
        self._bits: list[np.ndarray] = []


class ChunkReader(Protocol):
    """Gives the digits of a chunk, question by question."""

    def read(self, question: Question, radix: int) -> np.ndarray:
        """The digits (n,) int64. Raises DamagedStreamError."""
        ...

    def close(self) -> None:
        """Raises DamagedStreamError if something is left."""
        ...


def open_chunk(chunk: Chunk) -> ChunkReader:
    """A reader for the chunk's form."""
    match chunk.form:
        case Form.CODED:
            return CodedChunkReader(chunk.payload)
        case Form.RAW:
            return RawChunkReader(chunk.payload)
        case _:
            raise AssertionError(chunk.form)


class CodedChunkReader:
    """Digits from the entropy coder. Whether all of the payload was used is for the closing digest to say."""

    def __init__(self, payload: bytes) -> None:
        self._coder = DigitDecoder(payload)

    def read(self, question: Question, radix: int) -> np.ndarray:
        return self._coder.decode(question.frequencies)

    def close(self) -> None:
        pass


class RawChunkReader:
    """Digits as plain bits, ceil(log2 radix) each, the last byte filled up with zeros."""

    def __init__(self, payload: bytes) -> None:
        self._octets = np.frombuffer(payload, np.uint8)
        self._position = 0  # in bits

    def read(self, question: Question, radix: int) -> np.ndarray:
        width, count = digit_bits(radix), len(question.tokens)
        start, self._position = self._position, self._position + count * width
        if self._position > 8 * len(self._octets):
            raise DamagedStreamError("a raw chunk is too short for its digits")
        bits = np.unpackbits(self._octets[start // 8 : (self._position + 7) // 8])
        digits = from_bits(bits[start % 8 : start % 8 + count * width], width).astype(np.int64)
        if count and digits.max() >= radix:
            raise DamagedStreamError(f"a raw digit is not below its radix {radix}")
        return digits

    def close(self) -> None:
        used, bits_of_last = (self._position + 7) // 8, self._position % 8 or 8
        if used != len(self._octets) or (used and int(self._octets[-1]) & 0xFF >> bits_of_last):
            raise DamagedStreamError("a raw chunk is too long for its digits")
