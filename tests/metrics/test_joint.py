import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bsq.codes import Codes
from bsq.errors import CodesError, DataError
from bsq.metrics.joint import JointEntropy, JointEntropyMeter


def codes_of(indices: np.ndarray, bits: int, above: int) -> Codes:
    """Numbers as the last `bits` of codes `bits + above` long, the rest a fixed pattern."""
    rows = torch.from_numpy(indices)[:, None] >> torch.arange(bits - 1, -1, -1) & 1
    rows = torch.cat([torch.arange(above).expand(len(rows), -1) % 2, rows], 1)
    return Codes(rows.reshape(len(rows), 1, 1, 1, -1), (2,) * (bits + above))


def test_estimates_of_known_distributions() -> None:
    """Uniform over 4096 codes of 40 bits, and geometric: corrections come nearer to the truth."""
    generator = np.random.Generator(np.random.PCG64(1))
    shares = 0.995 ** np.arange(4096)
    shares /= shares.sum()
    for chances in (np.full(4096, 1 / 4096), shares):
        truth = -(chances * np.log2(chances)).sum()
        meter = JointEntropyMeter((2,) * 40)
        meter.add(codes_of(generator.choice(4096, 4000, p=chances), 12, 28))
        found = meter.result()
        assert found.tokens == 4000
        assert found.plug_in_bits < found.miller_madow_bits < truth + 0.1
        assert abs(found.chao_shen_bits - truth) < 0.5 * (truth - found.plug_in_bits)
    assert found.coverage > 0.9
    assert "believed" in found.note


def test_by_hand() -> None:
    found = JointEntropy.of(np.array([2, 1, 0, 1]))
    assert (found.tokens, found.distinct, found.once, found.coverage) == (4, 3, 2, 0.5)
    assert found.plug_in_bits == pytest.approx(1.5)
    assert found.miller_madow_bits == pytest.approx(1.5 + 2 / 8 / math.log(2))
    terms = [p * math.log2(p) / (1 - (1 - p) ** 4) for p in (0.25, 0.125, 0.125)]
    assert found.chao_shen_bits == pytest.approx(-sum(terms))
    assert JointEntropy.of(np.array([7])).chao_shen_bits == 0
    assert JointEntropy.of(np.array([1])).plug_in_bits == 0


def test_too_few_codes_say_so() -> None:
    found = JointEntropy.of(np.ones(1024, np.int64))
    assert found.plug_in_bits == pytest.approx(10)
    assert found.chao_shen_bits > 10
    assert "all of 1024 codes differ" in found.note
    assert "rough" in JointEntropy.of(np.array([1, 1, 1, 2])).note


@pytest.mark.parametrize("radices", [(2,) * 67, (8, 5, 5), (1000, 3)])
def test_any_order_and_processes(radices: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    digits = torch.stack([torch.randint(min(r, 3), (40, 1, 2, 3), generator=generator) for r in radices], -1)
    digits[:, :, 1, :, 5:] = 1
    whole, one, other = (JointEntropyMeter(radices) for _ in range(3))
    whole.add(Codes(digits, radices))
    one.add(Codes(digits[30:], radices))
    other.add(Codes(digits[10:30], radices))
    other.add(Codes(digits[:10], radices))
    one.merge(other)
    assert one.result() == whole.result()
    rows = digits.reshape(-1, len(radices)).numpy()
    counted = JointEntropy.of(np.unique(rows, axis=0, return_counts=True)[1])
    assert replace(whole.result(), described_bits=None) == counted


def test_bad_codes() -> None:
    with pytest.raises(DataError, match="no codes"):
        JointEntropyMeter((2, 2)).result()
    with pytest.raises(CodesError, match="radices"):
        JointEntropyMeter((2, 2)).add(codes_of(np.zeros(1, int), 3, 0))
    with pytest.raises(CodesError, match="different"):
        JointEntropyMeter((2, 2)).merge(JointEntropyMeter((2, 3)))
    with pytest.raises(CodesError, match="continuous"):
        JointEntropyMeter(())
