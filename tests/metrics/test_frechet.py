import math
import pickle

import numpy as np
import pytest
import scipy.linalg
import torch
from feature_sets import random_rows

from bsq.errors import DataError, NumericsError, ShapeError
from bsq.metrics import Covariance, Gaussian, GaussianStatistics, frechet_distance
from bsq.metrics.frechet import BLOCK_ROWS


def gaussian_of(rows: torch.Tensor, covariance: Covariance = Covariance.SAMPLE) -> Gaussian:
    statistics = GaussianStatistics()
    statistics.add(rows)
    return statistics.result(covariance)


def by_sqrtm(one: torch.Tensor, other: torch.Tensor) -> float:
    """As published: numpy's means and covariances, scipy's square root of a matrix."""
    means = [rows.numpy().mean(0) for rows in (one, other)]
    covariances = [np.atleast_2d(np.cov(rows.numpy(), rowvar=False)) for rows in (one, other)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root))


def by_rows(one: torch.Tensor, other: torch.Tensor) -> float:
    """Without a covariance: tr (Σ₁Σ₂)^½ is the sum of singular values of X₁X₂ᵀ, for centred rows over √(n − 1)."""
    means = [rows.numpy().mean(0) for rows in (one, other)]
    centred = [(rows.numpy() - mean) / math.sqrt(len(rows) - 1) for rows, mean in zip((one, other), means, strict=True)]
    overlap = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    return float(((means[0] - means[1]) ** 2).sum() + sum((rows**2).sum() for rows in centred) - 2 * overlap)


@pytest.mark.parametrize(("width", "counts"), [(1, (5, 9)), (3, (40, 30)), (24, (200, 300))])
def test_agrees_with_the_square_root_of_scipy(width: int, counts: tuple[int, int]) -> None:
    one, other = random_rows(counts[0], width, 0), random_rows(counts[1], width, 1, 0.3)
    assert frechet_distance(gaussian_of(one), gaussian_of(other)) == pytest.approx(by_sqrtm(one, other), rel=1e-9)


@pytest.mark.parametrize("counts", [(5, 9), (40, 300), (2, 2)])
def test_fewer_rows_than_numbers_in_a_row(counts: tuple[int, int]) -> None:
    one, other = random_rows(counts[0], 60, 0), random_rows(counts[1], 60, 1, 0.3)
    found = frechet_distance(gaussian_of(one), gaussian_of(other))
    assert found == pytest.approx(by_rows(one, other), rel=1e-9)


def test_closed_forms_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    spread, other_spread = rng.uniform(0.1, 3, 5), rng.uniform(0.1, 3, 5)
    mean, other_mean = rng.normal(size=5), rng.normal(size=5)
    one = Gaussian(mean, turn @ np.diag(spread**2) @ turn.T)
    other = Gaussian(other_mean, turn @ np.diag(other_spread**2) @ turn.T)
    apart = ((mean - other_mean) ** 2).sum()
    # covariances that commute: the standard deviations differ, axis by axis
    assert frechet_distance(one, other) == pytest.approx(apart + ((spread - other_spread) ** 2).sum(), rel=1e-12)
    # the same covariance: the means differ
    assert frechet_distance(one, Gaussian(other_mean, one.covariance)) == pytest.approx(apart, rel=1e-12)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)
    # a point: the mean squared distance from it
    point = Gaussian(other_mean, np.zeros((5, 5)))
    assert frechet_distance(one, point) == pytest.approx(apart + (spread**2).sum(), rel=1e-12)
    # one line and another at a right angle share nothing
    along, across = (Gaussian(np.zeros(2), np.diag(v)) for v in ([4.0, 0.0], [0.0, 9.0]))
    assert frechet_distance(along, across) == pytest.approx(13)


def test_two_by_two_that_do_not_commute() -> None:
    """tr √M of a 2 × 2 matrix is √(tr M + 2 √det M)."""
    one, other = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    product = one @ other
    root = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    found = frechet_distance(Gaussian(np.zeros(2), one), Gaussian(np.zeros(2), other))
    assert found == pytest.approx(np.trace(one + other) - 2 * root, rel=1e-12)


