"""The null prior: every digit once, every digit alike."""

from __future__ import annotations

import numpy as np
import pytest

from bsq.prior.base import TOTAL_FREQUENCY, Grid
from bsq.prior.uniform import UniformPrior, uniform_frequencies


def test_every_digit_is_asked_once_first_digit_first() -> None:
    grid, radices = Grid(2, 3, 4), (2, 5, 2)
    conversation = UniformPrior().converse(grid, radices)
    question = next(conversation)
    for digit, radix in enumerate(radices):
        assert (question.digit, question.chunk) == (digit, digit)
        assert np.array_equal(question.tokens, np.arange(grid.tokens))
        assert question.frequencies.shape == ((24,) if radix == 2 else (24, radix))
        if digit < 2:
            question = conversation.send(np.zeros(24, np.int64))
    with pytest.raises(StopIteration):
        conversation.send(np.zeros(24, np.int64))


@pytest.mark.parametrize("radix", [2, 3, 7, 8, 1000, 65535, 65536])
def test_frequencies_are_as_even_as_can_be(radix: int) -> None:
    frequencies = uniform_frequencies(3, radix)
    if radix == 2:
        assert frequencies.dtype == np.uint16
        assert (frequencies == TOTAL_FREQUENCY // 2).all()
        return
    assert frequencies.dtype == np.uint32
    assert (frequencies.sum(1) == TOTAL_FREQUENCY).all()
    assert frequencies.min() >= 1
    assert frequencies.max() - frequencies.min() <= 1
