"""Codes: integers from the moment they exist. What enters: digits. What leaves: bytes, indices, groups, hashes.

A code is a row of L digits; digit d takes values 0 … radices[d] − 1. BSQ and LFQ have L digits of radix 2, FSQ its levels,
VQ one digit of radix K. The first digit is the most significant everywhere. Nothing in this module is floating point.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bsq.errors import CodesError

MAX_INDEX_BITS = 63


@dataclass(frozen=True, eq=False)
class Codes:
    """Digits (B, T, h, w, L) with their L radices.

    `digits` is uint8 when every radix is at most 256, else int32; the constructor converts any integer tensor and checks
    every digit's range.
    """

    digits: Tensor
    radices: tuple[int, ...]

    def __post_init__(self) -> None:
        radices = tuple(int(r) for r in self.radices)
        digits = self.digits
        if not radices or min(radices) < 2 or max(radices) > 2**31 - 1:
            raise CodesError(f"radices must be whole numbers from 2 to 2^31 - 1, at least one; got {radices[:8]}")
        if digits.is_floating_point() or digits.is_complex():
            raise CodesError(f"digits must be integers, got {digits.dtype}")
        if digits.ndim != 5 or digits.shape[-1] != len(radices):
            raise CodesError(f"digits must be (B, T, h, w, L={len(radices)}), got {tuple(digits.shape)}")
        dtype = torch.uint8 if max(radices) <= 256 else torch.int32
        if digits.dtype == torch.bool:
            digits = digits.to(torch.uint8)
        if digits.numel():
            low, high = digits.amin(), digits.reshape(-1, len(radices)).amax(0)
            if int(low) < 0 or bool((high.long() >= torch.tensor(radices, device=high.device)).any()):
                raise CodesError("a digit is negative or not below its radix")
        object.__setattr__(self, "digits", digits.to(dtype))
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
        return Codes(self.digits.to(device), self.radices)

    def first(self, k: int) -> Codes:
        """The codes cut to their first (most important) k digits, 1 ≤ k ≤ L."""
        if not 1 <= k <= self.length:
            raise CodesError(f"can keep 1 to {self.length} digits, asked for {k}")
        return Codes(self.digits[..., :k], self.radices[:k])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codes):
            return NotImplemented
        return self.radices == other.radices and torch.equal(self.digits, other.digits.to(self.digits.device))

    __hash__ = None  # type: ignore[assignment]

    def hash(self) -> str:
        """SHA-256 (hex) of shape, radices and packed digits: the same on every machine."""
        head = ",".join(map(str, self.shape)) + ";" + ",".join(map(str, self.radices)) + ";"
        return hashlib.sha256(head.encode() + self.pack()).hexdigest()

    def pack(self) -> bytes:
        """All digits as one row of bits, B T h w L order, ceil(log2 radix) bits each, most significant first, zero-padded."""
        digits = self.digits.reshape(-1, self.length).cpu().numpy()
        columns = []
        for d, radix in enumerate(self.radices):
            shifts = np.arange(digit_bits(radix) - 1, -1, -1)
            columns.append((digits[:, d, None].astype(np.int64) >> shifts & 1).astype(np.uint8))
        bits = np.concatenate(columns, axis=1) if columns else np.zeros((0, 0), np.uint8)
        return np.packbits(bits.reshape(-1)).tobytes()

    @staticmethod
    def unpack(data: bytes, shape: Sequence[int], radices: Sequence[int]) -> Codes:
        """Mirror of `pack` for codes of the grid shape (B, T, h, w). Raises CodesError unless the length fits exactly."""
        shape, radices = tuple(shape), tuple(radices)
        widths = [digit_bits(r) for r in radices]
        tokens = math.prod(shape)
        wanted = (tokens * sum(widths) + 7) // 8
        if len(data) != wanted:
            raise CodesError(f"{tokens} codes of {sum(widths)} bits take {wanted} bytes, got {len(data)}")
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=tokens * sum(widths)).reshape(tokens, sum(widths))
        digits = np.zeros((tokens, len(radices)), np.int64)
        start = 0
        for d, width in enumerate(widths):
            field = bits[:, start : start + width].astype(np.int64)
            digits[:, d] = field @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64))
            start += width
        return Codes(torch.from_numpy(digits).reshape(*shape, len(radices)), radices)

    def indices(self) -> Tensor:
        """One int64 (B, T, h, w) index a code, first digit most significant. Needs Π radices ≤ 2^63."""
        return join_digits(self.digits, self.radices)

    @staticmethod
    def from_indices(indices: Tensor, radices: Sequence[int]) -> Codes:
        """Mirror of `indices`."""
        return Codes(split_index(indices, tuple(radices)), tuple(radices))

    def groups(self, size: int) -> Codes:
        """Each run of `size` digits as one digit (the sub-codes of grouped entropy and generation); size must divide L."""
        if size < 1 or self.length % size:
            raise CodesError(f"group size {size} does not divide {self.length} digits")
        parts = [
            (
                join_digits(self.digits[..., i : i + size], self.radices[i : i + size]),
                math.prod(self.radices[i : i + size]),
            )
            for i in range(0, self.length, size)
        ]
        return Codes(torch.stack([index for index, _ in parts], -1), tuple(radix for _, radix in parts))

    @staticmethod
    def from_groups(groups: Codes, radices: Sequence[int]) -> Codes:
        """Mirror of `groups`: split each digit of `groups` into equal runs of digits with the given `radices`."""
        radices = tuple(radices)
        if len(radices) % groups.length:
            raise CodesError(f"{groups.length} groups cannot be split into {len(radices)} digits")
        size = len(radices) // groups.length
        for i, radix in enumerate(groups.radices):
            if math.prod(radices[i * size : (i + 1) * size]) != radix:
                raise CodesError(f"group {i} has radix {radix}, its digits {radices[i * size : (i + 1) * size]}")
        parts = [split_index(groups.digits[..., i], radices[i * size : (i + 1) * size]) for i in range(groups.length)]
        return Codes(torch.cat(parts, -1), radices)


def digit_bits(radix: int) -> int:
    """Bits that hold one digit: ceil(log2 radix)."""
    return (radix - 1).bit_length()


def join_digits(digits: Tensor, radices: Sequence[int]) -> Tensor:
    """Digits (…, L) → int64 index (…), first digit most significant."""
    if math.prod(radices) > 2**MAX_INDEX_BITS:
        raise CodesError(f"{len(radices)} digits need more than {MAX_INDEX_BITS} bits; use pack() or groups()")
    index = torch.zeros(digits.shape[:-1], dtype=torch.int64, device=digits.device)
    for d, radix in enumerate(radices):
        index = index * radix + digits[..., d].long()
    return index


def split_index(index: Tensor, radices: Sequence[int]) -> Tensor:
    """Mirror of `join_digits`."""
    total = math.prod(radices)
    if total > 2**MAX_INDEX_BITS:
        raise CodesError(f"{len(radices)} digits need more than {MAX_INDEX_BITS} bits")
    if index.is_floating_point():
        raise CodesError(f"indices must be integers, got {index.dtype}")
    index = index.long()
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= total):
        raise CodesError(f"indices must be in 0 … {total - 1}")
    digits = []
    for radix in reversed(radices):
        digits.append(index % radix)
        index = index // radix
    return torch.stack(digits[::-1], -1)
