"""Exact products of small integers. What enters: int8 rows and weights. What leaves: int32 sums, the same everywhere.

Every arithmetic here gives the true integer sum as long as it stays below its `limit`, whatever the order of addition,
so they agree bit for bit on any machine; they differ in speed only. Floating point is exact for integers below 2^24
(float32) or 2^53 (float64). Convolution kernels are never used: their fast algorithms round.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

FLOAT32_EXACT = 2**24


class Arithmetic(Protocol):
    """A way to multiply integers. `chain_dtype` holds the chain's sums exactly and is added and multiplied in place."""

    name: str
    chain_dtype: torch.dtype

    def prepare(self, weight: Tensor) -> Tensor:
        """int8 (outputs, inputs) → the form `multiply` takes."""
        ...

    def multiply(self, rows: Tensor, prepared: Tensor) -> Tensor:
        """int8 (n, inputs) → int32 (n, outputs)."""
        ...


class Int8Arithmetic:
    """int8 matrix products with int32 sums: the fastest, where `int8_is_exact`."""

    name = "int8"
    chain_dtype = torch.float32

    def prepare(self, weight: Tensor) -> Tensor:
        return weight.t().contiguous()

    def multiply(self, rows: Tensor, prepared: Tensor) -> Tensor:
        return torch._int_mm(rows, prepared)


class WideArithmetic:
    """Products in float32, float64 or int64."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.name = str(dtype).removeprefix("torch.")
        self.chain_dtype = dtype

    def prepare(self, weight: Tensor) -> Tensor:
        return weight.t().to(self.chain_dtype).contiguous()

    def multiply(self, rows: Tensor, prepared: Tensor) -> Tensor:
        return (rows.to(self.chain_dtype) @ prepared).to(torch.int32)


@lru_cache(maxsize=1)
def int8_is_exact() -> bool:
    """Does this machine's int8 product keep sums that overflow 16 bits? (CPUs without VNNI may saturate pairs.)"""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(-127, 128, (64, 256), generator=generator, dtype=torch.int8)
    weight = torch.randint(-127, 128, (256, 64), generator=generator, dtype=torch.int8)
    rows[:16], weight[:, :16] = 127, 127
    rows[16:32], weight[:, 16:32] = -127, -127
    try:
        return torch.equal(torch._int_mm(rows, weight).long(), rows.long() @ weight.long())
    except (RuntimeError, AttributeError):
        return False


def fastest_arithmetic() -> Arithmetic:
    """int8 products where they are exact on this machine, else float32."""
    return Int8Arithmetic() if int8_is_exact() else WideArithmetic(torch.float32)
