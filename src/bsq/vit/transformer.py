"""The body that encoder and decoder share. What enters and leaves: hidden (B, T, h, w, D).

With gradients all frames of a clip go through a block together. Without, they go one after another, each in products
of one frame's size, so that its roundings do not depend on how many frames come at once: a clip gives the same bits
whole, in pieces and frame by frame. Between pieces a `BodyPast` remembers what later frames see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bsq.layers.block import Block
from bsq.layers.past import Past
from bsq.layers.positions import (
    LearnedPositions,
    LearnedPositionsSettings,
    Offset,
    Rotary,
    RotaryPositionsSettings,
    rotary_table,
)
from bsq.layers.windows import FullAttentionSettings, WindowAttentionSettings, Windows, cut_windows
from bsq.parts import Reach
from bsq.settings import Settings

# At use, tokens go through a block in portions of this many: memory beyond a copy of hidden stays constant, and on CPUs
# what lies between a block's products stays in the cache.
PORTION = 2_048
ELSEWHERE = 8  # so many times as many on other devices, which want large products


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
    window_frames: PositiveInt | None = None
    """How many frames a token sees, its own among them; None: all earlier ones, and memory that grows with them."""

    @model_validator(mode="after")
    def _heads_fill_width(self) -> Self:
        if self.width % self.head_width:
            raise ValueError(f"width {self.width} is not a multiple of head_width {self.head_width}")
        if isinstance(self.positions, RotaryPositionsSettings) and self.head_width < 8:
            raise ValueError(f"rotary rows, columns and time need a head_width of 8 or more, got {self.head_width}")
        if self.window_frames is not None and self.time == "full":
            raise ValueError("window_frames counts a frame and earlier ones; it does not go with time=full")
        return self

    def least_weights(self) -> int:
        """How many numbers the weights are at least, without building anything."""
        match self.positions:
            case LearnedPositionsSettings(rows=rows, columns=columns, frames=frames):
                table = (rows * columns + (frames if frames > 1 else 0)) * self.width
            case _:
                table = 0
        return table + self.depth * self.width**2 * (4 + 2 * self.mlp_ratio)

    def reach(self, rows: int, columns: int) -> Reach:
        """How far a token of a rows × columns grid sees: half a window more with every block, or everything."""
        match self.attention:
            case WindowAttentionSettings(size=size):
                halves = self.depth * size // 2
                return Reach(margin=-(-halves // size) * size, step=size)
            case _:
                return Reach(margin=max(rows, columns), step=1)


class BodyPast:
    """What the blocks of a transformer remember of the `frames` frames so far."""

    def __init__(self) -> None:
        self.frames = 0
        self._pasts: dict[tuple[int, int], Past] = {}

    @property
    def kept_bytes(self) -> int:
        return sum(past.kept_bytes for past in self._pasts.values())

    def at(self, block: int, portion: int, window_frames: int | None) -> Past:
        """The past of a portion of a block's tokens; empty at first."""
        return self._pasts.setdefault((block, portion), Past(window_frames))


