"""Priors: what a model of codes expects, and how a few steps of training change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from entries import Row, rows

from bsq.prior.causal import CausalPrior, CausalSettings
from bsq.prior.masked import MaskedPrior, MaskedSettings
from bsq.prior.train import PriorTrainingSettings, progress, train_masked

MASKED = {"radices": (2,) * 6, "layer_digits": 3, "passes": (3, 2), "width": 16, "blocks": 1, "chain_width": 8}
CAUSAL = {"radices": (2,) * 6, "width": 32, "depth": 1, "head_width": 16, "chain_width": 8}


def fill(settings: MaskedSettings, folder: Path) -> Any:
    """Weights drawn from one seed, and the layers of digits."""
    torch.manual_seed(0)
    return dict(MaskedPrior(settings).state_dict()), settings.layout()


def continue_(settings: CausalSettings, folder: Path) -> Any:
    """Logits of one random clip."""
    torch.manual_seed(0)
    prior = CausalPrior(settings)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.normal_(std=0.2)
        bits = prior.layout.bits
        return prior(torch.randint(0, 2, (1, 1, 3, 3, bits), generator=torch.Generator().manual_seed(1)) * 2.0 - 1)


def train(settings: PriorTrainingSettings, folder: Path) -> Any:
    digits = torch.randint(0, 2, (4, 1, 8, 8, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    prior = train_masked(digits, MaskedSettings(**MASKED), settings, lambda *progress: None)
    return dict(prior.state_dict())


def pace(settings: PriorTrainingSettings, folder: Path) -> Any:
    return [progress(settings, step, 10.0 * step) for step in range(5)]


SHORT = {"minutes": 60, "steps": 4, "batch": 4, "crop": 6, "learning_rate": 0.01, "warmup": 0.5, "rounded": 0.0}
HALF = {"rounded": 1.0, "later_weight": 0.0, "cut_layers": 1.0, "warmup": 0.0, "weight_decay": 0.5}

TABLE: list[Row] = [
    *rows(MaskedSettings, fill, MASKED, radices=(4,) * 6, layer_digits=2, passes=(2, 2), width=24, blocks=2),
    *rows(MaskedSettings, fill, MASKED, chain_width=16, window=3, earlier_frames=1),
    *rows(CausalSettings, continue_, CAUSAL, radices=(2,) * 4, width=48, depth=2, head_width=32, chain_width=16),
    *rows(PriorTrainingSettings, train, SHORT, **HALF, steps=5, batch=2, crop=4, learning_rate=0.02, seed=1),
    *rows(PriorTrainingSettings, pace, {"minutes": 60}, minutes=1),
]
