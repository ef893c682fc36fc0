"""Codebooks too large to count: their joint entropy is estimated, the same however the samples were shared."""

from __future__ import annotations

import pytest
import torch

from bsq.codes import Codes
from bsq.evaluate.tally import Measured, SystemScores, Tally, quality_of
from bsq.metrics import JointEntropyMeter


def measured(digits: torch.Tensor) -> Measured:
    pixels = torch.zeros(1, 3, 1, 16, 16)
    codes = Codes(digits, (2,) * digits.shape[-1])
    return Measured(quality_of(pixels, pixels, None), (), 8.0, 256, codes, None)


def scores(*parts: list[torch.Tensor]) -> SystemScores:
    """Of tallies of these samples, merged."""
    whole = Tally()
    for part in parts:
        tally = Tally()
        for digits in part:
            tally.add(measured(digits))
        whole.merge(tally)
    return whole.scores(None)


def test_joint_entropy_of_a_large_codebook() -> None:
    generator = torch.Generator().manual_seed(0)
    few = torch.randint(0, 2, (6, 24), generator=generator)  # six codes of 24 bits
    samples = [few[torch.randint(0, 6, (1, 1, 10, 10), generator=generator)] for _ in range(4)]
    found = scores(samples).joint_entropy
    assert found is not None
    meter = JointEntropyMeter((2,) * 24)
    for digits in samples:
        meter.add(Codes(digits, (2,) * 24))
    assert found == meter.result()
    assert found.distinct == 6
    assert found.chao_shen_bits == pytest.approx(2.58, abs=0.05)
    for parts in ([samples[:1], samples[1:]], [samples[3:], [], samples[:3]]):
        assert scores(*parts).joint_entropy == found


def test_small_codebooks_are_counted_instead() -> None:
    found = scores([torch.zeros(1, 1, 2, 2, 12, dtype=torch.int64)])
    assert found.joint_entropy is None
    assert found.code_use is not None
    assert found.code_use.index is not None
