"""The paper's prior: an autoregressive Transformer over tokens. What enters: earlier tokens. What leaves: the next one.

Tokens go row by row, frame by frame; the bits inside a token are chained as in the masked prior. It computes in
floating point, one token at a time over a key/value cache, so its streams are slow to code and not portable: it is here
to be compared with (§5 of arXiv:2406.07548; order, grouping and positions are not published, so these are ours).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from bsq.prior.base import NO_IDENTITY, Conversation, Grid, Question
from bsq.prior.chain import Chain, FloatChain
from bsq.prior.conversation import tree_frequencies
from bsq.prior.layout import code_bits, make_layout, split_frequencies
from bsq.settings import Settings


class CausalSettings(Settings):
    """Shape of a causal prior. The paper's has depth 24 and width 768; the default is a small one."""

    radices: tuple[Annotated[int, Field(ge=2, le=4096)], ...] = Field(min_length=1)
    width: int = Field(default=256, ge=16, le=4096)
    depth: int = Field(default=6, ge=1, le=64)
    head_width: int = Field(default=64, ge=16, multiple_of=16)
    chain_width: int = Field(default=128, ge=8, le=1024)

    @model_validator(mode="after")
    def _heads_fit(self) -> CausalSettings:
        if self.width % self.head_width:
            raise ValueError(f"head_width {self.head_width} does not divide width {self.width}")
        return self


class CausalPrior(nn.Module):
    """p(token | tokens before it in row order)."""

    name = "causal"
    identity = NO_IDENTITY
    portable = False

    def __init__(self, settings: CausalSettings) -> None:
        super().__init__()
        self.settings = settings
        self.layout = make_layout(settings.radices, len(settings.radices), (1,))
        self.embed = nn.Linear(self.layout.bits, settings.width)
        self.start = nn.Parameter(torch.randn(settings.width) * 0.02)
        self.blocks = nn.ModuleList(CausalBlock(settings) for _ in range(settings.depth))
        self.norm = nn.LayerNorm(settings.width)
        self.condition_head = nn.Linear(settings.width, settings.chain_width)
        self.chain = Chain(self.layout.bits, settings.chain_width)

    def forward(self, signs: Tensor) -> Tensor:
        """Logits (B, T, h, w, bits) of binary digits given as signs ±1 of the same shape, each from those before it."""
        batch, frames, height, width, bits = signs.shape
        rows = signs.reshape(batch, -1, bits)
        before = torch.cat([self.start.expand(batch, 1, -1), self.embed(rows[:, :-1])], 1)
        turns = rotations(Grid(frames, height, width), self.settings.head_width)
        hidden = before
        for block in self.blocks:
            hidden = block(hidden, turns)
        condition = self.condition_head(self.norm(hidden)).flatten(0, 1).float()
        return self.chain(condition, rows.flatten(0, 1), range(bits)).reshape(signs.shape)

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        """Ask token by token, every digit of one before the next; all in one chunk. Not portable."""
        layout, chain = self.layout.first(radices), FloatChain(self.chain)
        cache = KeyValueCache(self, grid)
        signs = np.zeros((1, self.layout.bits), np.float32)
        for token in range(grid.tokens):
            state = cache.next_condition(signs if token else None)
            signs = np.zeros_like(signs)
            for digit, radix in enumerate(layout.radices):
                span = layout.digit_span(digit)
                nodes = tree_frequencies(chain, state, span)
                frequencies = nodes[:, 0] if radix == 2 else split_frequencies(nodes, radix)
                answer = yield Question(np.array([token], np.int64), digit, frequencies, 0)
                for bit, value in zip(span, code_bits(np.asarray(answer)[:, None], (radix,))[0], strict=True):
                    signs[0, bit] = 2.0 * value - 1.0
                    state = chain.learn(state, bit, signs[:, bit])


class CausalBlock(nn.Module):
    """Pre-norm attention to earlier tokens, then a feed-forward layer."""

    def __init__(self, settings: CausalSettings) -> None:
        super().__init__()
        width, self.head_width = settings.width, settings.head_width
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: Tensor, turns: Tensor) -> Tensor:
        """(B, N, width) → (B, N, width); position n sees 0 … n."""
        query, key, value = self.project(hidden, turns)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.finish(hidden, attended)

    def project(self, hidden: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value (B, heads, N, head_width), the first two turned to their positions."""
        projected = self.query_key_value(self.attention_norm(hidden))
        query, key, value = projected.unflatten(-1, (3, -1, self.head_width)).permute(2, 0, 3, 1, 4)
        return rotate(query, turns), rotate(key, turns), value

    def finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """Add what attention (B, heads, N, head_width) and the feed-forward layer say."""
        hidden = hidden + self.attention_out(attended.transpose(1, 2).flatten(2))
        return hidden + self.feed(self.feed_norm(hidden))


class KeyValueCache:
    """Keys and values of every token so far, in memory allocated once for the whole grid."""

    def __init__(self, prior: CausalPrior, grid: Grid) -> None:
        settings = prior.settings
        heads = settings.width // settings.head_width
        self.prior, self.turns = prior, rotations(grid, settings.head_width)
        self.keys = torch.zeros(settings.depth, 1, heads, grid.tokens, settings.head_width)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    @torch.no_grad()
    def next_condition(self, signs: np.ndarray | None) -> Tensor:
        """The chain state (1, chain_width) of the next token; `signs` (1, bits) are the last's, None at the start."""
        prior, here = self.prior, self.length
        hidden = prior.start[None, None] if signs is None else prior.embed(torch.from_numpy(signs))[None]
        for i, block in enumerate(prior.blocks):
            assert isinstance(block, CausalBlock)
            query, key, value = block.project(hidden, self.turns[here : here + 1])
            self.keys[i, :, :, here], self.values[i, :, :, here] = key[:, :, 0], value[:, :, 0]
            keys, values = self.keys[i, :, :, : here + 1], self.values[i, :, :, : here + 1]
            hidden = block.finish(hidden, F.scaled_dot_product_attention(query, keys, values))
        self.length += 1
        return prior.condition_head(prior.norm(hidden))[0]


def rotations(grid: Grid, head_width: int) -> Tensor:
    """(N, head_width / 2) complex64 of modulus 1: a quarter turns with the frame, the rest with row and column."""
    pairs = head_width // 2
    positions = torch.from_numpy(np.indices((grid.frames, grid.height, grid.width)).reshape(3, -1))
    shares = (pairs // 4, (pairs - pairs // 4) // 2, pairs - pairs // 4 - (pairs - pairs // 4) // 2)
    angles = [
        position[:, None] * 64.0 ** (-torch.arange(share) / share)
        for position, share in zip(positions, shares, strict=True)
    ]
    joined = torch.cat(angles, 1).float()
    return torch.polar(torch.ones_like(joined), joined)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """(…, N, head_width) turned by (N, head_width / 2)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)
