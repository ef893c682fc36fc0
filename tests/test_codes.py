"""Codes: exact at every length and radix, and strict about what they take."""

from __future__ import annotations

import hashlib
import math
import re
import tokenize
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bsq.codes
from bsq.codes import Codes, check_radices, digit_bits, from_bits, to_bits
from bsq.errors import CodesError

radix_lists = st.one_of(
    st.integers(1, 1024).map(lambda length: (2,) * length),
    st.lists(st.integers(2, 300), min_size=1, max_size=40).map(tuple),
    st.lists(st.sampled_from([2, 3, 255, 256, 257, 65536, 65537, 2**31 - 1]), min_size=1, max_size=12).map(tuple),
)
grids = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5))


def random_codes(shape: tuple[int, ...], radices: tuple[int, ...], seed: int = 0) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(0, radix, shape, generator=generator) for radix in radices]
    return Codes(torch.stack(columns, -1), radices)


def whole_pack(codes: Codes) -> bytes:
    """`pack` by one Python integer of any size."""
    value, bits = 0, 0
    for row in codes.digits.reshape(-1, codes.length).tolist():
        for digit, radix in zip(row, codes.radices, strict=True):
            value, bits = value << digit_bits(radix) | digit, bits + digit_bits(radix)
    filling = -bits % 8
    return (value << filling).to_bytes((bits + filling) // 8, "big")


@settings(deadline=None)
@given(grids, radix_lists, st.integers(0, 1000))
def test_pack_is_the_digits_as_one_number_and_unpack_its_mirror(
    shape: tuple[int, ...], radices: tuple[int, ...], seed: int
) -> None:
    codes = random_codes(shape, radices, seed)
    data = codes.pack()
    assert data == whole_pack(codes)
    again = Codes.unpack(data, shape, radices)
    assert again == codes
    assert again.digits.dtype == codes.digits.dtype
    assert again.digits.is_contiguous()
    assert len(data) == -(-math.prod(shape) * codes.bits_per_code // 8)


def test_golden_vectors() -> None:
    binary = Codes(
        torch.tensor([[1, 0, 1, 1, 0, 0, 1, 0, 1], [0, 1, 1, 0, 0, 0, 0, 0, 1]]).reshape(1, 1, 1, 2, 9), (2,) * 9
    )
    assert binary.pack().hex() == "b2b040"
    assert binary.indices().flatten().tolist() == [0b101100101, 0b011000001]
    assert binary.hash() == hashlib.sha256(b"1,1,1,2,9;2,2,2,2,2,2,2,2,2;\xb2\xb0\x40").hexdigest()
    levels = Codes(torch.tensor([[7, 0, 4, 999], [1, 2, 3, 4]]).reshape(1, 1, 2, 1, 4), (8, 5, 5, 1000))
    assert levels.pack().hex() == "e27ce53010"
    assert levels.indices().flatten().tolist() == [((7 * 5 + 0) * 5 + 4) * 1000 + 999, ((1 * 5 + 2) * 5 + 3) * 1000 + 4]
    assert levels.bits_per_code == 3 + 3 + 3 + 10


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 36, 60, 62, 63])
def test_binary_indices_to_63_bits(length: int) -> None:
    codes = random_codes((1, 2, 3, 4), (2,) * length)
    indices = codes.indices()
    assert indices.dtype == torch.int64
    rows = codes.digits.reshape(-1, length).tolist()
    assert indices.flatten().tolist() == [int("".join(map(str, row)), 2) for row in rows]
    assert Codes.from_indices(indices, codes.radices) == codes
    ones = Codes(torch.ones(1, 1, 1, 1, length, dtype=torch.int64), (2,) * length)
    assert ones.indices().item() == 2**length - 1


@pytest.mark.parametrize("radices", [(2,) * 64, (2**31 - 1,) * 3, (65536,) * 3 + (65537,), (2,) * 1024])
def test_more_than_63_bits_have_no_index(radices: tuple[int, ...]) -> None:
    with pytest.raises(CodesError, match="63 bits"):
        random_codes((1, 1, 1, 1), radices).indices()
    with pytest.raises(CodesError, match="63 bits"):
        Codes.from_indices(torch.zeros(1, 1, 1, 1, dtype=torch.int64), radices)


