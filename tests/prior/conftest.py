"""Small priors with random weights, and both sides of a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from bsq.prior.base import Grid, Prior, Question, reply
from bsq.prior.exact import ExactPrior
from bsq.prior.freeze import freeze
from bsq.prior.masked import MaskedPrior, MaskedSettings


@dataclass(frozen=True)
class Talk:
    """All questions of a conversation and what they cost."""

    questions: list[Question]
    bits: float

    def same_as(self, other: Talk) -> bool:
        """Were the same questions asked, with the same frequencies?"""
        return len(self.questions) == len(other.questions) and all(
            a.digit == b.digit
            and a.chunk == b.chunk
            and np.array_equal(a.tokens, b.tokens)
            and np.array_equal(a.frequencies, b.frequencies)
            for a, b in zip(self.questions, other.questions, strict=True)
        )


def hold(
    prior: Prior, grid: Grid, radices: tuple[int, ...], digits: np.ndarray
) -> Iterator[tuple[Question, np.ndarray]]:
    """Answer a prior from digits (N, L)."""
    conversation = prior.converse(grid, radices)
    question = next(conversation, None)
    while question is not None:
        answers = digits[question.tokens, question.digit].astype(np.int64)
        yield question, answers
        question = reply(conversation, answers)


def talk(prior: Prior, grid: Grid, radices: tuple[int, ...], digits: np.ndarray) -> Talk:
    """Hold a whole conversation and check the rules every prior keeps."""
    asked = np.zeros((grid.tokens, len(radices)), np.int64)
    questions, bits, chunk = [], 0.0, 0
    for question, answers in hold(prior, grid, radices, digits):
        radix, frequencies = radices[question.digit], question.frequencies
        np.add.at(asked, (question.tokens, question.digit), 1)
        assert question.chunk >= chunk, "chunks never decrease"
        chunk = question.chunk
        if radix == 2:
            assert frequencies.dtype == np.uint16
            assert frequencies.shape == question.tokens.shape
            assert frequencies.min() >= 1
            chosen = np.where(answers == 1, frequencies, 65536 - frequencies.astype(np.int64))
        else:
            assert frequencies.dtype == np.uint32
            assert frequencies.shape == (len(question.tokens), radix)
            assert frequencies.min() >= 1
            assert (frequencies.sum(1) == 65536).all()
            chosen = frequencies[np.arange(len(answers)), answers]
        bits -= float(np.log2(chosen / 65536).sum())
        questions.append(question)
    assert (asked == 1).all(), "every digit is asked for exactly once"
    return Talk(questions, bits)


@pytest.fixture(scope="session")
def converse() -> Callable[..., Talk]:
    """`talk`: hold a whole conversation with a prior."""
    return talk


def random_prior(seed: int = 0, **settings: object) -> MaskedPrior:
    """A small float prior whose every weight matters."""
    torch.manual_seed(seed)
    shape = {"radices": (2,) * 12, "layer_digits": 5, "passes": (4, 2), "width": 24, "blocks": 2, "chain_width": 16}
    prior = MaskedPrior(MaskedSettings.model_validate(shape | settings)).eval()
    for parameter in prior.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)
        else:
            torch.nn.init.normal_(parameter, std=0.3)
    return prior


@pytest.fixture(scope="session")
def make_prior() -> Callable[..., MaskedPrior]:
    """`random_prior`: a small float prior, settings as keywords."""
    return random_prior


@pytest.fixture(scope="session")
def exact_prior() -> ExactPrior:
    """A small exact prior of twelve bits in layers of 5, 5 and 2."""
    return freeze(random_prior())


@pytest.fixture(scope="session")
def correlated() -> Callable[..., np.ndarray]:
    """(N, L) digits that vary slowly over the grid."""

    def draw(grid: Grid, radices: tuple[int, ...], seed: int = 0) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(size=(grid.frames, grid.height + 4, grid.width + 4, len(radices)))
        smooth = sum(noise[:, i : i + grid.height, j : j + grid.width] for i in range(5) for j in range(5)) / 5
        ranks = np.clip((smooth + 1.5) / 3, 0, 1 - 1e-9) * np.array(radices)
        return ranks.astype(np.int64).reshape(grid.tokens, len(radices))

    return draw
