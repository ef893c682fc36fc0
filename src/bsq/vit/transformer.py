"""The body that encoder and decoder share. What enters and leaves: hidden (B, T, h, w, D)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bsq.layers.block import Block
from bsq.layers.positions import (
    LearnedPositions,
    LearnedPositionsSettings,
    Offset,
    Rotary,
    RotaryPositionsSettings,
    rotary_table,
)
from bsq.layers.windows import FullAttentionSettings, WindowAttentionSettings, cut_windows
from bsq.parts import Reach
from bsq.settings import Settings

# At use, tokens go through a block in portions of this many, so that memory beyond a few copies of hidden stays
# constant.
PORTION = 16_384


class TransformerSettings(Settings):
    """Size, positions and reach of attention of a transformer. The defaults are ViT-B (PAPER: 256-px models)."""

    width: PositiveInt = 768
    depth: PositiveInt = 12
    head_width: int = Field(default=64, ge=2, multiple_of=2)
    mlp_ratio: PositiveInt = 4
    positions: Annotated[LearnedPositionsSettings | RotaryPositionsSettings, Field(discriminator="kind")] = (
        RotaryPositionsSettings()
    )
    attention: Annotated[FullAttentionSettings | WindowAttentionSettings, Field(discriminator="kind")] = (
        FullAttentionSettings()
    )
    time: Literal["causal", "full"] = "causal"

    @model_validator(mode="after")
    def _heads_fill_width(self) -> Self:
        if self.width % self.head_width:
            raise ValueError(f"width {self.width} is not a multiple of head_width {self.head_width}")
        if isinstance(self.positions, RotaryPositionsSettings) and self.head_width < 8:
            raise ValueError(f"rotary rows, columns and time need a head_width of 8 or more, got {self.head_width}")
        return self

    def reach(self, rows: int, columns: int) -> Reach:
        """How far a token of a rows × columns grid sees: half a window more with every block, or everything."""
        match self.attention:
            case WindowAttentionSettings(size=size):
                halves = self.depth * size // 2
                return Reach(margin=-(-halves // size) * size, step=size)
            case _:
                return Reach(margin=max(rows, columns), step=1)


class Transformer(nn.Module):
    """Positions, LayerNorm, blocks, LayerNorm (PAPER: §3.1, in the released code's order).

    `recompute` is a training choice, not part of the model: forget activations and compute them again in the backward
    pass.
    """

    recompute = False

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        match settings.positions:
            case LearnedPositionsSettings() as positions:
                self.positions: nn.Module = LearnedPositions(positions, width)
            case RotaryPositionsSettings():
                self.positions = Offset(width)
            case _:
                raise AssertionError(settings.positions)
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            Block(width, settings.head_width, settings.mlp_ratio * width, settings.time) for _ in range(settings.depth)
        )
        self.norm_out = nn.LayerNorm(width)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.norm_in(self.positions(hidden))
        for number, block in enumerate(self.blocks):
            hidden = self._through(block, number, hidden)
        return self.norm_out(hidden)

    def _through(self, block: nn.Module, number: int, hidden: Tensor) -> Tensor:
        frames, rows, columns = hidden.shape[1:4]
        windows = cut_windows(self.settings.attention, number, rows, columns, hidden.device)
        rotary = self._rotary(frames, windows.window_rows, windows.window_columns, hidden.device)
        tokens = windows.split(hidden)
        regions = None if windows.regions is None else windows.regions.repeat(hidden.shape[0], 1)
        if self.recompute and torch.is_grad_enabled():
            tokens = checkpoint(block, tokens, rotary, regions, use_reentrant=False)
        elif torch.is_grad_enabled():
            tokens = block(tokens, rotary, regions)
        else:
            tokens = _in_portions(block, tokens, rotary, regions)
        return windows.join(tokens)

    def _rotary(self, frames: int, rows: int, columns: int, device: torch.device) -> Rotary | None:
        match self.settings.positions:
            case RotaryPositionsSettings() as positions:
                return rotary_table(positions, frames, rows, columns, self.settings.head_width, device)
            case _:
                return None


def _in_portions(block: nn.Module, tokens: Tensor, rotary: Rotary | None, regions: Tensor | None) -> Tensor:
    step = max(1, PORTION // (tokens.shape[1] * tokens.shape[2]))
    if tokens.shape[0] <= step:
        return block(tokens, rotary, regions)
    parts = []
    for start in range(0, tokens.shape[0], step):
        part = slice(start, start + step)
        parts.append(block(tokens[part], rotary, None if regions is None else regions[part]))
    return torch.cat(parts)


def map_in_portions(function: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    """`function` of each token of hidden (B, T, h, w, D), in portions when no gradient is wanted."""
    tokens = hidden.reshape(-1, hidden.shape[-1])
    if torch.is_grad_enabled() or tokens.shape[0] <= PORTION:
        return function(hidden)
    return torch.cat([function(part) for part in tokens.split(PORTION)]).view(*hidden.shape[:-1], -1)


def initialise(module: nn.Module) -> None:
    """Weights of every Linear: normal of standard deviation 0.02, cut off at 2 deviations; biases 0 (released code)."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02, a=-0.04, b=0.04)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
