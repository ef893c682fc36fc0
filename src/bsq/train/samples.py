"""Sheets of reconstructions. What enters: a tokenizer and fixed pictures. What leaves: a PNG's pixels and PSNR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bsq.metrics.pixel import psnr
from bsq.tokenizer import Tokenizer

SHOWN = 8
GAP = 2
PORTION = 16


@dataclass(frozen=True, eq=False)
class Sheet:
    """`picture` uint8 (H, W, 3): originals on top, a row for each rate below. `psnr` mean dB by rate."""

    picture: np.ndarray
    psnr: dict[str, float]


@torch.no_grad()
def draw_sheet(tokenizer: Tokenizer, pixels: Tensor, rates: Sequence[int | None]) -> Sheet:
    """Reconstruct pixels (B, 3, 1, H, W) at each rate (bits kept, None: all); the first few are shown, all measured."""
    rows, figures = [pixels[:SHOWN]], {}
    for rate in rates:
        again = torch.cat([tokenizer.reconstruct(part, rate).cpu() for part in pixels.split(PORTION)])
        rows.append(again[:SHOWN])
        figures["ema_psnr" if rate is None else f"ema_psnr@{rate}"] = float(psnr(again, pixels).mean())
    return Sheet(np.concatenate([_row(row) for row in rows]), figures)


def _row(clips: Tensor) -> np.ndarray:
    pictures = ((clips[:, :, 0] + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    padded = np.pad(pictures, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    return np.concatenate(list(padded), axis=1)
