"""Codes: integers from the moment they exist. What enters: digits. What leaves: bytes, indices, groups, hashes.

A code is a row of L digits; digit d takes values 0 … radices[d] − 1. BSQ and LFQ have L digits of radix 2, FSQ its
levels, VQ one digit of radix K. The first digit is the most significant everywhere. No number here is ever rounded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import index as whole_number

import numpy as np
import torch
from torch import Tensor

from bsq.errors import CodesError

MAX_INDEX_BITS = 63
MAX_RADIX = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Codes:
    """Digits (B, T, h, w, L) with their L radices, each 2 … 2^31 − 1.

    `digits` is uint8 when every radix is at most 256, else int32; the constructor converts any integer tensor and
    checks every digit's range. Raises CodesError for anything that is not codes.
    """

    digits: Tensor
    radices: tuple[int, ...]

    def __post_init__(self) -> None:
        radices, digits = check_radices(self.radices), self.digits
        if not isinstance(digits, Tensor) or digits.is_floating_point() or digits.is_complex():
            raise CodesError(f"digits must be a tensor of integers, got {getattr(digits, 'dtype', type(digits))}")
        if digits.ndim != 5 or digits.shape[-1] != len(radices):
            raise CodesError(f"digits must be (B, T, h, w, L={len(radices)}), got {tuple(digits.shape)}")
        if digits.dtype == torch.bool:
            digits = digits.to(torch.uint8)
        elif digits.dtype not in _PLAIN:
            digits = digits.long()  # torch compares few of the other integer types
        _check_range(digits, radices)
        object.__setattr__(self, "digits", digits.to(storage_dtype(radices)))
        object.__setattr__(self, "radices", radices)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(B, T, h, w, L)."""
        return tuple(self.digits.shape)  # type: ignore[return-value]

    @property
    def length(self) -> int:
        """L, the number of digits of a code."""
        return len(self.radices)

    @property
    def device(self) -> torch.device:
        return self.digits.device

    @property
    def bits_per_code(self) -> int:
        """Bits of one packed code: Σ ceil(log2 radix)."""
        return sum(digit_bits(r) for r in self.radices)

    def to(self, device: torch.device | str) -> Codes:
        """The same codes on another device."""
        return Codes._sound(self.digits.to(device), self.radices)

    def first(self, k: int) -> Codes:
        """The codes cut to their first (most important) k digits, 1 ≤ k ≤ L. Raises CodesError."""
        k = check_count(k, "digits to keep")
        if not 1 <= k <= self.length:
            raise CodesError(f"can keep 1 to {self.length} digits, asked for {k}")
        return Codes._sound(self.digits[..., :k].to(storage_dtype(self.radices[:k])), self.radices[:k])

    @classmethod
    def _sound(cls, digits: Tensor, radices: tuple[int, ...]) -> Codes:
        """Codes that need no second check: digits in range and of the right type."""
        codes = object.__new__(cls)
        object.__setattr__(codes, "digits", digits)
        object.__setattr__(codes, "radices", radices)
        return codes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codes):
            return NotImplemented
        return self.radices == other.radices and torch.equal(self.digits, other.digits.to(self.digits.device))

    __hash__ = None  # type: ignore[assignment]

    def hash(self) -> str:
        """SHA-256 (hex) of shape, radices and packed digits, "B,T,h,w,L;r₁,…,r_L;" before them: the same everywhere."""
        head = ",".join(map(str, self.shape)) + ";" + ",".join(map(str, self.radices)) + ";"
        return hashlib.sha256(head.encode() + self.pack()).hexdigest()

    def pack(self) -> bytes:
        """All digits as bits in B T h w L order, ceil(log2 radix) each, top bit first, filled with zeros to a byte."""
        digits = self.digits.reshape(-1, self.length).cpu().numpy()
        tokens, columns = len(digits), []
        for run, width in _runs(self.radices):
            columns.append(to_bits(digits[:, run].reshape(-1), width).reshape(tokens, width * (run.stop - run.start)))
        bits = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
        return np.packbits(bits.reshape(-1)).tobytes()

    @staticmethod
    def unpack(data: bytes, shape: Sequence[int], radices: Sequence[int]) -> Codes:
        """Mirror of `pack` for codes of the grid shape (B, T, h, w).

        Raises CodesError unless the length fits exactly, the padding is zero and every digit is below its radix.
        """
        radices, shape = check_radices(radices), tuple(check_count(size, "sizes of the grid") for size in shape)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise CodesError(f"packed codes are bytes, got {type(data).__name__}")
        if len(shape) != 4 or min(shape) < 0:
            raise CodesError(f"the grid must be (B, T, h, w), not negative; got {shape}")
        tokens, width = math.prod(shape), sum(map(digit_bits, radices))
        wanted = (tokens * width + 7) // 8
        if len(data) != wanted:
            raise CodesError(f"{tokens} codes of {width} bits take {wanted} bytes, got {len(data)}")
        if tokens * width % 8 and data[-1] & (0xFF >> tokens * width % 8):
            raise CodesError("the bits after the last code must be zero")
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=tokens * width)
        if width == len(radices):
            return Codes._sound(torch.from_numpy(bits).reshape(*shape, len(radices)), radices)
        digits, start = np.empty((tokens, len(radices)), np.uint8 if max(radices) <= 256 else np.int32), 0
        table = bits.reshape(tokens, width)
        for run, size in _runs(radices):
            stop = start + size * (run.stop - run.start)
            digits[:, run] = from_bits(table[:, start:stop].reshape(-1), size).reshape(digits[:, run].shape)
            start = stop
        return Codes(torch.from_numpy(digits).reshape(*shape, len(radices)), radices)

    def indices(self) -> Tensor:
        """One int64 (B, T, h, w) index a code, first digit most significant. Raises CodesError if Π radices > 2^63."""
        return join_digits(self.digits, self.radices)

    @staticmethod
    def from_indices(indices: Tensor, radices: Sequence[int]) -> Codes:
        """Mirror of `indices`. Raises CodesError for an index that is negative or not below Π radices."""
        radices = check_radices(radices)
        return Codes(split_index(indices, radices), radices)

    def groups(self, size: int) -> Codes:
        """Each run of `size` digits as one digit (the sub-codes of grouped entropy and generation).

        Raises CodesError unless `size` divides L and a group's radix is below 2^31.
        """
        if check_count(size, "a group's size") < 1 or self.length % size:
            raise CodesError(f"group size {size} does not divide {self.length} digits")
        runs = [slice(start, start + size) for start in range(0, self.length, size)]
        radices = check_radices([math.prod(self.radices[run]) for run in runs])
        return Codes(torch.stack([join_digits(self.digits[..., run], self.radices[run]) for run in runs], -1), radices)

    @staticmethod
    def from_groups(groups: Codes, radices: Sequence[int]) -> Codes:
        """Mirror of `groups`: split each digit of `groups` into equal runs of digits with the given `radices`."""
        radices = check_radices(radices)
        if len(radices) % groups.length:
            raise CodesError(f"{groups.length} groups cannot be split into {len(radices)} digits")
        size = len(radices) // groups.length
        for i, radix in enumerate(groups.radices):
            if math.prod(radices[i * size : (i + 1) * size]) != radix:
                raise CodesError(f"group {i} has radix {radix}, its digits {radices[i * size : (i + 1) * size]}")
        parts = [split_index(groups.digits[..., i], radices[i * size : (i + 1) * size]) for i in range(groups.length)]
        return Codes(torch.cat(parts, -1), radices)


