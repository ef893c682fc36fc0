"""Inception score, precision and recall, kernel distance: against their definitions, written out."""

import math

import numpy as np
import pytest
import torch

from bsq.errors import DataError, NumericsError, ShapeError
from bsq.metrics import inception_score, kernel_distance, precision_recall
from bsq.metrics.kernel import squared_discrepancy
from bsq.metrics.rows import RowStore


def rows(count: int, width: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)) + shift


def test_inception_score_is_its_definition() -> None:
    logits = rows(23, 7, 0) * 3
    found = inception_score(logits, splits=4)
    scores = []
    for split in range(4):
        part = logits[split * 23 // 4 : (split + 1) * 23 // 4]
        chances = np.array([[math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in part])
        whole = chances.mean(0)
        divergences = [sum(p * math.log(p / q) for p, q in zip(row, whole, strict=True)) for row in chances]
        scores.append(math.exp(sum(divergences) / len(part)))
    assert found.mean == pytest.approx(np.mean(scores), rel=1e-12)
    assert found.deviation == pytest.approx(np.std(scores), rel=1e-9)
    assert (found.splits, found.pictures) == (4, 23)


def test_inception_score_at_its_ends() -> None:
    assert inception_score(np.eye(5) * 1e4, splits=1).mean == pytest.approx(5)
    assert inception_score(np.ones((6, 5)), splits=2).mean == pytest.approx(1)
    assert inception_score(np.array([[0.0, -2000.0], [0.0, -2000.0]]), splits=1).mean == pytest.approx(1)


def brute_force(references: np.ndarray, samples: np.ndarray, k: int) -> tuple[float, float]:
    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))

    def share(balls: np.ndarray, points: np.ndarray) -> float:
        radii = []
        for i, ball in enumerate(balls):
            others = sorted(distance(ball, other) for j, other in enumerate(balls) if j != i)
            radii.append(others[k - 1])
        inside = [
            any(distance(point, b) <= r * (1 + 1e-12) for b, r in zip(balls, radii, strict=True)) for point in points
        ]
        return sum(inside) / len(inside)

    return share(references, samples), share(samples, references)


@pytest.mark.parametrize(("k", "block"), [(1, 1024), (3, 5), (3, 1024)])
def test_precision_and_recall_by_brute_force(k: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bsq.metrics.manifold.BLOCK", block)
    references, samples = rows(31, 3, 1) + 100, rows(26, 3, 2, shift=0.8) + 100
    found = precision_recall(references, samples, k)
    assert (found.precision, found.recall) == brute_force(references, samples, k)
    assert 0 < found.precision < 1
    assert 0 < found.recall < 1
    assert (found.references, found.samples, found.neighbours) == (31, 26, k)


def test_distances_equal_to_a_radius_count_as_inside() -> None:
    """On a lattice nearly every distance is a tie; sets that share rows, and rows that come twice, are no trouble."""
    lattice = np.stack(np.meshgrid(*[np.arange(4.0)] * 2), -1).reshape(-1, 2) / 3 + 17
    samples = np.concatenate([lattice[::3], lattice[::3] + np.array([0.0, 4.0])])
    found = precision_recall(lattice, samples)
    assert (found.precision, found.recall) == brute_force(lattice, samples, 3)
    twice = np.repeat(lattice, 4, 0)
    assert precision_recall(twice, lattice).precision == 1
    assert precision_recall(lattice, rows(20, 2, 1) - 100).recall == 0


def test_kernel_distance_is_its_definition() -> None:
    references, samples = rows(9, 4, 1), rows(7, 4, 2, shift=0.5)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(x * y for x, y in zip(a, b, strict=True)) / 4 + 1) ** 3

    def within(points: np.ndarray) -> float:
        pairs = [kernel(a, b) for i, a in enumerate(points) for j, b in enumerate(points) if i != j]
        return sum(pairs) / len(pairs)

    across = [kernel(a, b) for a in references for b in samples]
    wanted = within(references) + within(samples) - 2 * sum(across) / len(across)
    assert squared_discrepancy(references, samples) == pytest.approx(wanted, rel=1e-12)
    same_size = kernel_distance(references[:7], samples, subsets=3)  # whole sets: all subsets are one
    assert same_size.mean == pytest.approx(squared_discrepancy(references[:7], samples), rel=1e-12)
    assert same_size.deviation == pytest.approx(0, abs=1e-12)
    assert same_size.subset_size == 7


def test_kernel_distance_is_unbiased_and_seeded() -> None:
    """Of two sets of one distribution: 0 on average, as often below as above."""
    values = [squared_discrepancy(rows(20, 3, 2 * i), rows(20, 3, 2 * i + 1)) for i in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values))
    assert min(values) < 0 < max(values)
    one, other = rows(50, 3, 1), rows(60, 3, 2, 1.0)
    first = kernel_distance(one, other, subsets=5, subset_size=20, seed=4)
    assert first == kernel_distance(one, other, subsets=5, subset_size=20, seed=4)
    assert first.mean != kernel_distance(one, other, subsets=5, subset_size=20, seed=5).mean
    assert first.deviation > 0
    assert first.subset_size == 20


def test_kept_rows_lie_in_an_order_of_their_own() -> None:
    given = torch.from_numpy(rows(20, 3, 0)).float()
    one, other, parts = RowStore(3), RowStore(3), RowStore(3)
    one.add(given)
    for row in given.flip(0)[:12].split(1):
        parts.add(row)
    other.add(given[:8])
    parts.merge(other)
    assert len(parts) == 20
    assert (parts.rows() == one.rows()).all()
    assert sorted(one.rows().tolist()) == sorted(given.double().tolist())
    assert RowStore(3).rows().shape == (0, 3)


def test_bad_sets() -> None:
    with pytest.raises(DataError, match="as many pictures, got 3"):
        inception_score(rows(3, 2, 0))
    with pytest.raises(DataError, match="got 3"):
        precision_recall(rows(3, 2, 0), rows(9, 2, 0))
    with pytest.raises(DataError, match="2 or more"):
        kernel_distance(rows(1, 2, 0), rows(9, 2, 0))
    with pytest.raises(NumericsError, match="NaN"):
        inception_score(np.full((3, 2), np.nan), splits=1)
    with pytest.raises(ShapeError, match="logits"):
        inception_score(np.zeros(3))
    for measure in (precision_recall, kernel_distance):
        with pytest.raises(NumericsError, match="NaN"):
            measure(rows(9, 2, 0), np.full((9, 2), np.nan))
        with pytest.raises(ShapeError, match="two networks"):
            measure(rows(9, 2, 0), rows(9, 3, 0))
        with pytest.raises(ShapeError, match="expected features"):
            measure(np.zeros(3), rows(9, 3, 0))
    store = RowStore(3)
    with pytest.raises(NumericsError, match="NaN"):
        store.add(torch.full((1, 3), math.nan))
    with pytest.raises(ShapeError, match="expected features"):
        store.add(torch.zeros(1, 2))
    with pytest.raises(ShapeError, match="put together"):
        store.merge(RowStore(2))
