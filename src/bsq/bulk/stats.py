"""What a folder of tokens is like. What enters: its index. What leaves: use of codes and sizes, as numbers, lines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict

from bsq.bulk.run import Summary
from bsq.bulk.spread import Here, Workers
from bsq.codes import digit_bits
from bsq.data.storage import open_store
from bsq.data.token_files import Format, read_shard
from bsq.errors import DataError
from bsq.metrics.usage import CodeUse, CodeUseMeter

STATS_FILE = "stats.json"
TOGETHER = 16
"""Shards that are counted before a worker answers: its answer may be as large as the codebook."""


class Stats(BaseModel):
    """`inputs_bytes` and `pixels` are of the inputs that gave tokens and of their views. Entropies in bits;
    `codes_used` and `code_entropy` are None where codes are too many to be counted one by one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    inputs: int
    faults: int
    rows: int
    tokens: int
    pixels: int
    inputs_bytes: int
    packed_bytes: int
    shards_bytes: int
    bits_per_pixel: float
    packed_bits_per_token: int
    entropy_per_token: float
    digit_entropies: tuple[float, ...]
    shares_of_ones: tuple[float, ...] | None
    codes_used: int | None
    code_entropy: float | None

    def lines(self) -> list[str]:
        """For people."""
        lines = [
            f"{self.inputs:,} inputs ({self.inputs_bytes:,} bytes) → {self.rows:,} rows, {self.tokens:,} tokens",
            f"{self.shards_bytes:,} bytes of shards, {self.packed_bytes:,} of them codes; "
            f"{self.bits_per_pixel:.4f} bits a pixel",
            f"{self.packed_bits_per_token} bits a token, worth {self.entropy_per_token:.2f} at most",
        ]
        if self.shares_of_ones is not None:
            low, high = min(self.shares_of_ones), max(self.shares_of_ones)
            lines.append(f"a digit is 1 in {low:.1%} (the rarest) to {high:.1%} (the most frequent) of all tokens")
        if self.codes_used is not None:
            lines.append(f"{self.codes_used:,} different codes are used; their entropy is {self.code_entropy:.2f} bits")
        return lines


@dataclass(frozen=True)
class Counting:
    """The work: names of shards of the folder at `place` to counts of their codes."""

    place: str
    radices: tuple[int, ...]

    def open(self) -> Callable[[tuple[str, ...]], CodeUseMeter]:
        torch.set_num_threads(1)
        store = open_store(self.place)

        def count(names: tuple[str, ...]) -> CodeUseMeter:
            meter = CodeUseMeter(self.radices)
            for name in names:
                with store.open(name) as file:
                    shard = read_shard(file, Format.of(name), name)
                for number in range(len(shard)):
                    meter.add(shard[number].codes)
            return meter

        return count


def measure(summary: Summary, place: str, workers: Workers) -> Stats:
    """Read all shards and count; keep the result beside them. Raises DataError for a folder without rows."""
    index, radices = summary.index, summary.index.meaning.radices
    names = [shard.name for shard in index.shards if shard.rows]
    if not names:
        raise DataError(f"{place} holds no tokens to count")
    parts = [tuple(names[start : start + TOGETHER]) for start in range(0, len(names), TOGETHER)]
    meter = CodeUseMeter(radices)
    few = len(parts) == 1  # quicker counted than given away
    with closing((Here() if few else workers).spread(Counting(place, radices), parts)) as counts:
        for counted in counts:
            meter.merge(counted)
    stats = stats_of(summary, meter.result())
    open_store(place).write(STATS_FILE, stats.model_dump_json(indent=1).encode())
    return stats


def stats_of(summary: Summary, use: CodeUse) -> Stats:
    """A finished run and how its codes are used, in figures for stats.json."""
    width = sum(map(digit_bits, use.radices))
    return Stats(
        inputs=summary.inputs,
        faults=summary.faults,
        rows=summary.index.rows,
        tokens=use.tokens,
        pixels=summary.pixels,
        inputs_bytes=summary.inputs_bytes,
        packed_bytes=summary.packed,
        shards_bytes=summary.bytes,
        bits_per_pixel=use.tokens * width / summary.pixels,
        packed_bits_per_token=width,
        entropy_per_token=use.marginal_entropy_bits,
        digit_entropies=use.digit_entropies_bits,
        shares_of_ones=use.ones,
        codes_used=None if use.index is None else use.index.used,
        code_entropy=None if use.index is None else use.index.entropy_bits,
    )
