"""The masked prior in floating point. What enters: known binary digits. What leaves: logits of unknown ones.

    known digits ──window──► residual body ──► condition of each token ──chain──► logit of bit d given bits < d

The body gathers neighbours by 3×3 convolutions over the token grid; the chain (NADE, arXiv:1605.02226) gives the digits
inside a token one after another. This form is trained and compared with; `exact.py` runs the same network in integers,
and the constants of that arithmetic stand here because training rounds as they demand (quantization-aware training).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bsq.prior.base import NO_IDENTITY, TOTAL_FREQUENCY, Conversation, Grid
from bsq.prior.conversation import converse_in_layers
from bsq.prior.layout import Layout, make_layout
from bsq.settings import Settings

ACTIVATION_MAX = 127  # activations of the body are integers 0 … 127 …
ACTIVATION_UNIT = 1 / 16  # … in this unit
RESIDUAL_UNIT = 1 / 256
CHAIN_MAX = 511
CHAIN_UNIT = 1 / 32
LOGIT_UNIT = 1 / 64
MULTIPLIER_BITS = 7


class MaskedSettings(Settings):
    """Shape of a masked prior.

    radices       of the codes it models; any first digits of them can be coded alone
    layer_digits  digits coded together; a stream can be cut between layers
    passes        passes over the grid for the first layer, the second, …; the last entry serves all further ones
    width         channels of the body
    blocks        residual blocks of the body
    chain_width   units of the chain
    window        side of the square of tokens the first layer sees
    """

    radices: tuple[Annotated[int, Field(ge=2, le=4096)], ...] = Field(min_length=1)
    layer_digits: int = Field(default=9, ge=1)
    passes: tuple[Annotated[int, Field(ge=1, le=12)], ...] = Field(default=(6, 4), min_length=1)
    width: int = Field(default=128, ge=8, le=512, multiple_of=8)
    blocks: int = Field(default=4, ge=0, le=16)
    chain_width: int = Field(default=128, ge=8, le=256, multiple_of=8)
    window: int = Field(default=5, ge=1, le=9)

    def layout(self) -> Layout:
        """The layers of digits this prior codes."""
        return make_layout(self.radices, self.layer_digits, self.passes)


class RoundedConv(nn.Conv2d):
    """A convolution whose weights can be rounded as `exact.py` stores them: int8 with a scale per output row."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__(inputs, outputs, side, padding=side // 2)

    def forward(self, x: Tensor, rounding: Rounding | None = None) -> Tensor:
        """(B, inputs, h, w) → (B, outputs, h, w)."""
        weight = self.weight if rounding is None else rounding.weights(self.weight)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


class Convolutions(nn.ModuleList):
    """A list of them."""

    def __iter__(self) -> Iterator[RoundedConv]:
        return super().__iter__()  # type: ignore[return-value]


class Rounding:
    """Rounds weights and activations to the integers of `exact.py`; gradients pass straight through."""

    def weights(self, weight: Tensor) -> Tensor:
        """(rows, …) → the same, each row a multiple of its scale, at most 127 of them."""
        scale = weight_scales(weight).reshape(-1, *[1] * (weight.ndim - 1))
        rounded = (weight / scale).round_().clamp_(-127, 127) * scale
        return weight + (rounded - weight).detach()

    def units(self, x: Tensor, unit: float) -> Tensor:
        """The same shape, in whole units."""
        return x + ((x / unit).round_() * unit - x).detach()


