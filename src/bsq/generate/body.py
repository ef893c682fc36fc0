"""The Transformer under the generator. What enters and leaves: hidden (B, T, S, D), S the class's place and h·w tokens.

All tokens of a frame see each other and earlier frames. There are two ways through a block that compute the same: whole
clips, for training; and some places of one frame beside what a `Memory` holds of the others, for sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from bsq.errors import SettingsError
from bsq.layers.attention import Attention, attend
from bsq.layers.block import Mlp
from bsq.layers.positions import Rotary
from bsq.layers.products import linear

Norm = Literal["pre", "post"]


class Memory:
    """Keys and values (B, heads, S, d) that one block has seen: of earlier frames, and of the frame at work."""

    def __init__(self, window_frames: int | None) -> None:
        self.window_frames = window_frames
        self._before: list[tuple[Tensor, Tensor]] = []
        self._now: tuple[Tensor, Tensor] | None = None

    def put(self, keys: Tensor, values: Tensor, places: Tensor | None) -> tuple[Tensor, Tensor]:
        """Write those of `places` (B, n) of the frame at work, None: of all; → all that its tokens see."""
        if places is None or self._now is None:
            assert places is None, "a frame is looked at as a whole first"
            self._now = keys, values
        else:
            where = places[:, None, :, None].expand(-1, keys.shape[1], -1, keys.shape[3])
            self._now = self._now[0].scatter(2, where, keys), self._now[1].scatter(2, where, values)
        if not self._before:
            return self._now
        seen = [*self._before, self._now]
        return torch.cat([frame[0] for frame in seen], 2), torch.cat([frame[1] for frame in seen], 2)

    def advance(self) -> None:
        """The frame at work is done; another begins."""
        assert self._now is not None
        self._before.append(self._now)
        self._now = None
        if self.window_frames is not None:
            self._before = self._before[len(self._before) - self.window_frames + 1 :] if self.window_frames > 1 else []


class GeneratorBlock(nn.Module):
    """Attention and MLP, each with its LayerNorm before it (x + f(LN x)) or behind it (LN(x + f(x)))."""

    def __init__(
        self, width: int, head_width: int, inner: int, norm: Norm, dropout: float, window_frames: int | None
    ) -> None:
        super().__init__()
        self.norm = norm
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, head_width, "causal", window_frames)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, inner)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, rotary: Rotary | None) -> Tensor:
        """Whole clips (B, T, S, D)."""
        return self._through(tokens, lambda normed: self.attention(normed, rotary, None), lambda whole: whole)

    def look(
        self, tokens: Tensor, places: Tensor | None, rotary: Rotary | None, memory: Memory, wanted: Tensor | None
    ) -> Tensor:
        """Tokens (B, n, D) of `places` (B, n) of a frame, None: all → (B, m, D) of the rows `wanted` (B, m) of them,
        None: all.
        """

        def keep(whole: Tensor) -> Tensor:
            return whole if wanted is None else whole.gather(1, wanted[..., None].expand(-1, -1, whole.shape[-1]))

        return self._through(tokens, lambda normed: self._beside(normed, places, rotary, memory, keep, wanted), keep)

    def _beside(
        self,
        normed: Tensor,
        places: Tensor | None,
        rotary: Rotary | None,
        memory: Memory,
        keep: Callable[[Tensor], Tensor],
        wanted: Tensor | None,
    ) -> Tensor:
        layer, width = self.attention, normed.shape[-1]
        weight, bias = layer.qkv.weight, layer.qkv.bias
        queries = self._heads(linear(keep(normed), weight[:width], bias[:width]))
        keys, values = self._heads(linear(normed, weight[width:], bias[width:])).chunk(2, dim=1)
        if rotary is not None:
            queries, keys = _rows(rotary, wanted).turn(queries), rotary.turn(keys)
        mixed = attend(queries, *memory.put(keys, values, places), None)
        return layer.out(mixed.transpose(1, 2).flatten(2))

    def _heads(self, rows: Tensor) -> Tensor:
        """(B, n, k·D) → (B, k·heads, n, d)."""
        return rows.unflatten(-1, (-1, self.attention.head_width)).transpose(1, 2)

    def _through(self, tokens: Tensor, mix: Callable[[Tensor], Tensor], keep: Callable[[Tensor], Tensor]) -> Tensor:
        match self.norm:
            case "pre":
                tokens = keep(tokens) + self.drop(mix(self.attention_norm(tokens)))
                return tokens + self.drop(self.mlp(self.mlp_norm(tokens)))
            case "post":
                tokens = self.attention_norm(keep(tokens) + self.drop(mix(tokens)))
                return self.mlp_norm(tokens + self.drop(self.mlp(tokens)))
            case other:
                raise SettingsError(f"no place for norms {other!r}")


def _rows(rotary: Rotary, wanted: Tensor | None) -> Rotary:
    """Angles (1 or B, 1, n, d) → of the rows wanted (B, m)."""
    if wanted is None:
        return rotary
    where = wanted[:, None, :, None].expand(-1, 1, -1, rotary.cos.shape[-1])
    tables = [table.expand(len(wanted), -1, -1, -1).gather(2, where) for table in (rotary.cos, rotary.sin)]
    return Rotary(*tables)
