"""The entropy coder: exact, dense, the same words on every machine."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bsq.codec.coder import DigitDecoder, DigitEncoder, weights
from bsq.errors import DamagedStreamError
from bsq.prior.uniform import uniform_frequencies


def encode(digits: list[int] | np.ndarray, frequencies: np.ndarray) -> bytes:
    encoder = DigitEncoder()
    encoder.encode(np.asarray(digits), frequencies)
    return encoder.finish()


def reference_decode(data: bytes, rows: np.ndarray) -> list[int]:
    """The decoder of docs/format.md in whole numbers of any size: what a stranger would write."""
    point = int.from_bytes(data[:8].ljust(8, b"\0"), "big")
    position, low, width, digits = 8, 0, 2**64 - 1, []
    for row in rows.tolist():
        unit = width >> 24
        target = ((point - low) % 2**64) // unit
        ends = np.cumsum(row).tolist()
        digit = next(digit for digit, end in enumerate(ends) if target < end << 8)
        frequency = row[digit]
        start = ends[digit] - frequency
        low = (low + unit * (start << 8)) % 2**64
        width = unit * (frequency << 8)
        if width < 2**32:
            low, width = low << 32 & 2**64 - 1, width << 32
            word = int.from_bytes(data[position : position + 4].ljust(4, b"\0"), "big")
            point, position = (point << 32 | word) & 2**64 - 1, position + 4
        digits.append(digit)
    return digits


def as_rows(frequencies: np.ndarray) -> np.ndarray:
    ones = frequencies.astype(np.int64)
    return np.stack((2**16 - ones, ones), 1) if ones.ndim == 1 else ones


edges = st.one_of(st.integers(1, 65535), st.sampled_from([1, 2, 32767, 32768, 65534, 65535]))


@given(st.lists(st.tuples(edges, st.integers(0, 1)), max_size=300))
def test_binary_digits_come_back_and_agree_with_the_reference(pairs: list[tuple[int, int]]) -> None:
    frequencies = np.array([frequency for frequency, _ in pairs], np.uint16)
    digits = [digit for _, digit in pairs]
    data = encode(digits, frequencies)
    assert DigitDecoder(data).decode(frequencies).tolist() == digits
    assert reference_decode(data, as_rows(frequencies)) == digits


@given(st.data())
def test_digits_of_any_radix_come_back_and_agree_with_the_reference(data: st.DataObject) -> None:
    radix = data.draw(st.integers(3, 40))
    cuts = st.lists(st.integers(1, 65535), min_size=radix - 1, max_size=radix - 1, unique=True)
    drawn = data.draw(st.lists(st.tuples(cuts, st.integers(0, radix - 1)), min_size=1, max_size=40))
    rows = np.array([[b - a for a, b in pairwise([0, *sorted(cut), 65536])] for cut, _ in drawn], np.uint32)
    digits = [digit for _, digit in drawn]
    coded = encode(digits, rows)
    assert DigitDecoder(coded).decode(rows).tolist() == digits
    assert reference_decode(coded, rows) == digits


@given(st.lists(st.tuples(edges, st.booleans()), min_size=1, max_size=200))
def test_at_most_a_byte_and_a_half_over_the_ideal_length(pairs: list[tuple[int, bool]]) -> None:
    frequencies = np.array([frequency for frequency, _ in pairs], np.uint16)
    likely = np.array([(frequency > 32768) == honest for frequency, honest in pairs])
    share = np.where(likely, frequencies, 65536 - frequencies.astype(np.int64)) / 65536
    assert len(encode(likely.astype(np.int64), frequencies)) <= -np.log2(share).sum() / 8 + 1.5


def test_every_frequency_maps_exactly() -> None:
    frequencies = np.arange(1, 65536, dtype=np.uint16)
    rows = weights(frequencies)
    assert rows.dtype == np.float32
    assert np.array_equal(rows[:, 1].astype(np.int64), frequencies.astype(np.int64) * 256 - 1)
    assert (rows.astype(np.float64).sum(1) == 2**24 - 2).all()
    assert (rows.sum(1) == 2**24 - 2).all()
    some = np.concatenate([frequencies[:500], frequencies[500:-500:13], frequencies[-500:]])  # the reference is slow
    for digits in (np.zeros(len(some), np.int64), np.ones(len(some), np.int64)):
        data = encode(digits, some)
        assert reference_decode(data, as_rows(some)) == digits.tolist()


def test_golden_words() -> None:
    """Bytes of this coder, fixed: another version of the library that gave others would lose files."""
    frequencies = np.array([1, 65535, 32768, 100, 40000, 20000, 60000, 3] * 3, np.uint16)
    digits = [0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert encode(digits, frequencies).hex() == "6a02bb3f2f77c5ae2873505277"
    rows = np.array([[1, 2, 65533], [30000, 30000, 5536], [65534, 1, 1]], np.uint32)
    assert encode([1, 2, 2], rows).hex() == "0002ffffd3"
    assert encode([0, 3, 6, 2, 2, 1, 4], uniform_frequencies(7, 7)).hex() == "14669c"


@pytest.mark.parametrize("radix", [2, 3, 7, 256, 1000, 65536])
def test_a_broadcast_row_codes_as_its_copies(radix: int) -> None:
    rng = np.random.default_rng(radix)
    frequencies, digits = uniform_frequencies(50, radix), rng.integers(0, radix, 50)
    data = encode(digits, frequencies)
    assert data == encode(digits, np.ascontiguousarray(frequencies))
    assert np.array_equal(DigitDecoder(data).decode(frequencies), digits)
    assert np.array_equal(DigitDecoder(data).decode(np.ascontiguousarray(frequencies)), digits)


@example(b"\xff" * 8, 10, 2)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(2, 9))
def test_any_bytes_decode_to_digits_or_are_damaged(data: bytes, count: int, radix: int) -> None:
    try:
        digits = DigitDecoder(data).decode(uniform_frequencies(count, radix))
    except DamagedStreamError:
        return
    assert len(digits) == count
    assert not count or (digits.min() >= 0 and digits.max() < radix)


def test_a_split_conversation_is_one_stream() -> None:
    rng = np.random.default_rng(0)
    frequencies = rng.integers(1, 65536, 1000).astype(np.uint16)
    digits = (rng.integers(0, 65536, 1000) < frequencies).astype(np.int64)
    encoder = DigitEncoder()
    for start in range(0, 1000, 77):
        encoder.encode(digits[start : start + 77], frequencies[start : start + 77])
    data = encoder.finish()
    assert data == encode(digits, frequencies)
    assert encoder.size >= len(data)
    decoder = DigitDecoder(data)
    parts = [decoder.decode(frequencies[start : start + 91]) for start in range(0, 1000, 91)]
    assert np.array_equal(np.concatenate(parts), digits)


def test_nothing_takes_no_bytes() -> None:
    assert encode([], np.zeros(0, np.uint16)) == b""
    assert DigitDecoder(b"").decode(np.zeros(0, np.uint16)).tolist() == []


@pytest.mark.parametrize(
    ("digits", "frequencies"),
    [
        ([0, 1], np.array([1], np.uint16)),
        ([0], np.array([0], np.uint16)),
        ([0], np.array([65536], np.uint32)),
        ([0], np.array([0.5])),
        ([0], np.array([np.nan])),
        ([2], np.array([5], np.uint16)),
        ([-1], np.array([5], np.uint16)),
        ([0], np.array([[1, 2, 3]], np.uint32)),
        ([0], np.array([[0, 65535, 1]], np.uint32)),
        ([3], np.array([[1, 65534, 1]], np.uint32)),
    ],
)
def test_invalid_frequencies_and_digits_are_refused(digits: list[int], frequencies: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"frequencies|digit"):
        encode(digits, frequencies)
