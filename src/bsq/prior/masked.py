"""The masked prior in floating point. What enters: known binary digits. What leaves: logits of unknown ones.

    known digits ──window──► residual body ──► condition of each token ──chain──► logit of bit d given bits < d
    digits of the frame before ──memory──┘

The body gathers neighbours by 3×3 convolutions over the token grid; the chain (NADE, arXiv:1605.02226) gives the digits
inside a token one after another. This form is trained and compared with; `exact.py` runs the same network in integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bsq.prior.base import NO_IDENTITY, Conversation, Grid
from bsq.prior.chain import Chain, FloatChain
from bsq.prior.conversation import converse_in_layers
from bsq.prior.layout import Layout, make_layout
from bsq.prior.rounding import Rounding, activate
from bsq.settings import Settings


class MaskedSettings(Settings):
    """Shape of a masked prior.

    radices       of the codes it models; any first digits of them can be coded alone
    layer_digits  digits coded together; a stream can be cut between layers
    passes        passes over the grid for the first layer, the second, …; the last entry serves all further ones.
                  Later layers gain little from their own neighbours (docs/trials.md), so they take few
    width         channels of the body
    blocks        residual blocks of the body
    chain_width   units of the chain
    window        side of the square of tokens the first layer sees
    earlier_frames  1: a frame is expected from the one before it; 0: every frame by itself
    """

    radices: tuple[Annotated[int, Field(ge=2, le=4096)], ...] = Field(min_length=1, max_length=1024)
    layer_digits: int = Field(default=9, ge=1)
    passes: tuple[Annotated[int, Field(ge=1, le=12)], ...] = Field(default=(6, 4, 2), min_length=1)
    width: int = Field(default=128, ge=8, le=512, multiple_of=8)
    blocks: int = Field(default=4, ge=0, le=16)
    chain_width: int = Field(default=128, ge=8, le=256, multiple_of=8)
    window: Literal[1, 3, 5, 7, 9] = 5
    earlier_frames: Literal[0, 1] = 0

    def layout(self) -> Layout:
        """The layers of digits this prior codes."""
        return make_layout(self.radices, self.layer_digits, self.passes)


class RoundedConv(nn.Module):
    """A convolution whose weights can be rounded as `exact.py` stores them: int8 with a scale per output row.

    weight (outputs, side²·inputs): the neighbours row by row, the channels of each together
    """

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.inputs, self.side = inputs, side
        self.weight = nn.Parameter(torch.randn(outputs, side * side * inputs) * (side * side * inputs) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, rounding: Rounding | None = None) -> Tensor:
        """(B, inputs, h, w) → (B, outputs, h, w)."""
        weight = self.weight if rounding is None else rounding.weights(self.weight)
        kernel = weight.view(-1, self.side, self.side, self.inputs).permute(0, 3, 1, 2)
        return F.conv2d(x, kernel, self.bias, padding=self.side // 2)


class Convolutions(nn.ModuleList):
    """A list of them."""

    def __iter__(self) -> Iterator[RoundedConv]:
        return super().__iter__()  # type: ignore[return-value]


class MaskedPrior(nn.Module):
    """p(digits of this pass | digits of earlier layers and passes), in floating point: for training and comparison."""

    name = "masked"
    identity = NO_IDENTITY
    portable = False

    def __init__(self, settings: MaskedSettings) -> None:
        super().__init__()
        self.settings = settings
        self.layout = settings.layout()
        bits, width, chain = self.layout.bits, settings.width, settings.chain_width
        self.window = RoundedConv(input_channels(self.layout), width, settings.window)
        # A convolution of its own: computed once a frame, and not at all for pictures.
        self.memory = RoundedConv(bits + 1, width, settings.window) if settings.earlier_frames else None
        self.gathers = Convolutions(RoundedConv(width, width, 3) for _ in range(settings.blocks))
        self.mixes = Convolutions(RoundedConv(width, width, 1) for _ in range(settings.blocks))
        self.condition_head = RoundedConv(width, chain, 1)
        self.chain = Chain(bits, chain)
        for mix in self.mixes:
            nn.init.zeros_(mix.weight)

    def condition(self, signs: Tensor, memory: Tensor | None = None, rounding: Rounding | None = None) -> Tensor:
        """Known binary digits (B, bits, h, w) as ±1, unknown as 0 → condition (B, h, w, chain_width)."""
        hidden = self.window(add_flags(signs, self.layout), rounding)
        if memory is not None:
            hidden = hidden + memory
        for gather, mix in zip(self.gathers, self.mixes, strict=True):
            inner = gather(activate(hidden, rounding), rounding)
            hidden = hidden + mix(activate(inner, rounding), rounding)
        condition = self.condition_head(activate(hidden, rounding), rounding)
        return condition.permute(0, 2, 3, 1).float()

    def remember(self, before: Tensor, rounding: Rounding | None = None) -> Tensor | None:
        """Digits (B, bits, h, w) of the frame before → what they add to hidden (B, width, h, w); None if that is
        nothing. A sample that is all unknown has no frame before and gets zeros.
        """
        if self.memory is None:
            return None
        exists = before.flatten(1).any(1).to(before.dtype)[:, None, None, None]
        seen = torch.cat([before, exists.expand(-1, 1, *before.shape[2:])], 1)
        return self.memory(seen, rounding) * exists

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        """Ask for every digit, layer by layer. Not portable: another machine may compute other frequencies."""
        layout = self.layout.first(radices)
        return converse_in_layers(FloatNetwork(self, grid), layout, grid, self.layout.bits)


class FloatNetwork(FloatChain):
    """A masked prior seen by the conversation: conditions and chained frequencies, computed in floating point."""

    def __init__(self, prior: MaskedPrior, grid: Grid) -> None:
        super().__init__(prior.chain)
        self.prior, self.grid = prior, grid

    @torch.no_grad()
    def remember(self, before: np.ndarray | None) -> Tensor | None:
        return None if before is None else self.prior.remember(self._planes(before))

    @torch.no_grad()
    def condition(self, signs: np.ndarray, tokens: np.ndarray, memory: Tensor | None) -> Tensor:
        """Known binary digits (N, bits) int8 ±1 or 0 → chain state (n, chain_width) of `tokens`."""
        conditions = self.prior.condition(self._planes(signs), memory)
        condition = conditions.reshape(len(signs), -1)[torch.from_numpy(tokens)]
        return condition + torch.from_numpy(signs[tokens]).float() @ self.chain.entering

    def _planes(self, signs: np.ndarray) -> Tensor:
        """(N, bits) of one frame → (1, bits, h, w)."""
        return torch.from_numpy(signs).float().reshape(1, self.grid.height, self.grid.width, -1).permute(0, 3, 1, 2)


def input_channels(layout: Layout) -> int:
    """Channels of the first layer: binary digits, one known flag a layer, one that tells the grid from its outside."""
    return layout.bits + len(layout.layers) + 1


def add_flags(signs: Tensor, layout: Layout) -> Tensor:
    """Binary digits (B, bits, h, w) ±1 or 0 → (B, bits + layers + 1, h, w)."""
    known = signs[:, [layer.bits.start for layer in layout.layers]].abs()
    return torch.cat([signs, known, torch.ones_like(signs[:, :1])], 1)
