import itertools
import math

import pytest
import torch
from feature_sets import random_rows

from bsq.errors import DataError, NumericsError, ShapeError
from bsq.metrics import kernel, kernel_distance, kernel_distance_of_subsets


def brute_force(one: torch.Tensor, other: torch.Tensor) -> float:
    """Unbiased squared MMD, pair by pair."""
    width = one.shape[1]

    def similarity(x: torch.Tensor, y: torch.Tensor) -> float:
        return (float(x @ y) / width + 1) ** 3

    def within(rows: torch.Tensor) -> float:
        return math.fsum(similarity(x, y) for x, y in itertools.permutations(rows, 2)) / (len(rows) * (len(rows) - 1))

    across = math.fsum(similarity(x, y) for x in one for y in other) / (len(one) * len(other))
    return within(one) + within(other) - 2 * across


@pytest.mark.parametrize("block", [1, 5, 1024])
def test_agrees_with_brute_force(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK_ROWS", block)
    one, other = random_rows(14, 6, 0), random_rows(11, 6, 1, 0.5)
    assert kernel_distance(one, other) == pytest.approx(brute_force(one, other), rel=1e-10)
    assert kernel_distance(one.flip(0), other) == pytest.approx(kernel_distance(one, other), rel=1e-10)


def test_it_is_zero_on_average_for_one_distribution() -> None:
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(200, 2, 20, 3, generator=generator, dtype=torch.float64)
    found = torch.tensor([kernel_distance(one, other) for one, other in draws])
    assert abs(float(found.mean())) < 4 * float(found.std()) / math.sqrt(200)
    assert float(found.min()) < 0


def test_subsets() -> None:
    one, other = random_rows(30, 6, 0), random_rows(40, 6, 1, 0.5)
    found = kernel_distance_of_subsets(one, other, subsets=7, size=20, seed=3)
    generator = torch.Generator().manual_seed(3)
    values = []
    for _ in range(7):
        here, there = torch.randperm(30, generator=generator)[:20], torch.randperm(40, generator=generator)[:20]
        values.append(brute_force(one[here], other[there]))
    assert found.mean == pytest.approx(sum(values) / 7, rel=1e-10)
    assert found.deviation == pytest.approx(torch.tensor(values).std(correction=0).item(), rel=1e-6)
    assert (found.subsets, found.subset_size, found.seed) == (7, 20, 3)
    assert kernel_distance_of_subsets(one, other, 7, 20, seed=4).mean != found.mean
    whole = kernel_distance_of_subsets(one, other[:30], subsets=2, size=30)
    assert whole.mean == pytest.approx(kernel_distance(one, other[:30]), rel=1e-9)


def test_bad_sets() -> None:
    rows = torch.rand(9, 5)
    with pytest.raises(DataError, match="at least 2 pictures, got 1"):
        kernel_distance(rows[:1], rows)
    with pytest.raises(DataError, match="100 subsets of 1000 from 9 pictures"):
        kernel_distance_of_subsets(rows, rows)
    with pytest.raises(ShapeError, match="differ in width"):
        kernel_distance(rows, rows[:, :3])
    with pytest.raises(NumericsError, match="NaN"):
        kernel_distance(rows, torch.full((9, 5), math.nan))
