"""The masked prior in integers. What enters: known binary digits. What leaves: 16-bit frequencies, alike everywhere.

Range decoding breaks if encoder and decoder disagree on one probability, and float networks disagree between machines,
thread counts and batch sizes. Here weights are int8 with a scale m·2^−k per row, activations small integers, sums
exact; rescaling is an integer multiply and shift, the non-linearity a clamp, and the last integer indexes one stored
table of frequencies. Nothing is ever rounded by the machine, so nothing can differ.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bsq.errors import CheckpointError
from bsq.prior.arithmetic import FLOAT32_EXACT, Arithmetic, fastest_arithmetic
from bsq.prior.base import Conversation, Grid
from bsq.prior.conversation import converse_in_layers
from bsq.prior.masked import MaskedSettings, input_channels
from bsq.prior.rounding import ACTIVATION_MAX, ACTIVATION_UNIT, CHAIN_MAX, RESIDUAL_UNIT

ACTIVATION_SHIFT = round(np.log2(ACTIVATION_UNIT / RESIDUAL_UNIT))
TABLE_SIZE = 2048
MULTIPLIER_MAX = 127
Rows = Tensor | slice  # some rows, or all


@dataclass(frozen=True)
class IntegerLayer:
    """y = ((weight·x + bias)·multiplier + 2^(shift−1)) >> shift, row by row.

    weight int8 (outputs, inputs) · bias, multiplier, shift int32 (outputs,); 1 ≤ multiplier ≤ 127, 1 ≤ shift ≤ 30
    """

    weight: Tensor
    bias: Tensor
    multiplier: Tensor
    shift: Tensor

    def bound(self, input_max: int) -> Tensor:
        """(outputs,) int64: the largest |y| that inputs up to `input_max` can give.

        Raises CheckpointError where a sum may leave the integers that float32, or after scaling int32, holds exactly.
        """
        sums = self.weight.long().abs().sum(1) * input_max + self.bias.long().abs()
        if bool((sums >= FLOAT32_EXACT).any()):
            raise CheckpointError(
                "the prior's weights break the overflow rule: a sum may reach 2^24; retrain or refreeze"
            )
        if not (_within(self.multiplier, 1, MULTIPLIER_MAX) and _within(self.shift, 1, 30)):
            raise CheckpointError("the prior's scales are out of range; the file is damaged or not a prior")
        if bool((sums * self.multiplier + (1 << self.shift.long() - 1) >= 2**31).any()):
            raise CheckpointError(
                "the prior's weights break the overflow rule: a scaled sum may reach 2^31; retrain or refreeze"
            )
        return rescale(sums, self.multiplier, self.shift)


@dataclass(frozen=True)
class IntegerWeights:
    """All integers of an exact prior. `table` (2048,) uint16-valued int32: frequency of logit (i − 1024) / 64."""

    window: IntegerLayer
    memory: IntegerLayer | None
    gathers: tuple[IntegerLayer, ...]
    mixes: tuple[IntegerLayer, ...]
    condition_head: IntegerLayer
    chain_in: Tensor
    chain_out: IntegerLayer
    table: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, as stored."""
        named = {"chain_in": self.chain_in, "table": self.table}
        layers = {"window": self.window, "condition_head": self.condition_head, "chain_out": self.chain_out}
        layers |= {} if self.memory is None else {"memory": self.memory}
        layers |= {f"gathers.{i}": layer for i, layer in enumerate(self.gathers)}
        layers |= {f"mixes.{i}": layer for i, layer in enumerate(self.mixes)}
        for prefix, layer in layers.items():
            named |= {f"{prefix}.{field.name}": getattr(layer, field.name) for field in fields(layer)}
        return dict(sorted(named.items()))


class ExactPrior:
    """p(digits of this pass | digits of earlier layers and passes), the same integers on every machine."""

    name = "masked"
    portable = True

    def __init__(self, settings: MaskedSettings, weights: IntegerWeights, arithmetic: Arithmetic | None = None) -> None:
        """Raises CheckpointError if shapes do not fit the settings or a sum could overflow."""
        check_weights(settings, weights)
        self.settings, self.weights = settings, weights
        self.layout = settings.layout()
        self.arithmetic = arithmetic or fastest_arithmetic()
        self.identity = digest(settings, weights)[:8]
        self.prepared = prepare(weights, self.arithmetic)
        self.frequency_table = weights.table.numpy().astype(np.uint16)

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        """Ask for every digit, layer by layer. Raises SettingsError for radices that do not begin the model's."""
        layout = self.layout.first(radices)
        frame = Grid(1, grid.height, grid.width)
        return converse_in_layers(IntegerNetwork(self, frame), layout, grid, self.layout.bits)

    def using(self, arithmetic: Arithmetic) -> ExactPrior:
        """The same prior computed another way."""
        return ExactPrior(self.settings, self.weights, arithmetic)


# The caller may have asked torch for coarser products (`torch.autocast`); integers do not survive them.
in_full_precision = torch.autocast("cpu", enabled=False)


