"""The conversation of layered priors. What enters: a network. What leaves: questions.

Frame by frame, in each layer by layer, in each pass by pass: all of a frame is known before the next is asked for.
"""

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
    """A masked model of the frames of one grid."""

    def remember(self, before: np.ndarray | None) -> Any:
        """Binary digits (N, bits) int8 ±1 or 0 of the frame before, or None → what `condition` is given of it."""
        ...

    def condition(self, signs: np.ndarray, tokens: np.ndarray, memory: Any) -> Any:
        """Known binary digits (N, bits) int8 ±1 or 0 of a frame's tokens → chain state of `tokens` (n,)."""
        ...


def converse_in_layers(network: Network, layout: Layout, grid: Grid, model_bits: int) -> Conversation:
    """Ask for every digit of the layout; one chunk a layer of a frame.

    `model_bits` is the number of binary digits the network takes, at least those of the layout.
    """
    picture, before = Grid(1, grid.height, grid.width), None
    for frame in range(grid.frames):
        signs = np.zeros((picture.tokens, model_bits), np.int8)
        memory = network.remember(before)
        for layer in layout.layers:
            chunk = frame * len(layout.layers) + layer.index
            for tokens in quincunx_passes(picture, layer.passes):
                state = network.condition(signs, tokens, memory)
                for digit in layer.digits:
                    span, radix = layout.digit_span(digit), layout.radices[digit]
                    frequencies = digit_frequencies(network, state, span, radix)
                    digits = yield Question(tokens + frame * picture.tokens, digit, frequencies, chunk)
                    bits = code_bits(np.asarray(digits)[:, None], (radix,))
                    signs[tokens, span.start : span.stop] = 2 * bits.astype(np.int8) - 1
                    for i, bit in enumerate(span):
                        state = network.learn(state, bit, 2 * bits[:, i].astype(np.int8) - 1)
        before = signs


def digit_frequencies(chain: ChainedBits, state: Any, span: range, radix: int) -> np.ndarray:
    """What a `Question` holds of a digit that is the binary digits `span`."""
    if radix == 2:
        return chain.frequencies(state, span.start)
    return split_frequencies(tree_frequencies(chain, state, span), radix)


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
