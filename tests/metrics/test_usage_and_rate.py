import math

import numpy as np
import pytest
import torch

from bsq.codes import Codes
from bsq.errors import CodesError, DataError, ShapeError
from bsq.metrics import CodeUseMeter, RateMeter, bits_per_pixel, raw_bits_per_pixel


def random_codes(radices: tuple[int, ...], batch: int = 4, seed: int = 0) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    digits = [torch.randint(r, (batch, 1, 6, 5), generator=generator) for r in radices]
    return Codes(torch.stack(digits, -1), radices)


def test_exact_use_of_a_small_codebook() -> None:
    indices = torch.tensor([0, 0, 1, 5]).reshape(1, 1, 2, 2)
    meter = CodeUseMeter((2, 2, 2))
    meter.add(Codes.from_indices(indices, (2, 2, 2)))
    use = meter.result()
    assert use.index is not None
    assert (use.tokens, use.index.codebook_size, use.index.used, use.index.fraction) == (4, 8, 3, 3 / 8)
    assert use.index.entropy_bits == pytest.approx(1.5)
    assert use.index.perplexity == pytest.approx(2**1.5)
    assert use.ones == (0.25, 0.0, 0.5)
    assert use.worst_imbalance == 0.5
    assert use.marginal_entropy_bits == pytest.approx(1 + 2 - 0.75 * math.log2(3))


@pytest.mark.parametrize("radices", [(2,) * 9, (8, 5, 5), (1000,), (2,) * 72])
def test_against_brute_force_in_any_order(radices: tuple[int, ...]) -> None:
    batches = [random_codes(radices, batch, seed) for seed, batch in enumerate((3, 1, 5))]
    whole, parts, other = (CodeUseMeter(radices) for _ in range(3))
    whole.add(Codes(torch.cat([codes.digits for codes in batches]), radices))
    parts.add(batches[2])
    other.add(batches[0])
    other.add(batches[1])
    parts.merge(other)
    assert vars(whole.result()).keys() == vars(parts.result()).keys()
    rows = np.concatenate([codes.digits.reshape(-1, len(radices)).numpy() for codes in batches])
    for result in (whole.result(), parts.result()):
        for d in range(len(radices)):
            _, counts = np.unique(rows[:, d], return_counts=True)
            shares = counts / counts.sum()
            assert result.digit_entropies_bits[d] == pytest.approx(-(shares * np.log2(shares)).sum(), rel=1e-9)
        if math.prod(radices) <= 2**20:
            assert result.index is not None
            assert result.index.used == len(np.unique(rows, axis=0))
        else:
            assert result.index is None


def test_bad_codes() -> None:
    meter = CodeUseMeter((2, 2))
    with pytest.raises(DataError, match="no codes"):
        meter.result()
    with pytest.raises(CodesError, match="radices"):
        meter.add(random_codes((2, 3)))
    with pytest.raises(CodesError, match="different"):
        meter.merge(CodeUseMeter((2, 2, 2)))
    with pytest.raises(CodesError, match="continuous"):
        CodeUseMeter(())


def test_rate() -> None:
    meter = RateMeter()
    with pytest.raises(DataError, match="no pictures"):
        meter.result()
    meter.add(1000, 100, 100)
    other = RateMeter()
    other.add(1000, 200, 100)
    meter.merge(other)
    rate = meter.result()
    assert (rate.pictures, rate.bytes) == (2, 2000)
    assert rate.bits_per_pixel == pytest.approx(0.6)
    assert rate.pooled_bits_per_pixel == pytest.approx(16000 / 30000)
    assert bits_per_pixel(100, 10, 10, frames=4) == 2
    with pytest.raises(ShapeError, match="no rate"):
        bits_per_pixel(10, 0, 10)


def test_raw_rate_of_codes() -> None:
    assert raw_bits_per_pixel(random_codes((2,) * 18), (48, 40)) == 18 / 64
    assert raw_bits_per_pixel(random_codes((8, 5, 5)), (48, 40)) == 9 / 64
