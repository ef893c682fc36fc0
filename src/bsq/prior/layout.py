"""How a prior sees codes. What enters: radices and digits. What leaves: binary digits and the layers they are coded in.

Every digit becomes ceil(log2 radix) binary digits, most significant first, so that models and exact arithmetic are only
ever binary. The binary digits are coded in layers: first the most important digits of all tokens, pass after pass, then
the next. A layer knows every earlier layer of every token, so a stream cut after a layer is a whole, coarser picture,
and the layers of a shorter code are the first layers of the longer one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bsq.codes import digit_bits, to_bits
from bsq.errors import SettingsError
from bsq.prior.base import TOTAL_FREQUENCY


@dataclass(frozen=True)
class Layer:
    """Digits `digits` (= binary digits `bits`) of all tokens, coded in at most `passes` passes."""

    index: int
    digits: range
    bits: range
    passes: int


@dataclass(frozen=True)
class Layout:
    """The layers of codes with these radices."""

    radices: tuple[int, ...]
    layers: tuple[Layer, ...]

    @property
    def bits(self) -> int:
        """Binary digits of one code."""
        return sum(digit_bits(radix) for radix in self.radices)

    def digit_span(self, digit: int) -> range:
        """The binary digits of one digit."""
        start = sum(digit_bits(radix) for radix in self.radices[:digit])
        return range(start, start + digit_bits(self.radices[digit]))

    def first(self, radices: tuple[int, ...]) -> Layout:
        """The layout of codes cut to their first digits. Raises SettingsError unless `radices` begin this layout's."""
        if not radices or radices != self.radices[: len(radices)]:
            raise SettingsError(
                f"this prior models {describe_radices(self.radices)} and any first digits of them, "
                f"got {describe_radices(radices)}; use the adaptive prior for other codes"
            )
        kept = []
        for layer in self.layers:
            digits = range(layer.digits.start, min(layer.digits.stop, len(radices)))
            if digits:
                kept.append(Layer(layer.index, digits, self._bits_of(digits), layer.passes))
        return Layout(radices, tuple(kept))

    def _bits_of(self, digits: range) -> range:
        return range(self.digit_span(digits.start).start, self.digit_span(digits.stop - 1).stop)


def make_layout(radices: tuple[int, ...], layer_digits: int, passes: tuple[int, ...]) -> Layout:
    """Layers of `layer_digits` digits; layer i has `passes[i]` passes, or the last entry's."""
    whole = Layout(radices, ())
    layers = []
    for index, start in enumerate(range(0, len(radices), layer_digits)):
        digits = range(start, min(start + layer_digits, len(radices)))
        layers.append(Layer(index, digits, whole._bits_of(digits), passes[min(index, len(passes) - 1)]))
    return Layout(radices, tuple(layers))


def describe_radices(radices: tuple[int, ...]) -> str:
    """A short name: '36 digits of radix 2'."""
    kinds = sorted(set(radices))
    return f"{len(radices)} digits of radix {', '.join(map(str, kinds[:4]))}"


def code_bits(digits: np.ndarray, radices: tuple[int, ...]) -> np.ndarray:
    """Digits (…, L) → binary digits (…, bits) uint8, most significant first."""
    shape = digits.shape[:-1]
    columns = []
    for d, radix in enumerate(radices):
        width = digit_bits(radix)
        columns.append(to_bits(digits[..., d].reshape(-1), width).reshape(*shape, width))
    return np.concatenate(columns, axis=-1)


def split_frequencies(nodes: np.ndarray, radix: int) -> np.ndarray:
    """Probabilities of a digit from those of its binary digits, in integers.

    nodes  (n, 2^w − 1) integers in 1 … 65535, w = ceil(log2 radix): p(binary digit = 1)·2^16 at each node of the tree
           of prefixes, in the order '', 0, 1, 00, 01, 10, 11, …
    → (n, radix) uint32, each at least 1, rows summing to 2^16. Branches past the radix get nothing.
    """
    width = digit_bits(radix)
    shares = np.full((len(nodes), 1), TOTAL_FREQUENCY, np.int64)
    for level in range(width):
        leaves = 1 << (width - level)
        first_leaf = np.arange(1 << level) * leaves
        right = np.clip(radix - first_leaf - leaves // 2, 0, leaves // 2)
        left = np.clip(radix - first_leaf, 0, leaves // 2)
        p = nodes[:, (1 << level) - 1 : (2 << level) - 1].astype(np.int64)
        # Each leaf is owed 1; what is left over is shared by the model.
        spare = np.maximum(shares - left - right, 0)
        to_right = np.where(right == 0, 0, np.where(left == 0, shares, right + (spare * p >> 16)))
        shares = np.stack([shares - to_right, to_right], axis=-1).reshape(len(nodes), 2 << level)
    return shares[:, :radix].astype(np.uint32)