@given(st.lists(st.integers(2, 2**31 - 1), min_size=1, max_size=6).filter(lambda r: math.prod(r) <= 2**63), st.data())
def test_indices_of_any_radices(radices: list[int], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, math.prod(radices) - 1))
    codes = Codes.from_indices(torch.tensor([[[[index]]]]), radices)
    rest = index
    for digit, radix in zip(reversed(codes.digits.flatten().tolist()), reversed(radices), strict=True):
        assert digit == rest % radix
        rest //= radix
    assert codes.indices().item() == index


@pytest.mark.parametrize("index", [-1, 512, 2**62])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(CodesError, match="0 … 511"):
        Codes.from_indices(torch.tensor([[[[index]]]]), (2,) * 9)


@given(st.integers(1, 8), st.integers(1, 6), st.integers(2, 6))
def test_groups_and_back(size: int, count: int, radix: int) -> None:
    codes = random_codes((1, 1, 2, 3), (radix,) * (size * count))
    grouped = codes.groups(size)
    assert grouped.radices == (radix**size,) * count
    assert Codes.from_groups(grouped, codes.radices) == codes
    if size * count * math.log2(radix) < 63:
        assert torch.equal(grouped.indices(), codes.indices())


def test_groups_that_cannot_be() -> None:
    codes = random_codes((1, 1, 1, 1), (2,) * 36)
    for size in (0, 5, 37, -1):
        with pytest.raises(CodesError, match="does not divide"):
            codes.groups(size)
    with pytest.raises(CodesError, match="radices"):
        codes.groups(36)
    with pytest.raises(CodesError, match="cannot be split"):
        Codes.from_groups(codes.groups(18), (2,) * 35)
    with pytest.raises(CodesError, match="group 0"):
        Codes.from_groups(codes.groups(9), (3,) * 36)


@given(radix_lists, st.data())
def test_first_is_a_prefix(radices: tuple[int, ...], data: st.DataObject) -> None:
    codes = random_codes((1, 1, 2, 2), radices)
    k = data.draw(st.integers(1, len(radices)))
    cut = codes.first(k)
    assert cut == Codes(codes.digits[..., :k], radices[:k])
    assert cut.digits.dtype == (torch.uint8 if max(radices[:k]) <= 256 else torch.int32)
    for beyond in (0, -1, len(radices) + 1):
        with pytest.raises(CodesError, match="can keep"):
            codes.first(beyond)


def test_the_hash_tells_shape_radices_and_digits_apart() -> None:
    digits = torch.zeros(1, 1, 2, 3, 4, dtype=torch.int64)
    flipped = digits.clone()
    flipped[..., 1, 2, 3] = 1
    kinds = [Codes(digits, (2,) * 4), Codes(flipped, (2,) * 4), Codes(digits, (2, 2, 2, 3))]
    kinds += [Codes(digits.reshape(1, 1, 3, 2, 4), (2,) * 4), Codes(digits.reshape(1, 2, 1, 3, 4), (2,) * 4)]
    assert len({codes.hash() for codes in kinds}) == len(kinds)
    assert Codes(digits, (2,) * 4).hash() == Codes(digits.to(torch.int16), (2,) * 4).hash()


@pytest.mark.parametrize(
    ("radices", "dtype"),
    [((2,) * 9, torch.uint8), ((256, 2), torch.uint8), ((257, 2), torch.int32), ((2**31 - 1,), torch.int32)],
)
def test_storage_type(radices: tuple[int, ...], dtype: torch.dtype) -> None:
    codes = random_codes((1, 1, 2, 2), radices)
    assert codes.digits.dtype == dtype
    assert codes.to("cpu") == codes


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.uint32, torch.int64]
)
def test_any_integer_type_enters(dtype: torch.dtype) -> None:
    digits = torch.tensor([1, 0, 1]).to(dtype).reshape(1, 1, 1, 1, 3)
    assert Codes(digits, (2, 2, 2)).digits.flatten().tolist() == [1, 0, 1]


def test_equality_is_of_radices_and_digits() -> None:
    codes = random_codes((1, 1, 2, 2), (2,) * 5)
    assert codes == Codes(codes.digits.clone(), codes.radices)
    assert codes != Codes(codes.digits, (3,) * 5)
    assert codes != "codes"
    with pytest.raises(TypeError):
        hash(codes)