_PLAIN = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_radices(radices: Sequence[int]) -> tuple[int, ...]:
    """The radices as a tuple. Raises CodesError unless there is one and all are whole numbers from 2 to 2^31 − 1."""
    try:
        checked = tuple(map(whole_number, radices))
    except TypeError as error:
        raise CodesError(f"radices must be whole numbers, got {radices!r:.80}") from error
    if not checked or min(checked) < 2 or max(checked) > MAX_RADIX:
        raise CodesError(f"radices must be whole numbers from 2 to 2^31 − 1, at least one; got {checked[:8]}")
    return checked


def check_count(count: int, what: str) -> int:
    """`count` as an int. Raises CodesError, naming `what`, unless it is a whole number."""
    try:
        return whole_number(count)
    except TypeError as error:
        raise CodesError(f"{what} must be whole numbers, got {count!r:.80}") from error


def storage_dtype(radices: Sequence[int]) -> torch.dtype:
    """uint8 when every radix is at most 256, else int32."""
    return torch.uint8 if max(radices) <= 256 else torch.int32


def digit_bits(radix: int) -> int:
    """Bits that hold one digit: ceil(log2 radix)."""
    return (radix - 1).bit_length()


def to_bits(digits: np.ndarray, width: int) -> np.ndarray:
    """Digits (n,) below 2^width → bits (n·width,) uint8 of 0 and 1, most significant first; 1 ≤ width ≤ 31."""
    if width == 1:
        return digits.astype(np.uint8, copy=False)
    digits = digits.astype(_holder(width), copy=False)
    bits = np.empty((len(digits), width), np.uint8)
    for place in range(width):
        bits[:, place] = digits >> (width - 1 - place) & 1
    return bits.reshape(-1)


