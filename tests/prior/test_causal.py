"""The causal prior: the cache agrees with the whole pass, the future is never seen, any radices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bsq.prior.base import Grid
from bsq.prior.causal import CausalPrior, CausalSettings
from bsq.prior.layout import code_bits

SMALL = {"width": 32, "depth": 2, "head_width": 16, "chain_width": 16}


def make(radices: tuple[int, ...]) -> CausalPrior:
    torch.manual_seed(0)
    return CausalPrior(CausalSettings.model_validate({"radices": radices} | SMALL)).eval()


def test_cache_agrees_with_the_whole_pass(converse: Callable) -> None:
    prior, grid = make((2,) * 6), Grid(2, 3, 4)
    digits = np.random.default_rng(0).integers(2, size=(24, 6))
    asked = converse(prior, grid, (2,) * 6, digits).questions
    signs = torch.from_numpy(2.0 * digits - 1).float().reshape(1, 2, 3, 4, 6)
    with torch.no_grad():
        expected = torch.sigmoid(prior(signs)).reshape(24, 6).numpy() * 65536
    for question in asked:
        assert abs(int(question.frequencies[0]) - expected[question.tokens[0], question.digit]) < 8


def test_logits_never_see_the_future() -> None:
    prior = make((2,) * 5)
    signs = torch.randn(1, 1, 3, 4, 5).sign()
    with torch.no_grad():
        before = prior(signs).reshape(12, 5)
        for token, bit in ((0, 0), (5, 3), (11, 4)):
            changed = signs.reshape(12, 5).clone()
            changed[token, bit:] *= -1
            changed[token + 1 :] *= -1
            after = prior(changed.reshape(signs.shape)).reshape(12, 5)
            assert torch.allclose(before[:token], after[:token], atol=1e-5)
            assert torch.allclose(before[token, : bit + 1], after[token, : bit + 1], atol=1e-5)
            if token < 11:
                assert not torch.allclose(before[token + 1], after[token + 1], atol=1e-5)


def test_any_radices_and_first_digits(converse: Callable) -> None:
    radices, grid = (5, 2, 8), Grid(1, 2, 3)
    prior = make(radices)
    digits = np.stack([np.random.default_rng(0).integers(r, size=6) for r in radices], axis=1)
    whole = converse(prior, grid, radices, digits)
    assert len(whole.questions) == 18
    converse(prior, grid, radices[:2], digits[:, :2])
    assert code_bits(digits, radices).shape == (6, 7)
    assert not prior.portable


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        CausalSettings(radices=(2,), width=100)
    paper = CausalSettings(radices=(2,) * 18, width=768, depth=24)
    assert paper.width // paper.head_width == 12