def test_statistics_are_those_of_numpy() -> None:
    rows = random_rows(700, 7, 2, 5.0)
    for divisor, covariance in ((699, Covariance.SAMPLE), (700, Covariance.POPULATION)):
        found = gaussian_of(rows, covariance)
        assert found.count == 700
        np.testing.assert_allclose(found.mean, rows.numpy().mean(0), rtol=1e-13)
        np.testing.assert_allclose(found.covariance, np.cov(rows.numpy(), rowvar=False) * 699 / divisor, rtol=1e-11)


@pytest.mark.parametrize("size", [1, 7, BLOCK_ROWS, 300, 700])
def test_batches_of_any_size_give_the_same_bits(size: int) -> None:
    rows = random_rows(700, 7, 2)
    statistics = GaussianStatistics()
    for batch in rows.split(size):
        statistics.add(batch)
        statistics.add(batch[:0])
    whole, found = gaussian_of(rows), statistics.result()
    assert found.count == 700
    assert np.array_equal(found.mean, whole.mean)
    assert np.array_equal(found.covariance, whole.covariance)
    assert np.array_equal(statistics.result().covariance, found.covariance)


@pytest.mark.parametrize("count", [30, 900])  # fewer and more rows than numbers in a row
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_order_and_processes_change_nothing(count: int, shift: float) -> None:
    one, other = random_rows(count, 48, 0, shift), random_rows(count, 48, 1, shift + 0.1)
    expected = frechet_distance(gaussian_of(one), gaussian_of(other))
    for processes in (1, 2, 5):
        shuffled = one[torch.randperm(count, generator=torch.Generator().manual_seed(processes))]
        total = GaussianStatistics()
        for share in shuffled.tensor_split(processes):
            worker = GaussianStatistics()
            for batch in share.split(11 * processes):
                worker.add(batch)
            total.merge(pickle.loads(pickle.dumps(worker)))
        assert frechet_distance(total.result(), gaussian_of(other)) == pytest.approx(expected, rel=1e-9)


def test_a_caller_may_reuse_its_array() -> None:
    rows = np.ones((3, 2))
    rows[0] = 4
    statistics = GaussianStatistics()
    statistics.add(rows)
    rows[:] = 0
    np.testing.assert_allclose(statistics.result().mean, [2, 2])


def test_bad_features() -> None:
    statistics = GaussianStatistics()
    with pytest.raises(DataError, match="at least 2 pictures"):
        statistics.result()
    statistics.add(torch.ones(1, 4))
    with pytest.raises(DataError, match="got 1"):
        statistics.result()
    with pytest.raises(ShapeError, match="of 5 numbers cannot join features of 4"):
        statistics.add(torch.ones(1, 5))
    with pytest.raises(NumericsError, match="NaN"):
        statistics.add(torch.tensor([[1.0, math.nan, 0, 0]]))
    with pytest.raises(ShapeError, match="expected features"):
        statistics.add(torch.ones(4))
    other = GaussianStatistics()
    other.add(torch.ones(BLOCK_ROWS, 3))
    with pytest.raises(ShapeError, match="cannot join"):
        statistics.merge(other)
    statistics.add(torch.zeros(1, 4))
    assert statistics.result().count == 2  # nothing bad was counted
    with pytest.raises(ShapeError, match="no Fréchet distance"):
        frechet_distance(statistics.result(), other.result())
    with pytest.raises(NumericsError, match="NaN"):
        frechet_distance(Gaussian(np.array([math.nan]), np.eye(1)), Gaussian(np.zeros(1), np.eye(1)))
    with pytest.raises(NumericsError, match="not a covariance"):
        frechet_distance(Gaussian(np.zeros(2), np.diag([1.0, -1.0])), Gaussian(np.zeros(2), np.eye(2)))
