"""Products of tokens and weights by the fastest kernel of the device. What enters: tokens (…, K). What leaves: (…, N).

On x86 CPUs oneDNN multiplies float32 in up to half the time of the BLAS behind `F.linear`, and a row's result depends
neither on how many rows there are nor on the number of threads, as it does there for the last few of them. It is used
for training and at use alike, so that there is one arithmetic. Everything else (other devices and dtypes, compilers and
exporters, which choose their own kernels) goes through `F.linear`.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Activation = Literal["none", "gelu"]

_plain = ContextVar("plain", default=False)


@contextmanager
def plain_products() -> Iterator[None]:
    """Within: `F.linear` and torch's own attention for everything, the arithmetic of exported and compiled programs."""
    before = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(before)


@dataclass(frozen=True)
class LaidOut:
    """A weight as oneDNN wants it, and what the weight was then."""

    weight: Tensor
    state: tuple[int, int]


class Linear(nn.Linear):
    """`nn.Linear`, with `linear` for its product. Differentiable once where oneDNN is used."""

    laid_out: LaidOut | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        return linear(tokens, self.weight, self.bias, self.laid_out)

    def lay_out(self) -> None:
        """Keep a copy of the weight in oneDNN's order, so that no call has to make one: the same results, sooner."""
        self.laid_out = None
        if self.weight.is_inference() or not by_onednn(self.weight.detach(), self.weight, self.weight.dtype):
            return
        copy = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach().contiguous())
        self.laid_out = LaidOut(copy, _state(self.weight))

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles are without what can be made again."""
        return {name: value for name, value in super().__getstate__().items() if name != "laid_out"}


def _state(weight: Tensor) -> tuple[int, int]:
    """Changes whenever a weight is written to, moved or cast."""
    return weight.data_ptr(), -1 if weight.is_inference() else weight._version


def ready(weight: Tensor, laid_out: LaidOut | None, dtype: torch.dtype) -> Tensor:
    """The weight for `multiply`: its laid-out copy where that is still the same."""
    if laid_out is not None and weight.dtype is dtype and laid_out.state == _state(weight):
        return laid_out.weight
    return weight.to(dtype)


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None, laid_out: LaidOut | None = None) -> Tensor:
    """tokens (…, K) · weightᵀ (N, K) + bias (N,), in autocast's dtype where it is on."""
    dtype = _dtype_of_product(tokens)
    if not by_onednn(tokens, weight, dtype):
        return F.linear(tokens, weight, bias)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (tokens, weight, bias)):
        out: Tensor = _Linear.apply(tokens, weight, bias, dtype)
        return out
    return multiply(tokens.to(dtype), ready(weight, laid_out, dtype), None if bias is None else bias.to(dtype))


def mlp(tokens: Tensor, up: Linear, down: Linear) -> Tensor:
    """Linear, exact GELU, Linear. For the backward pass the GELU's input is kept and its output computed again."""
    dtype = _dtype_of_product(tokens)
    if not by_onednn(tokens, up.weight, dtype):
        return down(F.gelu(up(tokens)))
    weights = up.weight, up.bias, down.weight, down.bias
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (tokens, *weights)):
        out: Tensor = _Mlp.apply(tokens, *weights, dtype)
        return out
    middle = multiply(tokens.to(dtype), ready(up.weight, up.laid_out, dtype), up.bias.to(dtype), "gelu")
    return multiply(middle, ready(down.weight, down.laid_out, dtype), down.bias.to(dtype))