class IntegerNetwork:
    """An exact prior on frames of one grid, as the conversation sees it. All of this class is an integer region."""

    def __init__(self, prior: ExactPrior, grid: Grid) -> None:
        self.prior, self.grid = prior, grid
        self.layers, self.arithmetic = prior.prepared, prior.arithmetic
        self.flag_bits = [layer.bits.start for layer in prior.layout.layers]

    @in_full_precision
    def remember(self, before: np.ndarray | None) -> Tensor | None:
        """Binary digits (N, bits) int8 of the frame before → what they add to hidden (N, width) int32."""
        layer, side = self.layers.memory, self.prior.settings.window
        if before is None or layer is None:
            return None
        seen = self._zero_rows(self.prior.layout.bits + 1)
        seen[:-1] = torch.cat([torch.from_numpy(before), torch.ones(len(before), 1, dtype=torch.int8)], 1)
        return self._apply(layer, self._gather(seen, side, slice(None)))

    @in_full_precision
    def condition(self, signs: np.ndarray, tokens: np.ndarray, memory: Tensor | None = None) -> Tensor:
        """Known binary digits (N, bits) int8 ±1 or 0 → chain state (n, chain_width) of `tokens`."""
        settings, weights = self.prior.settings, self.layers
        reach = reached_tokens(self.grid, tokens.tobytes(), settings.blocks)
        known = torch.from_numpy(signs)
        planes = self._zero_rows(input_channels(self.prior.layout))
        planes[:-1] = torch.cat([known, known[:, self.flag_bits].abs(), torch.ones_like(known[:, :1])], 1)
        hidden = torch.zeros(self.grid.tokens, settings.width, dtype=torch.int32)
        hidden[reach[0]] = self._apply(weights.window, self._gather(planes, settings.window, reach[0]))
        if memory is not None:
            hidden[reach[0]] += memory[reach[0]]
        active = self._zero_rows(settings.width)
        for gather, mix, here, before in zip(weights.gathers, weights.mixes, reach[1:], reach, strict=False):
            active[:-1][before] = activate(hidden[before])
            inner = self._apply(gather, self._gather(active, 3, here)).clamp_(0, ACTIVATION_MAX).to(torch.int8)
            hidden[here] += self._apply(mix, inner)
        condition = self._apply(weights.condition_head, activate(hidden[reach[-1]]))
        entering = known[reach[-1]].to(weights.chain_in.dtype) @ weights.chain_in
        return condition.to(self.arithmetic.chain_dtype) + entering

    def frequencies(self, state: Tensor, bit: int) -> np.ndarray:
        """p(bit = 1)·2^16 of each row of the chain state, (n,) uint16 in 1 … 65535."""
        return self.prior.frequency_table[self.logits(state, bit)]

    @in_full_precision
    def logits(self, state: Tensor, bit: int) -> np.ndarray:
        """The integer logit of each row as an index of the table, (n,) int64 in 0 … 2047."""
        leaving = self.layers.chain_out
        sums = (state.clamp(0, CHAIN_MAX) @ leaving.weight[bit]).to(torch.int32) + leaving.bias[bit]
        index = rescale(sums, leaving.multiplier[bit], leaving.shift[bit]) + TABLE_SIZE // 2
        return index.clamp_(0, TABLE_SIZE - 1).long().numpy()

    def learn(self, state: Tensor, bit: int, signs: np.ndarray) -> Tensor:
        """The chain state once `bit` is known to be `signs` (n,) ±1."""
        known = torch.from_numpy(signs).to(state.dtype)
        return torch.addcmul(state, known[:, None], self.layers.chain_in[bit])

    def _zero_rows(self, channels: int) -> Tensor:
        """One row a token and a last one, always zero, that stands for everything outside the grid."""
        return torch.zeros(self.grid.tokens + 1, channels, dtype=torch.int8)

    def _gather(self, rows: Tensor, side: int, tokens: Rows) -> Tensor:
        """(N + 1, channels) → (n, side²·channels): the square of neighbours around each of `tokens`."""
        index = neighbours(self.grid, side)[tokens]
        return rows.index_select(0, index.reshape(-1)).reshape(len(index), -1)

    def _apply(self, layer: IntegerLayer, rows: Tensor) -> Tensor:
        sums = self.arithmetic.multiply(rows, layer.weight)
        return rescale(sums.add_(layer.bias), layer.multiplier, layer.shift)


