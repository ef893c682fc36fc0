"""Sub-codes. What enters: the L digits of a code. What leaves: G groups of them, each one number; and back.

A code of 18 bits has 2^18 values, too many for a softmax; two groups of 9 bits have 512 each. Everything is exact
integers; the last group may be shorter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bsq.codes import digit_bits, join_digits, split_index
from bsq.errors import SettingsError

MOST = 2**12
"""Values of a group of several digits, at most."""
MOST_SINGLE = 2**16
"""Values of a group that is one digit: the codebook of VQ cannot be taken apart."""


@dataclass(frozen=True)
class Grouping:
    """Which digits make which group: `spans[g]` of the digits 0 … L − 1, in order."""

    radices: tuple[int, ...]
    spans: tuple[range, ...]

    @property
    def vocabularies(self) -> tuple[int, ...]:
        """How many values each group takes."""
        return tuple(math.prod(self.radices[span.start : span.stop]) for span in self.spans)

    @property
    def bits(self) -> int:
        """Binary digits of a code: Σ ceil(log2 radix)."""
        return sum(digit_bits(radix) for radix in self.radices)

    def join(self, digits: Tensor) -> Tensor:
        """Digits (…, L) → groups (…, G) int64."""
        return torch.stack(
            [join_digits(digits[..., s.start : s.stop], self.radices[s.start : s.stop]) for s in self.spans], -1
        )

    def split(self, groups: Tensor) -> Tensor:
        """Mirror of `join`: groups (…, G) → digits (…, L) int64."""
        return torch.cat(
            [split_index(groups[..., g], self.radices[s.start : s.stop]) for g, s in enumerate(self.spans)], -1
        )

    def known(self, digits_known: Tensor) -> Tensor:
        """Which digits are known, bool (…, L) → of which groups all are, bool (…, G)."""
        return torch.stack([digits_known[..., s.start : s.stop].all(-1) for s in self.spans], -1)

    def digits_of(self, group: int) -> Tensor:
        """Every value of a group, in digits: int64 (V, digits of the group)."""
        span = self.spans[group]
        return split_index(torch.arange(self.vocabularies[group], device="cpu"), self.radices[span.start : span.stop])

    def signs_of(self, group: int) -> Tensor:
        """Every value of a group, in binary digits as ±1, most significant first: float32 (V, bits of the group)."""
        span, digits = self.spans[group], self.digits_of(group)
        columns = []
        for column, radix in enumerate(self.radices[span.start : span.stop]):
            width = digit_bits(radix)
            columns += [digits[:, column] >> (width - 1 - place) & 1 for place in range(width)]
        return torch.stack(columns, -1) * 2.0 - 1


def make_grouping(radices: tuple[int, ...], group_digits: int) -> Grouping:
    """Groups of `group_digits` digits. Raises SettingsError for a group with too many values."""
    spans = tuple(
        range(start, min(start + group_digits, len(radices))) for start in range(0, len(radices), group_digits)
    )
    grouping = Grouping(radices, spans)
    for span, values in zip(spans, grouping.vocabularies, strict=True):
        most = MOST_SINGLE if len(span) == 1 else MOST
        if values > most:
            raise SettingsError(
                f"a group of {len(span)} digits has {values:,} values, at most {most:,} can be modelled: "
                f"choose group_digits below {group_digits}"
                if len(span) > 1
                else f"a digit of radix {values:,} is too wide; at most {most:,} can be modelled"
            )
    return grouping
