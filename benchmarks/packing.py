"""Codes ↔ bytes: gigabytes a second of unpacked digits, one byte each, 36 bits a code."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks import Row, interleaved
from bsq.codes import Codes

SHAPE, BITS = (1, 16, 256, 256), 36


def rows() -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    codes = Codes(torch.randint(2, (*SHAPE, BITS), dtype=torch.uint8, generator=generator), (2,) * BITS)
    packed = codes.pack()
    seconds = interleaved([codes.pack, lambda: Codes.unpack(packed, SHAPE, codes.radices)])
    for name, spent in zip(("packing", "unpacking"), seconds, strict=True):
        speed = codes.digits.numel() / spent / 1e9
        yield Row(f"{name} {codes.digits.numel() / 1e6:.0f} M bits", f"{speed:.2f} GB/s of digits", "≥ 1", speed >= 1)
