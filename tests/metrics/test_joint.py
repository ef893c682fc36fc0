import math

import numpy as np
import pytest
import torch

from bsq.codes import Codes
from bsq.errors import CodesError, DataError
from bsq.metrics import CodeUseMeter, JointUse, JointUseMeter
from bsq.metrics.joint import chao_shen_bits


def measured(digits: torch.Tensor, radices: tuple[int, ...], size: int = 1000) -> JointUse:
    meter = JointUseMeter(radices)
    for part in digits.split(size):
        meter.add(Codes(part[None, None, None], radices))
    return meter.result()


def random_bits(tokens: int, length: int, share: float = 0.5, seed: int = 0) -> torch.Tensor:
    return (torch.rand(tokens, length, generator=torch.Generator().manual_seed(seed)) < share).to(torch.uint8)


def chained_bits(tokens: int, length: int, flips: float) -> torch.Tensor:
    """Each bit is the one before it, flipped now and then: 1 + (L − 1) h(flips) bits."""
    return (random_bits(tokens, length, flips, seed=1).cumsum(1) + random_bits(tokens, 1, seed=2)).remainder(2).byte()


def entropy_of_a_bit(share: float) -> float:
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def test_small_example_by_hand() -> None:
    found = measured(torch.tensor([[0, 0], [0, 0], [0, 1], [1, 1]]), (2, 2))
    assert (found.tokens, found.distinct, found.coverage) == (4, 3, 0.5)
    assert found.seen_bits == pytest.approx(1.5)
    assert found.collision_bits == pytest.approx(math.log2(6))  # one pair of six
    shares = [(0.25, 1), (0.125, 2)]  # half of ½, ¼ and ¼
    expected = sum(-n * p * math.log2(p) / (1 - (1 - p) ** 4) for p, n in shares)
    assert chao_shen_bits(np.array([2, 1, 1])) == pytest.approx(expected)
    assert found.described_bits == pytest.approx(1.5 + 3 * 2 / 8)  # the edge pays for itself: whole codes, 3 parameters


@pytest.mark.parametrize(
    ("digits", "entropy"),
    [
        (random_bits(20000, 10), 10),
        (random_bits(20000, 16), 16),
        (random_bits(20000, 36, 0.05), 36 * entropy_of_a_bit(0.05)),
        (chained_bits(20000, 40, 0.02), 1 + 39 * entropy_of_a_bit(0.02)),
    ],
)
def test_known_distributions(digits: torch.Tensor, entropy: float) -> None:
    found = measured(digits, (2,) * digits.shape[1])
    assert found.collision_bits is not None
    assert found.estimated_bits is not None
    assert found.seen_bits < entropy * 1.001
    assert found.collision_bits < entropy * 1.01
    assert entropy * 0.999 < found.described_bits < entropy * 1.03
    assert found.estimated_bits == pytest.approx(entropy, rel=0.06)
    assert found.estimated_bits <= found.described_bits


def test_more_codes_than_tokens_have_bounds_only() -> None:
    found = measured(random_bits(3000, 200), (2,) * 200)
    assert (found.distinct, found.coverage) == (3000, 0)
    assert found.seen_bits == pytest.approx(math.log2(3000))
    assert found.collision_bits is None
    assert found.estimated_bits is None
    assert 199 < found.described_bits < 201


def test_dependence_beyond_balance_is_seen() -> None:
    digits = chained_bits(5000, 100, 0.01)
    found = measured(digits, (2,) * 100)
    meter = CodeUseMeter((2,) * 100)
    meter.add(Codes(digits[None, None, None], (2,) * 100))
    assert meter.result().marginal_entropy_bits > 99
    assert found.described_bits == pytest.approx(1 + 99 * entropy_of_a_bit(0.01), rel=0.1)


@pytest.mark.parametrize("radices", [(2,) * 30, (8, 5, 5), (70000, 3), (300,)])
def test_batches_order_and_processes_change_nothing(radices: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    digits = torch.stack([torch.randint(radix, (600,), generator=generator) for radix in radices], -1)
    digits = digits[torch.randint(300, (600,), generator=generator)]
    expected = measured(digits, radices, 600)
    assert expected.distinct == len(np.unique(digits.numpy(), axis=0))
    shuffled = digits[torch.randperm(600, generator=generator)]
    for size in (1, 7, 599):
        assert measured(shuffled, radices, size) == expected
    total = JointUseMeter(radices)
    for share in shuffled.tensor_split(7):
        worker = JointUseMeter(radices)
        worker.add(Codes(share[None, None, None], radices))
        total.merge(worker)
    assert total.result() == expected


def test_one_code_only() -> None:
    found = measured(torch.zeros(50, 4, dtype=torch.uint8), (2,) * 4)
    assert (found.distinct, found.coverage, found.seen_bits, found.collision_bits) == (1, 1, 0, 0)
    assert found.estimated_bits == pytest.approx(0)


def test_bad_codes() -> None:
    meter = JointUseMeter((2, 2))
    with pytest.raises(DataError, match="at least 2 tokens, got 0"):
        meter.result()
    meter.add(Codes(torch.zeros(0, 1, 1, 1, 2, dtype=torch.uint8), (2, 2)))
    meter.add(Codes(torch.zeros(1, 1, 1, 1, 2, dtype=torch.uint8), (2, 2)))
    with pytest.raises(DataError, match="got 1"):
        meter.result()
    with pytest.raises(CodesError, match="radices"):
        meter.add(Codes(torch.zeros(1, 1, 1, 1, 2, dtype=torch.uint8), (2, 3)))
    with pytest.raises(CodesError, match="different codebooks"):
        meter.merge(JointUseMeter((2, 3)))
    with pytest.raises(CodesError, match="at least one"):
        JointUseMeter(())
