"""Sheets of reconstructions. What enters: a tokenizer, fixed pictures, clips. What leaves: a PNG's pixels, PSNR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bsq.metrics.pixel import psnr
from bsq.tokenizer import Tokenizer

SHOWN = 8
FRAMES = 4
GAP = 2
PORTION = 16


@dataclass(frozen=True, eq=False)
class Sheet:
    """`picture` uint8 (H, W, 3): pictures, then clips, each with originals on top and a row for each rate below. `psnr`
    mean dB by rate. Of a generator it shows new pictures, and tells bits a token in place of decibels.
    """

    picture: np.ndarray
    psnr: dict[str, float]
    unit: str = "dB"


@torch.no_grad()
def draw_sheet(tokenizer: Tokenizer, groups: Sequence[Tensor], rates: Sequence[int | None]) -> Sheet:
    """Reconstruct pixels (B, 3, T, H, W), pictures and clips apart, at each rate (bits kept, None: all); the first few
    are shown, all measured. PSNR of clips has a name of its own, `ema_clip_psnr`.
    """
    rows: list[np.ndarray] = []
    figures: dict[str, float] = {}
    for pixels in groups:
        name = "ema_psnr" if pixels.shape[2] == 1 else "ema_clip_psnr"
        rows.append(_row(pixels))
        for rate in rates:
            again = torch.cat([tokenizer.reconstruct(part, rate).cpu() for part in pixels.split(PORTION)])
            rows.append(_row(again))
            figures[name if rate is None else f"{name}@{rate}"] = float(psnr(again, pixels).mean())
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return Sheet(np.concatenate(padded), figures)


def _row(clips: Tensor) -> np.ndarray:
    """The first few pictures, or some frames, evenly spread, of the first few clips."""
    each = min(FRAMES, clips.shape[2])
    moments = torch.linspace(0, clips.shape[2] - 1, each).round().long()
    shown = clips[: max(1, SHOWN // each), :, moments].transpose(1, 2).flatten(0, 1)
    pictures = ((shown + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    padded = np.pad(pictures, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    return np.concatenate(list(padded), axis=1)


def tile(clips: Tensor) -> np.ndarray:
    """Pixels (B, 3, T, H, W) → uint8 (H', W', 3): the pictures as a square, or a row for each clip."""
    count, frames = clips.shape[0], clips.shape[2]
    columns = frames if frames > 1 else max(1, round(count**0.5 + 0.499))
    shown = ((clips.transpose(1, 2).flatten(0, 1) + 1) * 127.5).round().clamp(0, 255).byte()
    missing = -len(shown) % columns
    shown = torch.cat([shown, shown.new_full((missing, *shown.shape[1:]), 255)]).permute(0, 2, 3, 1)
    padded = torch.nn.functional.pad(shown, (0, 0, 0, GAP, 0, GAP), value=255).numpy()
    rows = [np.concatenate(list(padded[start : start + columns]), 1) for start in range(0, len(padded), columns)]
    return np.concatenate(rows)
