"""Attention on CPUs, a few heads at a time. What enters and leaves: (n, heads, N, d).

The scores of a few heads stay in the cache from product to softmax to product, which those of all heads do not; the
products are oneDNN's. The backward pass computes scores again, so that no N² probabilities are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bsq.layers.products import by_onednn, multiply

FEWEST_SCORES = 2**18
"""Of all heads: where there are fewer, they stay in the cache anyway, and calls cost more than they save."""

SCORES = 2**21
"""How many scores are looked at together in bfloat16. Never those of one head alone: transposed, its products would be
slow."""


def goes_by_head(queries: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Whether `attend_by_head` is the fastest way: large attention on CPUs; with gradients in bfloat16 only."""
    if queries.shape[1:3].numel() * keys.shape[2] < FEWEST_SCORES or not by_onednn(queries, keys, queries.dtype):
        return False
    return queries.dtype is torch.bfloat16 or not _wants_gradient(queries, keys, values)


def attend_by_head(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(q·kᵀ/√d)·v where every query sees every key. Gradients, once, in bfloat16."""
    if _wants_gradient(queries, keys, values):
        mixed: Tensor = _ByHead.apply(queries, keys, values)
        return mixed
    return _attend(queries, keys, values)


def _wants_gradient(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    # In memory, heads of a token lie side by side, as the layer behind wants them.
    n, heads, tokens, _ = queries.shape
    mixed = queries.new_empty(n, tokens, heads, values.shape[-1]).transpose(1, 2)
    if queries.dtype is torch.bfloat16:
        scaled, keys, values = _scaled(queries), keys.contiguous(), values.contiguous()
        for few in _few_heads(queries, keys):
            mixed[few] = (scaled[few] @ keys[few].transpose(1, 2)).softmax(-1) @ values[few]
        return mixed
    scaled, keys, across = _scaled(queries), keys.contiguous(), values.transpose(2, 3).contiguous()
    for sample in range(n):
        for head in range(heads):
            weights = multiply(scaled[sample, head], keys[sample, head]).softmax(-1)
            mixed[sample, head] = multiply(weights, across[sample, head])
    return mixed


def _scaled(queries: Tensor) -> Tensor:
    return (queries * queries.shape[-1] ** -0.5).contiguous()


def _few_heads(queries: Tensor, keys: Tensor) -> Iterator[tuple[int, slice]]:
    """Samples, and heads whose scores are looked at together."""
    step = max(2, SCORES // (queries.shape[2] * keys.shape[2]))
    for sample in range(queries.shape[0]):
        for first in range(0, queries.shape[1], step):
            yield sample, slice(first, first + step)


class _ByHead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(queries, keys, values)
        return _attend(queries, keys, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        queries, keys, values = ctx.saved_tensors
        of_queries, of_keys, of_values = (torch.empty_like(tensor) for tensor in (queries, keys, values))
        scaled, keys, values, above = (_scaled(queries), keys.contiguous(), values.contiguous(), upstream.contiguous())
        for few in _few_heads(queries, keys):
            weights = (scaled[few] @ keys[few].transpose(1, 2)).softmax(-1)
            of_weights = above[few] @ values[few].transpose(1, 2)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_queries[few] = (of_scores @ keys[few]).mul_(queries.shape[-1] ** -0.5)
            of_keys[few] = of_scores.transpose(1, 2) @ scaled[few]
            of_values[few] = weights.transpose(1, 2) @ above[few]
        return of_queries, of_keys, of_values
