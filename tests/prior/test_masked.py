"""The masked prior's conversation, float and exact: any grid, any first digits, any radices, never the future."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from bsq.prior.base import Grid
from bsq.prior.exact import ExactPrior
from bsq.prior.freeze import freeze
from bsq.prior.masked import MaskedPrior, MaskedSettings
from bsq.prior.rounding import Rounding, weight_scales

GRIDS = [Grid(1, 1, 1), Grid(1, 1, 9), Grid(1, 5, 1), Grid(1, 7, 6), Grid(3, 4, 5)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_any_grid_and_any_first_digits(exact_prior: ExactPrior, converse: Callable, grid: Grid) -> None:
    digits = np.random.default_rng(0).integers(2, size=(grid.tokens, 12))
    whole = converse(exact_prior, grid, (2,) * 12, digits)
    for kept in (1, 6, 11):
        converse(exact_prior, grid, (2,) * kept, digits)
    for kept in (5, 10):
        cut = converse(exact_prior, grid, (2,) * kept, digits)
        layers = -(-kept // 5)  # of three; the frames after the first have other chunk numbers
        first = [replace(q, chunk=q.chunk // 3 * layers + q.chunk % 3) for q in whole.questions if q.digit < kept]
        assert cut.same_as(replace(whole, questions=first)), "whole layers are a prefix of a frame"


def test_the_float_prior_holds_the_same_conversation(make_prior: Callable, converse: Callable) -> None:
    prior, grid = make_prior(), Grid(1, 7, 6)
    digits = np.random.default_rng(0).integers(2, size=(grid.tokens, 12))
    loose, exact = (converse(p, grid, (2,) * 12, digits) for p in (prior, freeze(prior)))
    assert [q.digit for q in loose.questions] == [q.digit for q in exact.questions]
    assert abs(loose.bits - exact.bits) < 0.02 * exact.bits
    assert not prior.portable


@pytest.mark.parametrize("radices", [(5, 8, 3, 2), (64,), (2, 7)])
def test_any_radices(make_prior: Callable, converse: Callable, radices: tuple[int, ...]) -> None:
    exact = freeze(make_prior(radices=radices, layer_digits=2))
    grid = Grid(1, 4, 5)
    digits = np.stack([np.random.default_rng(1).integers(r, size=grid.tokens) for r in radices], axis=1)
    first, again = (converse(exact, grid, radices, digits) for _ in range(2))
    assert first.same_as(again)


def test_the_future_never_changes_a_question(exact_prior: ExactPrior, converse: Callable) -> None:
    grid = Grid(1, 6, 7)
    draw = np.random.default_rng(2)
    digits = draw.integers(2, size=(grid.tokens, 12))
    before = converse(exact_prior, grid, (2,) * 12, digits).questions
    for position in (0, 3, len(before) // 2, len(before) - 2):
        changed = digits.copy()
        for question in before[position:]:
            changed[question.tokens, question.digit] = draw.integers(2, size=len(question.tokens))
        after = converse(exact_prior, grid, (2,) * 12, changed).questions
        for a, b in zip(before[: position + 1], after[: position + 1], strict=True):
            assert np.array_equal(a.frequencies, b.frequencies)
        if position == 0:
            assert any(not np.array_equal(a.frequencies, b.frequencies) for a, b in zip(before, after, strict=True))


def test_every_earlier_digit_matters(exact_prior: ExactPrior, converse: Callable) -> None:
    """Changing one early digit of one token changes later frequencies of a neighbour and of the token itself."""
    grid = Grid(1, 4, 4)
    digits = np.zeros((grid.tokens, 12), np.int64)
    changed = digits.copy()
    changed[5, 0] = 1
    one, two = (converse(exact_prior, grid, (2,) * 12, d).questions for d in (digits, changed))
    touched = np.zeros((grid.tokens, 12), bool)
    for a, b in zip(one, two, strict=True):
        touched[a.tokens, a.digit] = a.frequencies != b.frequencies
    assert touched[5, 1:].any()
    assert touched[6].any()
    assert touched[1, 5:].any()


def frames_of(digits: np.ndarray, frames: int) -> np.ndarray:
    """(N, L) of a grid → (frames, N / frames, L)."""
    return digits.reshape(frames, -1, digits.shape[-1])


def test_a_prior_without_memory_codes_every_frame_by_itself(exact_prior: ExactPrior, converse: Callable) -> None:
    digits = np.random.default_rng(3).integers(2, size=(3 * 20, 12))
    together = converse(exact_prior, Grid(3, 4, 5), (2,) * 12, digits).bits
    assert together == pytest.approx(
        sum(converse(exact_prior, Grid(1, 4, 5), (2,) * 12, frame).bits for frame in frames_of(digits, 3))
    )


def test_a_prior_with_memory_expects_a_frame_from_the_one_before(make_prior: Callable, converse: Callable) -> None:
    prior = make_prior(earlier_frames=1)
    exact = freeze(prior)
    grid, draw = Grid(3, 4, 5), np.random.default_rng(4)
    digits = draw.integers(2, size=(grid.tokens, 12))
    changed = digits.copy()
    changed[:20] = draw.integers(2, size=(20, 12))
    for one in (prior, exact):
        before, after = (converse(one, grid, (2,) * 12, d).questions for d in (digits, changed))
        differs = np.zeros(3, bool)
        for a, b in zip(before, after, strict=True):
            differs[a.tokens[0] // 20] |= not np.array_equal(a.frequencies, b.frequencies)
        assert differs.tolist() == [True, True, False], "it looks one frame back, and no further"
        alone = converse(one, Grid(1, 4, 5), (2,) * 12, digits[:20]).questions
        for a, b in zip(before, alone, strict=False):
            assert np.array_equal(a.frequencies, b.frequencies), "the first frame is a picture"


def test_chain_is_the_conversations_chain(make_prior: Callable[..., MaskedPrior]) -> None:
    """Logits in training (all bits of a layer at once) are those of the coder (one after another)."""
    prior = make_prior()
    signs = torch.randn(9, 12).sign()
    condition = torch.randn(9, 16)
    together = prior.chain(condition, signs, range(5, 10))
    for bit in range(5, 10):
        alone = prior.chain(condition, signs, range(bit, bit + 1))
        assert torch.allclose(together[:, bit - 5], alone[:, 0], atol=1e-5)


def test_scales_fit_every_row() -> None:
    weight = torch.randn(40, 30) * torch.logspace(-5, 3, 40)[:, None]
    scales = weight_scales(weight)
    assert (weight.abs().amax(1) / scales <= 127).all()
    assert (weight.abs().amax(1) / scales > 124).all()
    mantissa = torch.frexp(scales).mantissa * 128
    assert torch.equal(mantissa, mantissa.round())
    rounded = Rounding().weights(weight) / scales[:, None]
    assert torch.allclose(rounded, rounded.round(), atol=1e-3)


def test_rounding_passes_gradients(make_prior: Callable[..., MaskedPrior]) -> None:
    prior = make_prior()
    signs = torch.randn(2, 12, 6, 6).sign()
    condition = prior.condition(signs, rounding=Rounding()).flatten(0, 2)
    targets = signs.permute(0, 2, 3, 1).flatten(0, 2)
    prior.chain(condition, targets, range(12), Rounding()).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in prior.parameters())


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="radices"):
        MaskedSettings(radices=())
    with pytest.raises(ValueError, match="passes"):
        MaskedSettings(radices=(2,), passes=(13,))
    with pytest.raises(ValueError, match="extra"):
        MaskedSettings.model_validate({"radices": (2,), "depth": 3})