class Transformer(nn.Module):
    """Positions, LayerNorm, blocks, LayerNorm (PAPER: §3.1, in the released code's order).

    `recompute` is a training choice, not part of the model: forget activations and compute them again in the backward
    pass.
    """

    recompute = False

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.settings = settings
        width, inner = settings.width, settings.mlp_ratio * settings.width
        match settings.positions:
            case LearnedPositionsSettings() as positions:
                self.positions: nn.Module = LearnedPositions(positions, width)
            case RotaryPositionsSettings():
                self.positions = Offset(width)
            case _:
                raise AssertionError(settings.positions)
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            Block(width, settings.head_width, inner, settings.time, settings.window_frames)
            for _ in range(settings.depth)
        )
        self.norm_out = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, past: BodyPast | None = None) -> Tensor:
        """Hidden (B, T, h, w, D) → the same shape. With a `past`, the T frames that follow it, and it goes on."""
        if torch.is_grad_enabled() or self.settings.time == "full":
            assert past is None, "only frames that see no later ones, and need no gradient, come piece by piece"
            return self._at_once(hidden)
        first = 0 if past is None else past.frames
        frames = [self.norm_in(self.positions(frame, first + t)) for t, frame in enumerate(split_frames(hidden))]
        # Blocks differ in how windows are shifted, by turns, and share all else.
        rows, columns = hidden.shape[2:4]
        windows = [cut_windows(self.settings.attention, n, rows, columns, hidden.device) for n in (0, 1)]
        rotaries = [self._rotary(first + t, 1, windows[0], hidden.device) for t in range(len(frames))]
        for number in range(len(self.blocks)):
            self._frame_by_frame(number, frames, windows[number % 2], rotaries, past)
        if past is not None:
            past.frames += len(frames)
        return torch.cat([self.norm_out(frame) for frame in frames], dim=1)

    def _at_once(self, hidden: Tensor) -> Tensor:
        hidden = self.norm_in(self.positions(hidden))
        frames, rows, columns = hidden.shape[1:4]
        for number, block in enumerate(self.blocks):
            windows = cut_windows(self.settings.attention, number, rows, columns, hidden.device)
            rotary = self._rotary(0, frames, windows, hidden.device)
            tokens = windows.split(hidden)
            regions = None if windows.regions is None else windows.regions.repeat(hidden.shape[0], 1)
            if self.recompute and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, rotary, regions, use_reentrant=False)
            elif torch.is_grad_enabled():
                tokens = block(tokens, rotary, regions)
            else:
                for part in portions(tokens):
                    tokens[part] = block(tokens[part], rotary, None if regions is None else regions[part])
            hidden = windows.join(tokens)
        return self.norm_out(hidden)

    def _frame_by_frame(
        self,
        number: int,
        frames: list[Tensor],
        windows: Windows,
        rotaries: list[Rotary | None],
        past: BodyPast | None,
    ) -> None:
        """Block `number` on each frame (B, 1, h, w, D) of the list, in place.

        Portions come in the outer loop, so that without a `past` memory holds the keys of one portion alone.
        """
        window_frames, index = self.settings.window_frames, 0
        for strip in windows.strips(frames[0].shape[0], portion(frames[0].device)):
            cut = [strip.split(frame) for frame in frames]
            for part in portions(cut[0]):
                here = Past(window_frames) if past is None else past.at(number, index, window_frames)
                marks = None if strip.regions is None else strip.regions[part]
                for tokens, rotary in zip(cut, rotaries, strict=True):
                    tokens[part] = self.blocks[number](tokens[part], rotary, marks, here)
                index += 1
            for frame, tokens in zip(frames, cut, strict=True):
                strip.join_into(frame, tokens)

    def _rotary(self, first: int, frames: int, windows: Windows, device: torch.device) -> Rotary | None:
        match self.settings.positions:
            case RotaryPositionsSettings() as positions:
                size = windows.window_rows, windows.window_columns
                return rotary_table(positions, frames, *size, self.settings.head_width, device, first)
            case _:
                return None


def portion(device: torch.device) -> int:
    """How many tokens go through a block at once."""
    return PORTION if device.type == "cpu" else ELSEWHERE * PORTION


def portions(tokens: Tensor) -> list[slice]:
    """Slices of the first axis of tokens (n, T, S, D), each of about as many tokens as go through a block at once."""
    step = max(1, portion(tokens.device) // (tokens.shape[1] * tokens.shape[2]))
    return [slice(start, start + step) for start in range(0, tokens.shape[0], step)]


def split_frames(hidden: Tensor) -> list[Tensor]:
    """Hidden (B, T, …) → T times (B, 1, …), each in memory of its own: a product's roundings may depend on where it
    lies.
    """
    if hidden.shape[1] == 1:
        return [hidden]
    return [frame.clone(memory_format=torch.contiguous_format) for frame in hidden.split(1, dim=1)]


def on_frames(function: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    """`function` of hidden (B, T, …) along its frames, one by one when no gradient is wanted."""
    if torch.is_grad_enabled() or hidden.shape[1] == 1:
        return function(hidden)
    return torch.cat([function(frame) for frame in split_frames(hidden)], dim=1)


def map_in_portions(function: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    """`function` of each token of hidden (B, T, h, w, D), in portions when no gradient is wanted."""
    tokens = hidden.reshape(-1, hidden.shape[-1])
    most = portion(tokens.device)
    if torch.is_grad_enabled() or len(tokens) <= most:
        return function(hidden)
    return torch.cat([function(part) for part in tokens.split(most)]).view(*hidden.shape[:-1], -1)


def initialise(module: nn.Module) -> None:
    """Weights of every Linear: normal of standard deviation 0.02, cut off at 2 deviations; biases 0 (released code)."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02, a=-0.04, b=0.04)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