def by_onednn(tokens: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether `multiply` takes such a product."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or _plain.get():
        return False
    plain = type(tokens) is Tensor and type(weight) in (Tensor, nn.Parameter) and tokens.numel() > 0
    return plain and tokens.device.type == weight.device.type == "cpu" and dtype in _dtypes_of_onednn()


def bfloat16_is_faster(device: torch.device) -> bool:
    """Whether products in bfloat16 take much less time than in float32: on a CPU that has them, and on CUDA."""
    return torch.bfloat16 in _dtypes_of_onednn() if device.type == "cpu" else device.type == "cuda"


def rounds_rows_alike(dtype: torch.dtype) -> bool:
    """Whether `multiply` gives a row the same bits whatever rows stand beside it: not in bfloat16 where there are AMX's
    tiles, with which long sums are cut by the number of rows.
    """
    return dtype is torch.float32 or not torch.cpu._is_amx_tile_supported()


@cache
def _dtypes_of_onednn() -> tuple[torch.dtype, ...]:
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if not there or platform.machine().lower() not in ("x86_64", "amd64"):
        return ()
    short = hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if short else (torch.float32,)


def _dtype_of_product(tokens: Tensor) -> torch.dtype:
    """Of one on a CPU."""
    on = tokens.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return torch.get_autocast_dtype("cpu") if on else tokens.dtype


def multiply(tokens: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none") -> Tensor:
    """activation(tokens (…, K) · weightᵀ (N, K) + bias (N,)) by oneDNN, all of one dtype."""
    rows = tokens.reshape(-1, tokens.shape[-1]).contiguous()
    # One row alone would be rounded otherwise than among others.
    two = rows.expand(2, -1).contiguous() if len(rows) == 1 else rows
    out = torch.ops.mkldnn._linear_pointwise(
        two, weight if weight.is_mkldnn else weight.contiguous(), bias, activation, [], "none"
    )
    return out[: len(rows)].view(*tokens.shape[:-1], -1)


def _gradients(
    upstream: Tensor, tokens: Tensor, weight: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of tokens, weight and bias, for rows (n, N) and (n, K) of the product's dtype and a weight of any."""
    of_tokens = of_weight = of_bias = None
    if wanted[0]:
        of_tokens = _times(upstream, weight.to(upstream.dtype))
    if wanted[1]:
        of_weight = _times(upstream.t(), tokens).to(weight.dtype)
    if wanted[2]:
        of_bias = upstream.sum(0, dtype=torch.float32).to(weight.dtype)
    return of_tokens, of_weight, of_bias


def _times(left: Tensor, right: Tensor) -> Tensor:
    """left · right; `@` takes oneDNN in bfloat16 only."""
    return left @ right if left.dtype is torch.bfloat16 else multiply(left, right.t())


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        rows = tokens.to(dtype)
        # The weight itself is kept, not its copy in bfloat16.
        ctx.save_for_backward(rows, weight)
        ctx.dtype_of_tokens = tokens.dtype
        return multiply(rows, weight.to(dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight = ctx.saved_tensors
        rows, above = tokens.flatten(0, -2), upstream.flatten(0, -2)
        of_tokens, of_weight, of_bias = _gradients(above, rows, weight, ctx.needs_input_grad)
        if of_tokens is not None:
            of_tokens = of_tokens.view(tokens.shape).to(ctx.dtype_of_tokens)
        return of_tokens, of_weight, of_bias, None


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor, dtype: torch.dtype
    ) -> Tensor:
        rows = tokens.to(dtype)
        inner = multiply(rows, up.to(dtype), up_bias.to(dtype))
        ctx.save_for_backward(rows, inner, up, down)
        ctx.dtype_of_tokens = tokens.dtype
        return multiply(F.gelu(inner), down.to(dtype), down_bias.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        tokens, inner, up, down = ctx.saved_tensors
        wants, (rows, middle, above) = ctx.needs_input_grad, (t.flatten(0, -2) for t in (tokens, inner, upstream))
        of_middle, of_down, of_down_bias = _gradients(above, F.gelu(middle), down, (any(wants[:3]), *wants[3:5]))
        of_tokens = of_up = of_up_bias = None
        if of_middle is not None:
            of_middle = torch.ops.aten.gelu_backward(of_middle, middle)
            of_tokens, of_up, of_up_bias = _gradients(of_middle, rows, up, wants[:3])
        if of_tokens is not None:
            of_tokens = of_tokens.view(tokens.shape).to(ctx.dtype_of_tokens)
        return of_tokens, of_up, of_up_bias, of_down, of_down_bias, None
