"""The conversation of layered priors. What enters: a network. What leaves: questions, layer by layer, pass by pass."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

import numpy as np

from bsq.prior.base import Conversation, Grid, Question
from bsq.prior.layout import Layout, code_bits, split_frequencies
from bsq.prior.passes import quincunx_passes


class ChainedBits(Protocol):
    """The bits of some tokens, one after another. `state` is whatever the chain carries, one row a token."""

    def frequencies(self, state: Any, bit: int) -> np.ndarray:
        """p(bit = 1)·2^16 for each row of the state, (n,) uint16 in 1 … 65535."""
        ...

    def learn(self, state: Any, bit: int, signs: np.ndarray) -> Any:
        """The state once `bit` is known to be `signs` (n,) ±1."""
        ...


class Network(ChainedBits, Protocol):
    """A masked model of one grid."""

    def condition(self, signs: np.ndarray, tokens: np.ndarray) -> Any:
        """Known binary digits (N, bits) int8 ±1 or 0 of all tokens → chain state of `tokens` (n,)."""
        ...


def converse_in_layers(network: Network, layout: Layout, grid: Grid, model_bits: int) -> Conversation:
    """Ask for every digit of the layout; one chunk a layer.

    `model_bits` is the number of binary digits the network takes, at least those of the layout.
    """
    signs = np.zeros((grid.tokens, model_bits), np.int8)
    for layer in layout.layers:
        for tokens in quincunx_passes(grid, layer.passes):
            state = network.condition(signs, tokens)
            for digit in layer.digits:
                span, radix = layout.digit_span(digit), layout.radices[digit]
                if radix == 2:
                    frequencies = network.frequencies(state, span.start)
                else:
                    frequencies = split_frequencies(tree_frequencies(network, state, span), radix)
                digits = yield Question(tokens, digit, frequencies, layer.index)
                bits = code_bits(np.asarray(digits)[:, None], (radix,))
                signs[tokens, span.start : span.stop] = 2 * bits.astype(np.int8) - 1
                for i, bit in enumerate(span):
                    state = network.learn(state, bit, 2 * bits[:, i].astype(np.int8) - 1)


def tree_frequencies(chain: ChainedBits, state: Any, span: range) -> np.ndarray:
    """(n, 2^len(span) − 1): the frequency of each binary digit after each prefix, in the order '', 0, 1, 00, 01, …"""
    columns, branches = [], [state]
    for bit in span:
        columns += [chain.frequencies(branch, bit) for branch in branches]
        if bit != span.stop - 1:
            branches = [child for branch in branches for child in _both(chain, branch, bit)]
    return np.stack(columns, axis=1)


def _both(chain: ChainedBits, state: Any, bit: int) -> Generator[Any, None, None]:
    rows = len(state)
    yield chain.learn(state, bit, np.full(rows, -1, np.int8))
    yield chain.learn(state, bit, np.full(rows, 1, np.int8))