@pytest.mark.parametrize(
    ("digits", "radices", "says"),
    [
        (torch.zeros(1, 1, 1, 1, 2), (2, 2), "integers"),
        (torch.zeros(1, 1, 1, 1, 2, dtype=torch.complex64), (2, 2), "integers"),
        (np.zeros((1, 1, 1, 1, 2), np.uint8), (2, 2), "tensor"),
        (torch.zeros(1, 1, 1, 2, dtype=torch.uint8), (2, 2), "B, T, h, w"),
        (torch.zeros(1, 1, 1, 1, 3, dtype=torch.uint8), (2, 2), "L=2"),
        (torch.full((1, 1, 1, 1, 2), 2), (2, 2), "below their radix"),
        (torch.full((1, 1, 1, 1, 2), -1), (2, 2), "below their radix"),
        (torch.tensor([1, 2]).reshape(1, 1, 1, 1, 2), (3, 2), "below their radix"),
        (torch.full((1, 1, 1, 1, 1), 2**40), (2**31 - 1,), "below their radix"),
        (torch.zeros(1, 1, 1, 1, 0, dtype=torch.uint8), (), "at least one"),
        (torch.zeros(1, 1, 1, 1, 1, dtype=torch.uint8), (1,), "from 2"),
        (torch.zeros(1, 1, 1, 1, 1, dtype=torch.uint8), (2**31,), "2\\^31"),
        (torch.zeros(1, 1, 1, 1, 1, dtype=torch.uint8), (2.5,), "whole numbers"),
        (torch.zeros(1, 1, 1, 1, 1, dtype=torch.uint8), ("2",), "whole numbers"),
        (torch.zeros(1, 1, 1, 1, 1, dtype=torch.uint8), 2, "whole numbers"),
    ],
)
def test_what_is_not_codes_is_refused(digits: torch.Tensor, radices: tuple[int, ...], says: str) -> None:
    with pytest.raises(CodesError, match=says):
        Codes(digits, radices)


def test_packed_bytes_must_fit_exactly() -> None:
    codes = random_codes((1, 1, 3, 3), (2,) * 5)
    data = codes.pack()
    for wrong in (b"", data[:-1], data + b"\0"):
        with pytest.raises(CodesError, match="bytes, got"):
            Codes.unpack(wrong, (1, 1, 3, 3), codes.radices)
    with pytest.raises(CodesError, match="must be zero"):
        Codes.unpack(data[:-1] + bytes([data[-1] | 1]), (1, 1, 3, 3), codes.radices)
    for shape in ((1, 3, 3), (1, 1, -3, -3), ()):
        with pytest.raises(CodesError, match="grid"):
            Codes.unpack(data, shape, codes.radices)
    with pytest.raises(CodesError, match="below their radix"):
        Codes.unpack(b"\xe0", (1, 1, 1, 1), (5,))


def test_no_codes_at_all() -> None:
    for radices in ((2,) * 5, (2, 3, 300)):
        empty = Codes(torch.zeros(1, 0, 2, 2, len(radices), dtype=torch.uint8), radices)
        assert empty.pack() == b""
        assert Codes.unpack(b"", (1, 0, 2, 2), radices) == empty


@given(st.integers(1, 31), st.lists(st.integers(0, 2**31 - 1), max_size=20))
def test_bits_of_digits(width: int, digits: list[int]) -> None:
    kept = [digit % 2**width for digit in digits]
    bits = to_bits(np.array(kept, np.int64), width)
    assert "".join(map(str, bits.tolist())) == "".join(f"{digit:0{width}b}" for digit in kept)
    assert from_bits(bits, width).tolist() == kept


def test_no_floating_point_in_the_module() -> None:
    path = Path(bsq.codes.__file__)
    with path.open("rb") as file:
        tokens = [token.string for token in tokenize.tokenize(file.readline) if token.type != tokenize.STRING]
    assert "/" not in tokens
    assert not [token for token in tokens if re.fullmatch(r"float\w*|\w*[.]\d+|\d+[.]\w*|log2|sqrt", token)]


def test_radices_are_checked_once_for_all() -> None:
    assert check_radices([np.int64(2), torch.tensor(3)]) == (2, 3)


def test_what_are_no_counts_bytes_or_tensors_is_named() -> None:
    codes = Codes(torch.zeros(1, 1, 1, 2, 4, dtype=torch.uint8), (2,) * 4)
    for use in (lambda: codes.first(2.5), lambda: codes.groups(2.0), lambda: Codes.unpack(b"", (0.5, 1, 1, 1), (2,))):
        with pytest.raises(CodesError, match="must be whole numbers, got"):
            use()
    with pytest.raises(CodesError, match="bytes, got str"):
        Codes.unpack("a", (1, 1, 1, 8), (2,))
    with pytest.raises(CodesError, match="tensor of integers, got <class 'list'>"):
        Codes.from_indices([1, 2], (2, 2))
