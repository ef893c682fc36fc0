import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from bsq.errors import DataError, NumericsError, ShapeError
from bsq.metrics import GaussianStatistics, Moments, frechet_distance, load_moments, save_moments


def features(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Correlated, of unlike scales, off centre."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(count, width, generator=generator, dtype=torch.float64) @ torch.randn(
        width, width, generator=generator, dtype=torch.float64
    )
    return mixed * torch.linspace(0.01, 1, width, dtype=torch.float64) + torch.arange(width) / width


def moments_of(rows: torch.Tensor) -> Moments:
    statistics = GaussianStatistics(rows.shape[1])
    statistics.add(rows)
    return statistics.moments()


def by_matrix_root(one: Moments, other: Moments) -> float:
    root = sqrtm(one.covariance @ other.covariance)
    gap = one.mean - other.mean
    return float(gap @ gap + np.trace(one.covariance + other.covariance) - 2 * np.trace(root).real)


def test_moments_are_those_of_numpy() -> None:
    rows = features(500, 12).float()
    found = moments_of(rows)
    wanted = rows.double().numpy()
    assert found.count == 500
    np.testing.assert_allclose(found.mean, wanted.mean(0), rtol=1e-7)
    np.testing.assert_allclose(found.covariance, np.cov(wanted, rowvar=False), rtol=1e-6, atol=1e-9)


def test_agrees_with_scipys_matrix_root() -> None:
    one, other = moments_of(features(300, 24, 1)), moments_of(features(200, 24, 2))
    assert frechet_distance(one, other) == pytest.approx(by_matrix_root(one, other), rel=1e-9)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-9)
    few = moments_of(features(10, 24, 3))  # of rank 9
    assert frechet_distance(one, few) == pytest.approx(by_matrix_root(one, few), rel=1e-5)


@pytest.mark.parametrize("counts", [(2, 2), (5, 9), (40, 300)])
@pytest.mark.parametrize("offset", [0.0, 900.0])
def test_fewer_rows_than_features(counts: tuple[int, int], offset: float) -> None:
    """Against a form without covariances: tr (Σ₁Σ₂)^½ is the sum of singular values of X₁X₂ᵀ, X centred and scaled."""
    sets = [(features(count, 60, seed) / 16).float() + offset for seed, count in enumerate(counts)]
    means = [rows.double().numpy().mean(0) for rows in sets]
    scaled = [(rows.double().numpy() - mean) / np.sqrt(len(rows) - 1) for rows, mean in zip(sets, means, strict=True)]
    wanted = ((means[0] - means[1]) ** 2).sum() + sum((rows**2).sum() for rows in scaled)
    wanted -= 2 * np.linalg.svd(scaled[0] @ scaled[1].T, compute_uv=False).sum()
    assert frechet_distance(*map(moments_of, sets)) == pytest.approx(wanted, rel=1e-6)


def test_covariances_that_do_not_commute() -> None:
    """tr √M of a 2 × 2 matrix is √(tr M + 2 √det M)."""
    one, other = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    root = np.sqrt(np.trace(one @ other) + 2 * np.sqrt(np.linalg.det(one @ other)))
    found = frechet_distance(Moments(np.zeros(2), one), Moments(np.zeros(2), other))
    assert found == pytest.approx(np.trace(one + other) - 2 * root, rel=1e-12)


def test_closed_forms() -> None:
    """Diagonal covariances: |μ₁ − μ₂|² + Σ (σ₁ − σ₂)²; also when both are turned alike; 0 for equal sets."""
    sigmas = np.array([[0.5, 1.0, 2.0, 0.0], [1.5, 1.0, 0.1, 0.3]])
    means = np.array([[0.0, 1.0, 2.0, 3.0], [0.5, 1.0, 1.0, 3.0]])
    wanted = ((means[0] - means[1]) ** 2).sum() + ((sigmas[0] - sigmas[1]) ** 2).sum()
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    for axes in (np.eye(4), turn):
        one, other = (Moments(axes @ m, axes @ np.diag(s**2) @ axes.T) for m, s in zip(means, sigmas, strict=True))
        assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-9)
        assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("count", [9, 400])
def test_the_same_to_the_last_bit_in_any_batches_order_and_processes(count: int) -> None:
    """Also with fewer rows than features, where roots of what ought to be 0 would magnify roundings."""
    rows, fixed = features(count, 32, 5).float(), moments_of(features(100, 32, 6))
    whole = moments_of(rows)
    parts = [GaussianStatistics(32) for _ in range(3)]
    for number, row in enumerate(rows[torch.randperm(count, generator=torch.Generator().manual_seed(3))].split(7)):
        parts[number % 3].add(row)
    total = GaussianStatistics(32)
    for part in reversed(parts):
        total.merge(pickle.loads(pickle.dumps(part)))
    found = total.moments()
    assert (found.mean == whole.mean).all()
    assert (found.covariance == whole.covariance).all()
    assert frechet_distance(found, fixed) == frechet_distance(whole, fixed)


