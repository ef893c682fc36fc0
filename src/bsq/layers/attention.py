"""Attention over windows of frames. What enters: tokens (n, T, S, D). What leaves: the same shape.

`n` counts independent windows, T frames, S the tokens of one frame in a window. `full` time lets every token see all
frames, `causal` its own and earlier ones (block-causal: all tokens of a frame see each other), with a window of frames
only the last few of them. Three forms compute the same: masked, with an N × N mask, for comparison; frame by frame over
the keys so far, which stores no such mask and computes no score of the future, for training; and cached, one frame at
a time with the keys of earlier ones remembered in a `Past`, for use.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bsq.layers.by_head import attend_by_head, goes_by_head
from bsq.layers.fused_frames import FusedFrames
from bsq.layers.past import Past
from bsq.layers.positions import Rotary
from bsq.layers.products import Linear


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values (rows q, k, v)."""

    def __init__(self, width: int, head_width: int, time: str, window_frames: int | None = None) -> None:
        super().__init__()
        self.heads = width // head_width
        self.head_width = head_width
        self.time = time
        self.window_frames = window_frames
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(
        self, tokens: Tensor, rotary: Rotary | None, regions: Tensor | None, past: Past | None = None
    ) -> Tensor:
        """Tokens (n, T, S, D); `regions` (n, S) integers, tokens of unequal numbers do not see each other. With a
        `past`, T = 1: the frame that comes next.
        """
        windows, frames, places, width = tokens.shape
        qkv = self.qkv(tokens.reshape(windows, frames * places, width))
        queries, keys, values = qkv.view(windows, -1, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4).unbind(0)
        if rotary is not None:
            queries, keys = rotary.turn(queries), rotary.turn(keys)
        seen = None if regions is None else (regions[:, None, :, None] == regions[:, None, None, :])
        if past is not None:
            keys, values = past.take_in(keys, values)
            mixed = attend(queries, keys, values, _over_frames(seen, 1, keys.shape[2] // places))
        elif frames == 1 or self.time == "full":
            mixed = attend(queries, keys, values, _over_frames(seen, frames, frames))
        else:
            mixed = attend_frame_by_frame(queries, keys, values, seen, frames, self.window_frames)
        return self.out(mixed.transpose(1, 2).reshape(windows, frames, places, width))


def attend_frame_by_frame(
    queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None, frames: int, window_frames: int | None = None
) -> Tensor:
    """Block-causal attention over (n, heads, T·S, d): frame t sees frames 0 … t, or the last `window_frames` of them.

    `seen` broadcastable to (n, heads, S, S): which places see each other.
    """
    if _trains_on_fused_kernel(queries, keys, values):
        added = None if seen is None else torch.zeros_like(seen, dtype=queries.dtype).masked_fill(~seen, -torch.inf)
        mixed: Tensor = FusedFrames.apply(queries, keys, values, added, frames, window_frames or frames)
        return mixed
    places = queries.shape[2] // frames
    parts = []
    for t in range(frames):
        first = 0 if window_frames is None else max(0, t + 1 - window_frames)
        now, sight = slice(t * places, (t + 1) * places), slice(first * places, (t + 1) * places)
        mask = _over_frames(seen, 1, t + 1 - first)
        parts.append(attend(queries[:, :, now], keys[:, :, sight], values[:, :, sight], mask))
    return torch.cat(parts, dim=2)


def _trains_on_fused_kernel(queries: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Whether a gradient is wanted where CPUs attend by the fused kernel (not in bfloat16: see `attend`)."""
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (queries, keys, values))
    return wanted and queries.device.type == "cpu" and queries.dtype in (torch.float32, torch.float64)


def attend_masked(
    queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None, frames: int, window_frames: int | None = None
) -> Tensor:
    """The same as `attend_frame_by_frame` by the textbook's mask over all pairs of tokens, for comparison: twice the
    work, and (T·S)² entries of mask.
    """
    number = torch.arange(frames, device=queries.device).repeat_interleave(queries.shape[2] // frames)
    age = number[:, None] - number[None, :]
    mask = (age >= 0) & (age < (frames if window_frames is None else window_frames))
    whole = _over_frames(seen, frames, frames)
    return attend(queries, keys, values, mask[None, None] if whole is None else whole & mask)


def attend(queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None) -> Tensor:
    """softmax(q·kᵀ/√d)·v over (n, heads, N, d); `seen` broadcastable boolean, True = may attend.

    On CPUs oneDNN's products, a few heads at a time, take a third less than the fused kernel in float32, and less than
    half in bfloat16; where there is a mask or little to do, plain products do in bfloat16. Elsewhere the fused kernel
    is used.
    """
    if seen is None and goes_by_head(queries, keys, values):
        return attend_by_head(queries, keys, values)
    if queries.dtype is torch.bfloat16 and queries.device.type == "cpu":
        return attend_plain(queries, keys, values, seen)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)


def attend_plain(queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None) -> Tensor:
    """The same as `attend` by two matrix products and a softmax; keeps the N² probabilities for the backward pass."""
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    return scores.softmax(dim=-1) @ values


def _over_frames(seen: Tensor | None, query_frames: int, key_frames: int) -> Tensor | None:
    """The mask of one frame (n, 1, S, S), repeated over frames; a token always sees its own place, so no row is
    empty.
    """
    return None if seen is None else seen.repeat(1, 1, query_frames, key_frames)
