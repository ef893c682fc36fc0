"""Priors with the entropy coder, one 768×512 picture of 36-bit codes (64×96 tokens), without the pixel networks.

Weights are random: time hardly depends on them. The causal prior has about as many
parameters as the learned one and runs on an eighth of the tokens (its time a token only grows with their number).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks import Row, settle_allocator
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.arithmetic import WideArithmetic
from bsq.prior.base import Grid, Prior, reply
from bsq.prior.causal import CausalPrior, CausalSettings
from bsq.prior.exact import ExactPrior
from bsq.prior.freeze import freeze
from bsq.prior.masked import MaskedPrior, MaskedSettings

RADICES = (2,) * 36
PICTURE, PART = Grid(1, 64, 96), Grid(1, 16, 48)


def rows() -> Iterator[Row]:
    settle_allocator()
    learned = random_prior()
    seconds = hold(learned, PICTURE)
    yield within_a_second(f"learned, exact ({learned.arithmetic.name} products)", seconds)
    yield within_a_second(
        "learned, exact (float32 products)", hold(learned.using(WideArithmetic(torch.float32)), PICTURE)
    )
    yield Row("adaptive", f"{hold(AdaptivePrior(), PICTURE):.2f} s", "≤ 2 s")
    parameters = sum(tensor.numel() for tensor in learned.weights.tensors().values())
    causal = equal_causal(parameters)
    slow = hold(causal, PART) * PICTURE.tokens / PART.tokens
    ratio = slow / seconds
    count = sum(parameter.numel() for parameter in causal.parameters())
    name = f"causal, {count / 1e6:.2f} M parameters beside {parameters / 1e6:.2f} M"
    yield Row(name, f"{slow:.1f} s, {ratio:.0f}×", "learned ≥ 10× faster", ratio >= 10)


def within_a_second(name: str, seconds: float) -> Row:
    return Row(name, f"{seconds:.2f} s", "≤ 1 s", seconds <= 1)


def hold(prior: Prior, grid: Grid, repeats: int = 3) -> float:
    """Least seconds of a whole conversation: what encoding and decoding share; the coder adds about 0.01 s."""
    digits = np.random.default_rng(0).integers(2, size=(grid.tokens, len(RADICES)))
    least = float("inf")
    for _ in range(repeats if prior.portable else 1):
        start = time.perf_counter()
        conversation = prior.converse(grid, RADICES)
        question = next(conversation, None)
        while question is not None:
            question = reply(conversation, digits[question.tokens, question.digit])
        least = min(least, time.perf_counter() - start)
    return least


def random_prior() -> ExactPrior:
    torch.manual_seed(0)
    prior = MaskedPrior(MaskedSettings(radices=RADICES))
    for mix in prior.mixes:
        torch.nn.init.normal_(mix.weight, std=0.05)
    return freeze(prior)


def equal_causal(parameters: int) -> CausalPrior:
    """A causal prior of four blocks with the width that comes closest to so many parameters."""
    settings = [CausalSettings(radices=RADICES, width=width, depth=4, head_width=16) for width in range(64, 513, 16)]
    return min(
        (CausalPrior(one).eval() for one in settings),
        key=lambda prior: abs(sum(parameter.numel() for parameter in prior.parameters()) - parameters),
    )
