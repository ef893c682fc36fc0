"""Block-causal attention on CPUs with a backward pass of its own. What enters and leaves: (n, heads, T·S, d).

Forward goes from frame to frame of queries, backward from frame to frame of keys: with the softmax's normalizer known,
a frame of keys gets its whole gradient from one call over all frames that saw it. That call has many queries, for which
the kernel takes large blocks, and no gradient of a slice is padded to the whole and added up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class FusedFrames(torch.autograd.Function):
    """`attend_frame_by_frame` by the kernel that `scaled_dot_product_attention` uses on CPUs, in float32 or float64.

    `seen` (n or 1, 1, S, S) additive: 0 where places see each other, −∞ elsewhere; None: all do. Not differentiable
    twice.
    """

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None, frames: int, window_frames: int
    ) -> Tensor:
        places = queries.shape[2] // frames
        mixed, normalizers = [], []
        for t in range(frames):
            first = max(0, t + 1 - window_frames)
            now, sight = slice(t * places, (t + 1) * places), slice(first * places, (t + 1) * places)
            mask = None if seen is None else seen.repeat(1, 1, 1, t + 1 - first)
            part, normalizer = _forward(queries[:, :, now], keys[:, :, sight], values[:, :, sight], attn_mask=mask)
            mixed.append(part)
            normalizers.append(normalizer)
        out = torch.cat(mixed, dim=2)
        ctx.save_for_backward(queries, keys, values, seen, out, *normalizers)
        ctx.frames, ctx.window_frames = frames, window_frames
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, seen, out, *parts = ctx.saved_tensors
        normalizers = _as_kernel_writes(torch.cat(parts, dim=2))
        places = queries.shape[2] // ctx.frames
        of_queries, of_keys, of_values = torch.zeros_like(queries), torch.empty_like(keys), torch.empty_like(values)
        for t in range(ctx.frames):
            end = min(ctx.frames, t + ctx.window_frames)
            now, later = slice(t * places, (t + 1) * places), slice(t * places, end * places)
            more, of_keys[:, :, now], of_values[:, :, now] = _backward(
                upstream[:, :, later],
                queries[:, :, later],
                keys[:, :, now],
                values[:, :, now],
                out[:, :, later],
                normalizers[:, :, later],
                0.0,
                False,
                attn_mask=None if seen is None else seen.repeat(1, 1, end - t, 1),
            )
            of_queries[:, :, later] += more
        return of_queries, of_keys, of_values, None, None, None


def _as_kernel_writes(normalizers: Tensor) -> Tensor:
    """(n, heads, T·S) with heads next to each other in memory: the strides that the kernel gave them."""
    return normalizers.transpose(1, 2).contiguous().transpose(1, 2)
