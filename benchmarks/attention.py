"""Block-causal attention of a clip, 17 frames of 256 tokens, width 768, float32: frame by frame beside a mask.

The mask is tried on the fused kernel and on plain products; the targets hold against the faster of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks import Row, interleaved
from bsq.layers.attention import attend_frame_by_frame, attend_masked, attend_plain

FRAMES, PLACES, HEADS, HEAD_WIDTH = 17, 256, 12, 64
ROUNDS = 3

Form = Callable[[Tensor, Tensor, Tensor], Tensor]


def frame_by_frame(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return attend_frame_by_frame(queries, keys, values, None, FRAMES)


def masked(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return attend_masked(queries, keys, values, None, FRAMES)


def masked_plain(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The same mask, as most published code has it: scores, −∞ where the mask is false, softmax, values."""
    number = torch.arange(FRAMES).repeat_interleave(PLACES)
    return attend_plain(queries, keys, values, number[:, None] >= number[None, :])


def forward(form: Form, inputs: list[Tensor]) -> Callable[[], object]:
    def run() -> Tensor:
        with torch.no_grad():
            return form(*inputs)

    return run


def both(form: Form, inputs: list[Tensor], upstream: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(form(*inputs), inputs, upstream)


def rows() -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    shape = 1, HEADS, FRAMES * PLACES, HEAD_WIDTH
    inputs = [torch.randn(shape, generator=generator).requires_grad_() for _ in range(3)]
    upstream = torch.randn(shape, generator=generator)
    forms: tuple[Form, ...] = frame_by_frame, masked, masked_plain
    with torch.no_grad():
        difference = float((frame_by_frame(*inputs) - masked(*inputs)).abs().max())
    for name, functions, target in (
        ("forward", [forward(form, inputs) for form in forms], 1.85),
        ("forward and backward", [both(form, inputs, upstream) for form in forms], 1.75),
    ):
        ours, fused, plain = interleaved(functions, ROUNDS)
        ratio = min(fused, plain) / ours
        figure = f"{ours:.2f} s; fused {fused / ours:.2f}×, plain {plain / ours:.2f}×"
        yield Row(f"masked time over frame-wise, {name}", figure, f"≥ {target}×", ratio >= target)
    yield Row("largest difference of the two", f"{difference:.1e}", "≤ 1e-6", difference <= 1e-6)
