"""Quantizers: codes, terms, gradients and codebooks after three batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from entries import Row, rows

from bsq.quantizers import (
    BsqSettings,
    FsqSettings,
    GumbelSettings,
    KlSettings,
    LfqSettings,
    VqSettings,
    build_quantizer,
)


def quantize(settings: Any, folder: Path) -> Any:
    torch.manual_seed(0)
    quantizer = build_quantizer(settings).train()
    seen = []
    for _ in range(3):
        latent = torch.randn(2, 5, quantizer.latent_width, requires_grad=True)
        out = quantizer(latent)
        terms = out.terms
        (out.quantized.square().sum() + terms.entropy + terms.commitment + terms.codebook + terms.kl).backward()
        seen.append((out, latent.grad, dict(quantizer.state_dict())))
    return seen


ENTROPY = {"group": 2, "inverse_temperature": 3.0, "sample_weight": 0.5, "gamma": 0.5}
VQ = {"size": 8, "width": 4, "decay": 0.5, "revive_below": 0.0}

TABLE: list[Row] = [
    *rows(BsqSettings, quantize, {"bits": 8}, bits=6, **ENTROPY),
    *rows(LfqSettings, quantize, {"bits": 8, "inverse_temperature": 1.0}, bits=6, **ENTROPY),
    *rows(FsqSettings, quantize, {"levels": (5, 5)}, levels=(5, 3)),
    *rows(VqSettings, quantize, VQ, size=6, width=3, update="gradient", metric="cosine", decay=0.9, revive_below=0.9),
    *rows(GumbelSettings, quantize, {"size": 8, "width": 4}, size=6, width=3, temperature=0.5, draw="hard"),
    *rows(KlSettings, quantize, {}, width=3),
]