def rescale(sums: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
    """(sums·multiplier + half) >> shift, in place; rounds halves up. `IntegerLayer.bound` keeps it within int32."""
    return (
        sums.mul_(multiplier)
        .add_(torch.bitwise_left_shift(torch.ones_like(shift), shift - 1))
        .bitwise_right_shift_(shift)
    )


def activate(hidden: Tensor) -> Tensor:
    """The residual stream (int32) → activations int8 in 0 … 127."""
    rounded = (hidden + (1 << (ACTIVATION_SHIFT - 1))).bitwise_right_shift_(ACTIVATION_SHIFT)
    return rounded.clamp_(0, ACTIVATION_MAX).to(torch.int8)


@lru_cache(maxsize=8)
def neighbours(grid: Grid, side: int) -> Tensor:
    """(N, side²) int32: flat index of each neighbour in the same frame, row by row; N where it is outside."""
    frame, row, column = np.indices((grid.frames, grid.height, grid.width)).reshape(3, -1, 1)
    offset_row, offset_column = np.indices((side, side)).reshape(2, 1, -1) - side // 2
    row, column = row + offset_row, column + offset_column
    inside = (row >= 0) & (row < grid.height) & (column >= 0) & (column < grid.width)
    flat = (frame * grid.height + row) * grid.width + column
    return torch.from_numpy(np.where(inside, flat, grid.tokens).astype(np.int32))


@lru_cache(maxsize=32)
def reached_tokens(grid: Grid, tokens: bytes, blocks: int) -> tuple[Rows, ...]:
    """Where each layer must be computed for `tokens` (int64 bytes) to be right: after the window layer, each block.

    The last entry is `tokens` themselves; each entry holds the 3×3 neighbourhood of the next. All tokens are a slice,
    which spares copies.
    """
    reach: list[Rows] = [torch.from_numpy(np.frombuffer(tokens, np.int64).copy())]
    for _ in range(blocks):
        wanted = torch.zeros(grid.tokens + 1, dtype=torch.bool)
        wanted[neighbours(grid, 3)[reach[0]].long()] = True
        here = wanted[:-1].nonzero()[:, 0]
        reach.insert(0, here if len(here) < grid.tokens else slice(None))
    return tuple(reach)


def prepare(weights: IntegerWeights, arithmetic: Arithmetic) -> IntegerWeights:
    """The same integers in the layout and dtype that `arithmetic` multiplies fastest."""

    def ready(layer: IntegerLayer) -> IntegerLayer:
        return replace(layer, weight=arithmetic.prepare(layer.weight))

    chain = arithmetic.chain_dtype
    return replace(
        weights,
        window=ready(weights.window),
        memory=None if weights.memory is None else ready(weights.memory),
        gathers=tuple(map(ready, weights.gathers)),
        mixes=tuple(map(ready, weights.mixes)),
        condition_head=ready(weights.condition_head),
        chain_in=weights.chain_in.to(chain),
        chain_out=replace(weights.chain_out, weight=weights.chain_out.weight.to(chain)),
    )


def check_weights(settings: MaskedSettings, weights: IntegerWeights) -> None:
    """Raise CheckpointError unless the shapes fit the settings and no sum can overflow, whatever the digits."""
    layout, width, chain = settings.layout(), settings.width, settings.chain_width
    shapes = [(weights.window, (width, input_channels(layout) * settings.window**2))]
    shapes += [(layer, (width, 9 * width)) for layer in weights.gathers]
    shapes += [(layer, (width, width)) for layer in weights.mixes]
    shapes += [(weights.condition_head, (chain, width)), (weights.chain_out, (layout.bits, chain))]
    if weights.memory is not None:
        shapes += [(weights.memory, (width, (layout.bits + 1) * settings.window**2))]
    fits = len(weights.gathers) == len(weights.mixes) == settings.blocks
    fits &= (weights.memory is not None) == bool(settings.earlier_frames)
    fits &= all(layer.weight.shape == shape and layer.bias.shape == shape[:1] for layer, shape in shapes)
    fits &= all(layer.multiplier.shape == layer.shift.shape == layer.bias.shape for layer, _ in shapes)
    fits &= weights.chain_in.shape == (layout.bits, chain) and weights.table.shape == (TABLE_SIZE,)
    if not fits:
        raise CheckpointError(
            "the prior's tensors do not have the shapes of its settings; the files do not belong together"
        )
    for name, tensor in weights.tensors().items():
        wanted = torch.int8 if name.endswith("weight") else torch.int16 if name == "chain_in" else torch.int32
        if tensor.dtype != wanted:
            raise CheckpointError(f"the prior's {name} must be {wanted}, got {tensor.dtype}; freeze it anew")
    residual = weights.window.bound(1)
    if weights.memory is not None:
        residual = residual + weights.memory.bound(1)
    for gather, mix in zip(weights.gathers, weights.mixes, strict=True):
        gather.bound(ACTIVATION_MAX)
        residual = residual + mix.bound(ACTIVATION_MAX)
    chained = weights.condition_head.bound(ACTIVATION_MAX) + weights.chain_in.long().abs().sum(0)
    weights.chain_out.bound(CHAIN_MAX)
    if int(residual.max()) >= FLOAT32_EXACT or int(chained.max()) >= FLOAT32_EXACT:
        raise CheckpointError("the prior's weights break the overflow rule: a running sum may reach 2^24; refreeze it")
    if not _within(weights.table, 1, 2**16 - 1):
        raise CheckpointError("the prior's table holds a frequency outside 1 … 65535; the file is damaged")


def digest(settings: MaskedSettings, weights: IntegerWeights) -> bytes:
    """SHA-256 of the settings and all integers."""
    total = hashlib.sha256(json.dumps(settings.meaning(), sort_keys=True).encode())
    for name, tensor in weights.tensors().items():
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.digest()


def _within(tensor: Tensor, low: int, high: int) -> bool:
    return int(tensor.min()) >= low and int(tensor.max()) <= high
