import math

import numpy as np
import pytest
import torch
from feature_sets import random_rows

from bsq.errors import DataError, NumericsError, ShapeError
from bsq.metrics import manifold, precision_recall
from bsq.metrics.manifold import _exact, squared_radii


def brute_force(pictures: torch.Tensor, references: torch.Tensor, k: int) -> tuple[float, float]:
    def inside(rows: np.ndarray, centres: np.ndarray) -> float:
        radii = []
        for i, centre in enumerate(centres):
            others = np.delete(centres, i, 0)
            radii.append(np.sort(((others - centre) ** 2).sum(1))[k - 1])
        return np.mean([(((centres - row) ** 2).sum(1) <= radii).any() for row in rows])

    return inside(pictures.numpy(), references.numpy()), inside(references.numpy(), pictures.numpy())


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.5, 1e5])
def test_agrees_with_brute_force(k: int, shift: float) -> None:
    pictures, references = random_rows(90, 4, 0, shift), random_rows(70, 4, 1, 1.3 * shift if shift < 1 else shift)
    found = precision_recall(pictures, references, k)
    assert (found.precision, found.recall) == pytest.approx(brute_force(pictures, references, k), abs=1e-12)
    assert (found.neighbours, found.pictures, found.references) == (k, 90, 70)
    if shift == 0.5:
        assert 0 < found.precision < 1
        assert 0 < found.recall < 1


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_ties_and_copies_in_any_order_and_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points of a grid: distances are equal by the dozen, and every ball has neighbours on its rim."""
    monkeypatch.setattr(manifold, "BLOCK_ROWS", block)
    monkeypatch.setattr(manifold, "SPARE", 1)  # so that rows must be computed again
    grid = torch.cartesian_prod(*[torch.arange(4.0)] * 3).double() / 3
    generator = torch.Generator().manual_seed(0)
    pictures = grid[torch.randint(len(grid), (60,), generator=generator)]
    references = grid[torch.randint(len(grid), (60,), generator=generator)] + torch.tensor([1 / 3, 0, 0])
    expected = brute_force(pictures, references, 3)
    for order in (torch.arange(60), torch.randperm(60, generator=generator)):
        found = precision_recall(pictures[order], references[order])
        assert (found.precision, found.recall) == expected


def test_the_same_set_is_its_own_manifold() -> None:
    rows = random_rows(50, 300, 0)
    assert precision_recall(rows, rows.flip(0)).precision == 1
    far = precision_recall(rows, rows + 1e3)
    assert (far.precision, far.recall) == (0, 0)


def test_all_rows_equal() -> None:
    found = precision_recall(torch.ones(30, 4), torch.ones(30, 4))
    assert (found.precision, found.recall) == (1, 1)


def test_a_distance_has_the_same_bits_both_ways_round() -> None:
    rows = random_rows(20, 2048, 0)
    for i in range(20):
        alone = torch.cat([_exact(rows[i], rows[j : j + 1]) for j in range(20)])
        turned = torch.cat([_exact(rows[j], rows[i : i + 1]) for j in range(20)])
        assert torch.equal(_exact(rows[i], rows), alone)
        assert torch.equal(turned, alone)


def test_radii() -> None:
    rows = torch.tensor([[0.0], [1.0], [3.0], [7.0]]).double()
    assert squared_radii(rows, 1).tolist() == [1, 1, 4, 16]
    assert squared_radii(rows, 3).tolist() == [49, 36, 16, 49]


def test_bad_sets() -> None:
    with pytest.raises(DataError, match="at least 4 pictures, got 3"):
        precision_recall(torch.rand(3, 5), torch.rand(9, 5))
    with pytest.raises(DataError, match="at least 4 references, got 0"):
        precision_recall(torch.rand(9, 5), torch.rand(0, 5))
    with pytest.raises(DataError, match="at least 1 neighbour"):
        precision_recall(torch.rand(9, 5), torch.rand(9, 5), 0)
    with pytest.raises(ShapeError, match="differ in width: 5, 6"):
        precision_recall(torch.rand(9, 5), torch.rand(9, 6))
    with pytest.raises(NumericsError, match="references hold NaN"):
        precision_recall(torch.rand(9, 5), torch.full((9, 5), math.nan))
