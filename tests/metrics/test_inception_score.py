import math

import pytest
import torch

from bsq.errors import DataError, NumericsError, ShapeError
from bsq.metrics import inception_score


def random_probabilities(count: int, classes: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(count, classes, generator=generator, dtype=torch.float64)).softmax(1)


def by_definition(rows: torch.Tensor) -> float:
    marginal = rows.mean(0)
    divergences = [
        sum(p * math.log(p / q) for p, q in zip(row.tolist(), marginal.tolist(), strict=True)) for row in rows
    ]
    return math.exp(sum(divergences) / len(divergences))


@pytest.mark.parametrize("splits", [1, 2, 10])
def test_definition(splits: int) -> None:
    rows = random_probabilities(40, 12)
    scores = [by_definition(part) for part in rows.chunk(splits)]
    mean = sum(scores) / splits
    found = inception_score(rows, splits)
    assert found.mean == pytest.approx(mean, rel=1e-12)
    assert found.deviation == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in scores) / splits), rel=1e-9)
    assert (found.splits, found.pictures) == (splits, 40)


def test_bounds() -> None:
    assert inception_score(torch.eye(7)).mean == pytest.approx(7)  # sure, and every class as often: 0 log 0 is 0
    assert inception_score(torch.full((5, 4), 0.25)).mean == pytest.approx(1)


def test_one_split_knows_no_order() -> None:
    rows = random_probabilities(50, 9)
    assert inception_score(rows.flip(0)).mean == pytest.approx(inception_score(rows).mean, rel=1e-12)


def test_bad_probabilities() -> None:
    with pytest.raises(ShapeError, match="empty"):
        inception_score(torch.zeros(0, 4))
    with pytest.raises(DataError, match="10 splits"):
        inception_score(torch.full((9, 4), 0.25), 10)
    with pytest.raises(DataError, match="0 splits"):
        inception_score(torch.full((9, 4), 0.25), 0)
    with pytest.raises(NumericsError, match="NaN"):
        inception_score(torch.full((9, 4), math.nan))
    with pytest.raises(NumericsError, match="logits"):
        inception_score(torch.randn(9, 4))
