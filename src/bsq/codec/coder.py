"""The entropy coder. What enters: digits and integer frequencies. What leaves: bytes; and back.

The coder is constriction's range coder (32-bit words, 64-bit state, 24-bit probabilities). Frequencies here are
integers out of 2^16; the coder's intervals are exactly 2^8 times them on every machine:

constriction takes weights w as floats, and gives digit k the cumulative ⌊c·s⌋ + k of 2^24, with c = Σ_{j<k} w_j and
s = (2^24 − K) / Σ w. We hand it the whole numbers w_k = 2^8·f_k − 1. They and all their partial sums are whole, not
negative and below 2^24, so float32 holds them and adds them without rounding in any order; their total is 2^24 − K,
so s = 1, and the cumulative is Σ_{j<k} (2^8·f_j − 1) + k = 2^8·Σ_{j<k} f_j. No float is ever rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import constriction
import numpy as np

from bsq.errors import DamagedStreamError
from bsq.prior.base import TOTAL_FREQUENCY, is_one_row

WORD_BYTES = 4
BLOCK_WEIGHTS = 1 << 17  # weights handed over at once: they stay in the cache, and wide alphabets in bounded memory

_queue = constriction.stream.queue
_ANY = constriction.stream.model.Categorical(perfect=False)


class DigitEncoder:
    """Digits to bytes, in the order given. One encoder makes one chunk."""

    def __init__(self) -> None:
        self._coder = _queue.RangeEncoder()

    @property
    def size(self) -> int:
        """Bytes that `finish` would give now, at most."""
        return WORD_BYTES * int(self._coder.num_words())

    def encode(self, digits: np.ndarray, frequencies: np.ndarray) -> None:
        """Digits (n,) integers with their frequencies, (n,) or (n, K) as `Question` states them. ValueError unless they
        are valid."""
        check_frequencies(frequencies, len(digits))
        digits = np.ascontiguousarray(digits, dtype=np.int32)
        if len(digits) and not (digits.min() >= 0 and digits.max() < radix_of(frequencies)):
            raise ValueError(f"a digit is negative or not below its radix {radix_of(frequencies)}")
        if is_one_row(frequencies):
            self._coder.encode(digits, one_model(frequencies))
            return
        for part in blocks(frequencies):
            self._coder.encode(digits[part], _ANY, weights(frequencies[part]))

    def finish(self) -> bytes:
        """The shortest bytes that, followed by zeros without end, decode to the digits."""
        words = self._coder.get_compressed()
        if not len(words):
            return b""
        position, (lower, width) = self._coder.pos()
        return shortest_inside(words.astype(">u4").tobytes(), int(position), int(lower), int(width))


class DigitDecoder:
    """Mirror of `DigitEncoder`: bytes to digits. Bytes no encoder wrote give any digits or DamagedStreamError."""

    def __init__(self, data: bytes) -> None:
        padded = data + bytes(-len(data) % WORD_BYTES)
        self._coder = _queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))

    def copy(self) -> DigitDecoder:
        """Another one that goes on from here."""
        other = DigitDecoder.__new__(DigitDecoder)
        other._coder = self._coder.clone()
        return other

    def decode(self, frequencies: np.ndarray) -> np.ndarray:
        """Digits (n,) int64 for frequencies (n,) or (n, K). ValueError unless the frequencies are valid."""
        check_frequencies(frequencies, len(frequencies))
        try:
            if is_one_row(frequencies):
                return self._coder.decode(one_model(frequencies), len(frequencies)).astype(np.int64)
            digits = np.empty(len(frequencies), np.int64)
            for part in blocks(frequencies):
                digits[part] = self._coder.decode(_ANY, weights(frequencies[part]))
        except AssertionError as error:  # constriction's word for a point outside all intervals
            raise DamagedStreamError("a chunk holds bytes that no encoder wrote") from error
        return digits


class CutDecoder:
    """Decodes the beginning of a chunk, as far as every continuation of it would give the same digits.

    Digits grow with the number that the bytes are, digit by digit from the first; so those on which the smallest
    continuation (zeros) and the largest (ones) agree are certain. The largest is given some windows of the coder more:
    by then the two have parted.
    """

    def __init__(self, data: bytes) -> None:
        self._least, self._most = DigitDecoder(data), DigitDecoder(data + b"\xff" * 32)

    def decode(self, frequencies: np.ndarray) -> np.ndarray:
        """The certain ones among the digits asked for, int64. Once they are fewer, nothing more can be decoded."""
        copies = self._least.copy(), self._most.copy()
        try:
            least, most = self._least.decode(frequencies), self._most.decode(frequencies)
        except DamagedStreamError:  # a continuation that no encoder writes; which digit it is at is not told
            return self._decode_singly(*copies, frequencies)
        return least[: _agreement(least, most)]

    def _decode_singly(self, least: DigitDecoder, most: DigitDecoder, frequencies: np.ndarray) -> np.ndarray:
        digits: list[np.ndarray] = [np.empty(0, np.int64)]
        for i in range(len(frequencies)):
            row = frequencies[i : i + 1]
            try:
                low, high = least.decode(row), most.decode(row)
            except DamagedStreamError:
                break
            if low[0] != high[0]:
                break
            digits.append(low)
        return np.concatenate(digits)


def _agreement(first: np.ndarray, second: np.ndarray) -> int:
    """How many entries are equal before the first that differs."""
    differs = np.flatnonzero(first != second)
    return int(differs[0]) if len(differs) else len(first)


def check_frequencies(frequencies: np.ndarray, count: int) -> None:
    """ValueError unless `frequencies` are as `Question` states them, for `count` digits."""
    if frequencies.dtype.kind not in "ui" or frequencies.ndim not in (1, 2) or len(frequencies) != count:
        raise ValueError(f"want {count} rows of integer frequencies, got {frequencies.dtype} {frequencies.shape}")
    if not count:
        return
    rows = frequencies[:1] if is_one_row(frequencies) else frequencies
    if rows.min() < 1 or rows.max() >= TOTAL_FREQUENCY:
        raise ValueError(f"frequencies must be in 1 … 65535, got {rows.min()} … {rows.max()}")
    if rows.ndim == 2 and (rows.sum(1, dtype=np.int64) != TOTAL_FREQUENCY).any():
        raise ValueError("frequencies of a digit must sum to 2^16")


def radix_of(frequencies: np.ndarray) -> int:
    """2 for (n,), K for (n, K)."""
    return 2 if frequencies.ndim == 1 else frequencies.shape[1]


def one_model(frequencies: np.ndarray) -> object:
    """The concrete model of a broadcast row."""
    return constriction.stream.model.Categorical(weights(frequencies[:1])[0], perfect=False)


def blocks(frequencies: np.ndarray) -> Iterator[slice]:
    """Runs of rows of at most BLOCK_WEIGHTS weights."""
    rows = max(1, BLOCK_WEIGHTS // radix_of(frequencies))
    for start in range(0, len(frequencies), rows):
        yield slice(start, start + rows)


def weights(frequencies: np.ndarray) -> np.ndarray:
    """Frequencies (n,) or (n, K) → float32 (n, K), whole numbers 2^8·f − 1; a row sums to 2^24 − K; see the top."""
    if frequencies.ndim == 1:
        return _binary_weights()[frequencies].view(np.float32).reshape(-1, 2)
    scaled = frequencies.astype(np.int32)
    scaled <<= 8
    scaled -= 1
    return scaled.astype(np.float32)


@cache
def _binary_weights() -> np.ndarray:
    """(2^16,) each pair of weights as one 8-byte item: one gather instead of arithmetic on two columns."""
    ones = np.arange(TOTAL_FREQUENCY, dtype=np.uint32)
    pairs = np.stack((TOTAL_FREQUENCY - ones, ones), axis=1).astype(np.int32) * 256 - 1
    return pairs.astype(np.float32).view(np.uint64).reshape(-1)


def shortest_inside(point: bytes, position: int, lower: int, width: int) -> bytes:
    """The shortest bytes whose value, as a fraction, lies in the coder's last interval.

    point     any bytes inside the interval, big endian: the coder's own choice, up to 7 bytes too long
    position  32-bit words before the coder's 64-bit window
    lower     start of the interval within the window, modulo 2^64: a carry may reach into the words before the window,
              and `point` has that carry already
    width     of the interval
    """
    bits = 32 * position + 64
    inside = int.from_bytes(point, "big") << (bits - 8 * len(point))
    start = inside - (inside - lower) % 2**64
    assert start <= inside < start + width
    for kept in range(32 * position, bits + 1, 8):
        unit = 1 << (bits - kept)
        value = -(-start // unit)
        if value * unit < start + width:
            return value.to_bytes(kept // 8, "big").rstrip(b"\0")
    raise AssertionError("an interval holds a multiple of 1")
