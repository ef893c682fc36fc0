"""A law of codes that is known exactly: 2 × 2 tokens of two binary digits, 256 outcomes, and two classes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bsq.generate.masking import MaskingSettings
from bsq.generate.network import Generator, GeneratorSettings

OUTCOMES = 256
RADICES = (2, 2)


def law(label: int) -> np.ndarray:
    """float64 (256,): eight spins on a ring that like to agree, or to differ; the first is biased."""
    spins = 2 * ((np.arange(OUTCOMES)[:, None] >> np.arange(7, -1, -1)) & 1) - 1
    coupling = 0.7 if label == 0 else -0.7
    energy = coupling * (spins * np.roll(spins, 1, 1)).sum(1) + 0.4 * spins[:, 0]
    weights = np.exp(energy)
    return weights / weights.sum()


def entropy(label: int) -> float:
    """Bits."""
    p = law(label)
    return float(-(p * np.log2(p)).sum())


def digits_of(outcomes: Tensor) -> Tensor:
    """(B,) → (B, 1, 2, 2, 2)."""
    return ((outcomes[:, None] >> torch.arange(7, -1, -1)) & 1).view(-1, 1, 2, 2, 2)


def outcomes_of(digits: Tensor) -> Tensor:
    """Mirror of `digits_of`."""
    return (digits.long().reshape(-1, 8) * 2 ** torch.arange(7, -1, -1)).sum(1)


def learn(steps: int = 750, batch: int = 160) -> Generator:
    """A tiny generator after some seconds of training on fresh draws of the law."""
    from torch.nn import functional as F

    from bsq.generate.masking import draw_known, drop_classes

    torch.manual_seed(0)
    settings = GeneratorSettings(radices=RADICES, group_digits=1, classes=2, grid=(1, 2, 2), width=48, depth=2,
                                 head_width=16, mlp_ratio=2, norm="pre")  # fmt: skip
    network, random = Generator(settings).train(), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=6e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    masking, laws = MaskingSettings(schedule="linear", label_smoothing=0.0, class_dropout=0.1), [law(0), law(1)]
    for step in range(steps):
        labels = torch.from_numpy(random.integers(2, size=batch))
        outcomes = np.where(labels.numpy() == 0, *(random.choice(OUTCOMES, batch, p=p) for p in laws))
        groups = network.grouping.join(digits_of(torch.from_numpy(outcomes)))
        positions = torch.arange(step * batch, (step + 1) * batch)
        known = draw_known(masking, 0, positions, (1, 2, 2, 2))
        logits = network(groups, known, drop_classes(masking, 0, positions, labels, 2))
        targets = [groups[..., g][~known[..., g]] for g in range(2)]
        loss = F.cross_entropy(torch.cat(logits), torch.cat(targets))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return network.eval()