def test_counts_stay_exact_at_the_edge_of_the_range() -> None:
    """Largest features, more rows than are taken at once, against integers of any size."""
    rows = torch.full((5000, 2), 1024 - 2.0**-20, dtype=torch.float64)
    rows[:, 1] = 2.0**-29 * (torch.arange(5000) % 3 + 1)
    found = moments_of(rows)
    steps = [[int(x * 2**29) for x in row] for row in rows.tolist()]
    for i in range(2):
        assert found.mean[i] == pytest.approx(sum(s[i] for s in steps) / 5000 / 2**29, rel=1e-15)
    spread = 5000 * sum(s[1] ** 2 for s in steps) - sum(s[1] for s in steps) ** 2
    assert found.covariance[1, 1] == pytest.approx(spread / 5000 / 4999 / 2**58, rel=1e-9)


def test_tiny_features_are_refused_rather_than_rounded_away() -> None:
    """Of features of 1e-10, steps of 2⁻²⁹ would leave nothing, and a distance of 0."""
    for scale in (1e-4, 1e-10):
        with pytest.raises(NumericsError, match="scale them"):
            moments_of(features(30, 4).clamp(-9, 9) * scale)
    total, part = GaussianStatistics(4), GaussianStatistics(4)
    total.add(torch.full((2, 4), 1e-6))
    part.add(torch.ones(2, 4))
    total.merge(part)
    assert total.moments().mean == pytest.approx(np.full(4, 0.5), rel=1e-5)
    one, other = features(90, 12, 1), features(80, 12, 2)
    small = frechet_distance(moments_of(one * 2**-10), moments_of(other * 2**-10))
    assert small * 2**20 == pytest.approx(frechet_distance(moments_of(one), moments_of(other)), rel=1e-5)
    assert moments_of(torch.zeros(3, 4)).covariance.max() == 0  # a network may well be silent


def test_files(tmp_path: Path) -> None:
    one, other = moments_of(features(30, 4)), moments_of(features(30, 6))
    save_moments(tmp_path / "both.npz", one, other)
    save_moments(tmp_path / "bare", one)
    pooled, spatial = load_moments(tmp_path / "both.npz")
    assert (pooled.mean == one.mean).all()
    assert (pooled.covariance == one.covariance).all()
    assert pooled.count == 30
    assert spatial is not None
    assert (spatial.covariance == other.covariance).all()
    assert load_moments(tmp_path / "bare")[1] is None
    np.savez(tmp_path / "theirs.npz", mu=one.mean.astype(np.float32), sigma=one.covariance)
    assert load_moments(tmp_path / "theirs.npz")[0].count is None


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_moments(tmp_path / "absent.npz")
    (tmp_path / "noise.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DataError, match="cannot be read"):
        load_moments(tmp_path / "noise.npz")
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(DataError, match="cannot be read"):
        load_moments(tmp_path / "single.npy")
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    with pytest.raises(DataError, match="no mu and sigma"):
        load_moments(tmp_path / "other.npz")
    np.savez(tmp_path / "objects.npz", mu=np.array([{}], dtype=object), sigma=np.zeros((1, 1)))
    with pytest.raises(DataError, match="cannot be read"):
        load_moments(tmp_path / "objects.npz")
    np.savez(tmp_path / "uneven.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    with pytest.raises(ShapeError, match="moments need"):
        load_moments(tmp_path / "uneven.npz")
    np.savez(tmp_path / "words.npz", mu=np.array(["a"]), sigma=np.array([["b"]]))
    with pytest.raises(DataError, match="mu holds no real numbers"):
        load_moments(tmp_path / "words.npz")
    np.savez(tmp_path / "counts.npz", mu=np.zeros(1), sigma=np.eye(1), count=np.array([1, 2]))
    with pytest.raises(DataError, match=r"count holds no real numbers, or too many: int64 \(2,\)"):
        load_moments(tmp_path / "counts.npz")
    np.savez(tmp_path / "below.npz", mu=np.zeros(2), sigma=-np.eye(2))
    with pytest.raises(DataError, match="variances below 0: -1"):
        load_moments(tmp_path / "below.npz")


def test_bad_rows() -> None:
    statistics = GaussianStatistics(3)
    with pytest.raises(DataError, match="at least 2"):
        statistics.moments()
    statistics.add(torch.zeros(1, 3))
    with pytest.raises(DataError, match="got 1"):
        statistics.moments()
    with pytest.raises(NumericsError, match="NaN"):
        statistics.add(torch.tensor([[0.0, 0.0, torch.nan]]))
    with pytest.raises(NumericsError, match="below 1024"):
        statistics.add(torch.tensor([[0.0, 0.0, -1024.0]]))
    for rows in (torch.zeros(1, 4), torch.zeros(3), torch.zeros(1, 3, dtype=torch.int64)):
        with pytest.raises(ShapeError, match="expected features"):
            statistics.add(rows)
    assert statistics.count == 1
    with pytest.raises(ShapeError, match="add up"):
        statistics.merge(GaussianStatistics(4))
    with pytest.raises(ShapeError, match="two networks"):
        frechet_distance(moments_of(features(5, 2)), moments_of(features(5, 3)))
    with pytest.raises(NumericsError, match="NaN"):
        Moments(np.array([np.nan]), np.ones((1, 1)))