def weight_scales(weight: Tensor) -> Tensor:
    """(rows, …) → (rows,) the smallest scale m·2^e with a 7-bit m that fits every row into −127 … 127."""
    largest = weight.detach().float().flatten(1).abs().amax(1).clamp_min(2.0**-20)
    mantissa, exponent = torch.frexp(largest / 127)
    return torch.ldexp(torch.ceil(torch.ldexp(mantissa, torch.tensor(MULTIPLIER_BITS))), exponent - MULTIPLIER_BITS)


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
        self.gathers = Convolutions(RoundedConv(width, width, 3) for _ in range(settings.blocks))
        self.mixes = Convolutions(RoundedConv(width, width, 1) for _ in range(settings.blocks))
        self.condition_head = RoundedConv(width, chain, 1)
        self.chain_in = nn.Parameter(torch.randn(bits, chain) * 0.1)
        self.chain_out = nn.Parameter(torch.randn(bits, chain) * (2 / chain) ** 0.5 * 0.5)
        self.chain_bias = nn.Parameter(torch.zeros(bits))
        for mix in self.mixes:
            nn.init.zeros_(mix.weight)

    def condition(self, signs: Tensor, rounding: Rounding | None = None) -> Tensor:
        """Known binary digits (B, bits, h, w) as ±1, unknown as 0 → condition (B, h, w, chain_width)."""
        hidden = self.window(add_flags(signs, self.layout), rounding)
        for gather, mix in zip(self.gathers, self.mixes, strict=True):
            inner = gather(activate(hidden, rounding), rounding)
            hidden = hidden + mix(activate(inner, rounding), rounding)
        condition = self.condition_head(activate(hidden, rounding), rounding)
        return condition.permute(0, 2, 3, 1).float()

    def chain(self, condition: Tensor, signs: Tensor, bits: range, rounding: Rounding | None = None) -> Tensor:
        """Logits (n, len(bits)) of consecutive bits, each given all earlier ones.

        condition  (n, chain_width) of n tokens
        signs      (n, bits) ±1, all bits before bits.stop - 1 known
        """
        entering: Tensor = self.chain_in
        leaving: Tensor = self.chain_out
        if rounding is not None:
            condition, entering = rounding.units(condition, CHAIN_UNIT), rounding.units(entering, CHAIN_UNIT)
            leaving = rounding.weights(leaving)
        state = condition + signs[:, : bits.start] @ entering[: bits.start]
        logits = []
        for bit in bits:
            if bit > bits.start:
                state = torch.addcmul(state, signs[:, bit - 1, None], entering[bit - 1])
            logits.append(clip(state, CHAIN_MAX * CHAIN_UNIT) @ leaving[bit])
        return torch.stack(logits, 1) + self.chain_bias[bits.start : bits.stop]

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        """Ask for every digit, layer by layer. Not portable: another machine may compute other frequencies."""
        layout = self.layout.first(radices)
        return converse_in_layers(FloatNetwork(self, grid), layout, grid, self.layout.bits)


class FloatNetwork:
    """A masked prior seen by the conversation: conditions and chained frequencies, computed in floating point."""

    def __init__(self, prior: MaskedPrior, grid: Grid) -> None:
        self.prior, self.grid = prior, grid

    @torch.no_grad()
    def condition(self, signs: np.ndarray, tokens: np.ndarray) -> Tensor:
        """Known binary digits (N, bits) int8 ±1 or 0 → chain state (n, chain_width) of `tokens`."""
        grid = self.grid
        planes = torch.from_numpy(signs).float().reshape(grid.frames, grid.height, grid.width, -1).permute(0, 3, 1, 2)
        condition = self.prior.condition(planes).reshape(grid.tokens, -1)[torch.from_numpy(tokens)]
        return condition + torch.from_numpy(signs[tokens]).float() @ self.prior.chain_in

    @torch.no_grad()
    def frequencies(self, state: Tensor, bit: int) -> np.ndarray:
        """p(bit = 1)·2^16 of each row of the chain state, (n,) uint16 in 1 … 65535."""
        inner = clip(state, CHAIN_MAX * CHAIN_UNIT)
        p = torch.sigmoid(inner @ self.prior.chain_out[bit] + self.prior.chain_bias[bit])
        return (p * TOTAL_FREQUENCY).round().clamp(1, TOTAL_FREQUENCY - 1).numpy().astype(np.uint16)

    @torch.no_grad()
    def learn(self, state: Tensor, bit: int, signs: np.ndarray) -> Tensor:
        """The chain state once `bit` is known to be `signs` (n,) ±1."""
        return state + torch.from_numpy(signs).float()[:, None] * self.prior.chain_in[bit]


def activate(x: Tensor, rounding: Rounding | None) -> Tensor:
    """ReLU with the upper limit that integer activations have."""
    largest = ACTIVATION_MAX * ACTIVATION_UNIT
    return clip(x, largest) if rounding is None else RoundedClip.apply(x, largest)


class RoundedClip(torch.autograd.Function):
    """Clip to 0 … largest and round to whole activation units; the gradient is that of the clip."""

    @staticmethod
    def forward(context: Any, x: Tensor, largest: float) -> Tensor:
        y = x.clamp(0, largest).mul_(1 / ACTIVATION_UNIT).round_().mul_(ACTIVATION_UNIT)
        context.save_for_backward(y)
        context.largest = largest
        return y

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (y,) = context.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, y, 0.0, context.largest), None


def clip(x: Tensor, largest: float) -> Tensor:
    """Clip to 0 … largest."""
    return F.hardtanh(x, 0.0, largest)


def input_channels(layout: Layout) -> int:
    """Channels of the first layer: binary digits, one known flag a layer, one that tells the grid from its outside."""
    return layout.bits + len(layout.layers) + 1


def add_flags(signs: Tensor, layout: Layout) -> Tensor:
    """Binary digits (B, bits, h, w) ±1 or 0 → (B, bits + layers + 1, h, w)."""
    known = signs[:, [layer.bits.start for layer in layout.layers]].abs()
    return torch.cat([signs, known, torch.ones_like(signs[:, :1])], 1)
