"""Chunks. What enters: questions and answers, or a chunk's payload. What leaves: the other.

A conversation is one chunk, or several of at least 64 KiB. A chunk need not be whole to be read: a reader gives the
digits that do not depend on what is missing.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bsq.codec.coder import CutDecoder, DigitDecoder, DigitEncoder
from bsq.codec.framing import Chunk, Form
from bsq.codes import digit_bits, from_bits, to_bits
from bsq.errors import DamagedStreamError
from bsq.prior.base import Question

ENOUGH = 1 << 16  # bytes; a chunk of so many ends with the step of the prior


class ChunkSink(Protocol):
    """What takes chunks in: a stream's writer, or whoever keeps them for one."""

    def begin_group(self) -> None:
        """What follows belongs to the next group of frames."""
        ...

    def add(self, form: Form, steps: int, payload: bytes) -> None:
        """A chunk that covers so many steps of the prior."""
        ...


class ChunkBuilder:
    """Collects one conversation into chunks of a writer. Chunks end only between steps of the prior."""

    def __init__(self, writer: ChunkSink) -> None:
        self._writer = writer
        self._first = 0  # the prior's first step in the chunk being built
        self._last = 0
        self._reset()
        writer.begin_group()

    def add(self, question: Question, answer: np.ndarray, radix: int) -> None:
        """Take in the answer (n,) to a question."""
        if question.chunk < self._last:
            raise ValueError(f"a prior's chunk numbers must not decrease: {question.chunk} after {self._last}")
        if question.chunk > self._last and self._coder.size >= ENOUGH:
            self._end(question.chunk)
        self._last = question.chunk
        self._coder.encode(answer, question.frequencies)
        self._bits.append(to_bits(answer, digit_bits(radix)))

    def close(self) -> None:
        """Write what is left, at the end of the conversation."""
        self._end(self._last + 1)

    def _end(self, following: int) -> None:
        coded, raw = self._coder.finish(), np.packbits(np.concatenate(self._bits)).tobytes()
        form, payload = (Form.CODED, coded) if len(coded) < len(raw) else (Form.RAW, raw)
        self._writer.add(form, following - self._first, payload)
        self._first = following
        self._reset()

    def _reset(self) -> None:
        self._coder = DigitEncoder()
        self._bits: list[np.ndarray] = []


class ChunkReader(Protocol):
    """Gives the digits of a chunk, question by question."""

    def read(self, question: Question, radix: int) -> np.ndarray:
        """The digits (n,) int64; fewer, the first ones, where a chunk that is not whole ends. Raises
        DamagedStreamError."""
        ...

    def close(self) -> None:
        """Raises DamagedStreamError if something is left."""
        ...


def open_chunk(chunk: Chunk) -> ChunkReader:
    """A reader for the chunk's form."""
    whole = len(chunk.payload) == chunk.length
    match chunk.form:
        case Form.CODED if whole:
            return CodedChunkReader(DigitDecoder(chunk.payload))
        case Form.CODED:
            return CodedChunkReader(CutDecoder(chunk.payload))
        case Form.RAW:
            return RawChunkReader(chunk.payload, whole)
        case _:
            raise AssertionError(chunk.form)


class CodedChunkReader:
    """Digits from the entropy coder. Whether all of the payload was used is for the closing digest to say."""

    def __init__(self, coder: DigitDecoder | CutDecoder) -> None:
        self._coder = coder

    def read(self, question: Question, radix: int) -> np.ndarray:
        return self._coder.decode(question.frequencies)

    def close(self) -> None:
        pass


class RawChunkReader:
    """Digits as plain bits, ceil(log2 radix) each, the last byte filled up with zeros."""

    def __init__(self, payload: bytes, whole: bool) -> None:
        self._octets, self._whole = np.frombuffer(payload, np.uint8), whole
        self._position = 0  # in bits

    def read(self, question: Question, radix: int) -> np.ndarray:
        """Digits (n,) of the tokens asked for; fewer where the stream breaks off. Raises DamagedStreamError."""
        width, count = digit_bits(radix), len(question.tokens)
        start, there = self._position, 8 * len(self._octets)
        if start + count * width > there:
            if self._whole:
                raise DamagedStreamError("a raw chunk is too short for its digits")
            count = (there - start) // width
        self._position += count * width
        bits = np.unpackbits(self._octets[start // 8 : (self._position + 7) // 8])
        digits = from_bits(bits[start % 8 : start % 8 + count * width], width).astype(np.int64)
        if count and digits.max() >= radix:
            raise DamagedStreamError(f"a raw digit is not below its radix {radix}")
        return digits

    def close(self) -> None:
        used, bits_of_last = (self._position + 7) // 8, self._position % 8 or 8
        if used != len(self._octets) or (used and int(self._octets[-1]) & 0xFF >> bits_of_last):
            raise DamagedStreamError("a raw chunk is too long for its digits")