def from_bits(bits: np.ndarray, width: int) -> np.ndarray:
    """Mirror of `to_bits`: bits (n·width,) → digits (n,) of the smallest integer type that holds them."""
    if width == 1:
        return bits
    table = bits.reshape(-1, width)
    digits = np.zeros(len(table), _holder(width))
    for place in range(width):
        digits <<= 1
        digits |= table[:, place]
    return digits


def join_digits(digits: Tensor, radices: Sequence[int]) -> Tensor:
    """Digits (…, L) → int64 index (…), first digit most significant. Raises CodesError if Π radices > 2^63."""
    if math.prod(radices) > 2**MAX_INDEX_BITS:
        raise CodesError(f"{len(radices)} digits need more than {MAX_INDEX_BITS} bits; use pack() or groups()")
    index = torch.zeros(digits.shape[:-1], dtype=torch.int64, device=digits.device)
    for d, radix in enumerate(radices):
        index = index * radix + digits[..., d].long()
    return index


def split_index(index: Tensor, radices: Sequence[int]) -> Tensor:
    """Mirror of `join_digits`: integers (…) in 0 … Π radices − 1 → int64 digits (…, L). Raises CodesError."""
    total = math.prod(radices)
    if total > 2**MAX_INDEX_BITS:
        raise CodesError(f"{len(radices)} digits need more than {MAX_INDEX_BITS} bits; use unpack()")
    if not isinstance(index, Tensor) or index.is_floating_point() or index.is_complex():
        raise CodesError(f"indices must be a tensor of integers, got {getattr(index, 'dtype', type(index))}")
    index = index.long()
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= total):
        raise CodesError(f"indices must be in 0 … {total - 1}")
    digits = []
    for radix in reversed(radices):
        digits.append(index % radix)
        index = index // radix
    return torch.stack(digits[::-1], -1)


def _check_range(digits: Tensor, radices: tuple[int, ...]) -> None:
    low, high = min(radices), max(radices)
    if not digits.numel() or (digits.dtype == torch.uint8 and low >= 256):
        return
    smallest, largest = (int(bound) for bound in digits.aminmax())
    sound = smallest >= 0 and largest < high
    if sound and largest >= low:
        tops = digits.reshape(-1, len(radices)).amax(0).tolist()
        sound = all(top < radix for top, radix in zip(tops, radices, strict=True))
    if not sound:
        raise CodesError(
            f"digits must be 0 or more and below their radix; got {smallest} … {largest}, radices to {high}"
        )


def _runs(radices: tuple[int, ...]) -> Iterator[tuple[slice, int]]:
    """Neighbouring digits of one width in bits, as a slice and the width."""
    start = 0
    for width, run in groupby(radices, digit_bits):
        stop = start + len(list(run))
        yield slice(start, stop), width
        start = stop


def _holder(width: int) -> type[np.integer]:
    """The smallest integer type that holds `width` bits without a sign."""
    return np.uint8 if width <= 8 else np.int32
