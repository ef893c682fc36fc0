"""Averages of a stretch of training. What enters: numbers of each step. What leaves: their means, ready to log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from bsq.codes import Codes
from bsq.metrics.usage import CodeUseMeter


class Meter:
    """Means by name, and the use of codes. Meters of several processes add up."""

    def __init__(self, radices: Sequence[int]) -> None:
        self._radices = tuple(radices)
        self.clear()

    def clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._use = CodeUseMeter(self._radices) if self._radices else None
        self.tokens = 0

    def add(self, name: str, value: float, count: int = 1) -> None:
        """Take in the mean `value` of `count` observations."""
        self._sums[name] = self._sums.get(name, 0.0) + value * count
        self._counts[name] = self._counts.get(name, 0) + count

    def add_terms(self, terms: Mapping[str, Tensor], count: int) -> None:
        for name, term in terms.items():
            self.add(name, term.item(), count)

    def add_psnr(self, squared: Tensor, kept: Tensor | None) -> None:
        """Of each sample the mean squared error of pixels in [−1, 1]."""
        decibels = [
            10 * math.log10(4 / max(error, 1e-12)) if math.isfinite(error) else math.nan for error in squared.tolist()
        ]
        self.add_by_kept("psnr", decibels, kept)

    def add_by_kept(self, name: str, values: Sequence[float], kept: Tensor | None) -> None:
        """One value of each sample; apart, too, for each number of digits kept."""
        digits = [None] * len(values) if kept is None else kept.tolist()
        for value, k in zip(values, digits, strict=True):
            self.add(name, value)
            if k is not None:
                self.add(f"{name}@{k}", value)

    def add_digits(self, digits: Tensor | None) -> None:
        if self._use is not None and digits is not None:
            self._use.add(Codes(digits, self._radices))
            self.tokens += digits[..., 0].numel()

    def merge(self, other: Meter) -> None:
        for name, total in other._sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + total
            self._counts[name] = self._counts.get(name, 0) + other._counts[name]
        self.tokens += other.tokens
        if self._use is not None and other._use is not None:
            self._use.merge(other._use)

    def means(self) -> dict[str, float]:
        """In the order the names first came, rates in theirs; then what is known of the codes."""
        means = {name: total / self._counts[name] for name, total in sorted(self._sums.items(), key=_place)}
        if self._use is None or not self.tokens:
            return means
        use = self._use.result()
        means["marginal_bits"] = use.marginal_entropy_bits
        if use.worst_imbalance is not None:
            means["worst_imbalance"] = use.worst_imbalance
        if use.index is not None:
            means["codes_used"] = use.index.fraction
        return means

    def ones(self) -> tuple[float, ...] | None:
        """Share of ones of each digit, None unless all are bits."""
        return self._use.result().ones if self._use is not None and self.tokens else None


def _place(item: tuple[str, float]) -> tuple[bool, int]:
    """Sorts "psnr@9" before "psnr@18", and both behind the names without a rate, which keep their order."""
    _, at, rate = item[0].partition("@")
    return bool(at), int(rate or 0)
