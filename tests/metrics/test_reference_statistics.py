from pathlib import Path

import numpy as np
import pytest
from feature_sets import random_rows

from bsq.errors import DataError
from bsq.metrics import GaussianStatistics, NetworkIdentity, ReferenceStatistics, load_statistics, save_statistics

IDENTITY = NetworkIdentity("net", "a" * 64, "8 bits", comparable=True)


def some_statistics() -> ReferenceStatistics:
    parts = []
    for width in (5, 3):
        statistics = GaussianStatistics()
        statistics.add(random_rows(9, width, width))
        parts.append(statistics.result())
    return ReferenceStatistics(parts[0], parts[1], IDENTITY.name, IDENTITY.weights_sha256, IDENTITY.preparation)


def test_saved_and_loaded(tmp_path: Path) -> None:
    saved = some_statistics()
    save_statistics(tmp_path / "ref.npz", saved)
    found = load_statistics(tmp_path / "ref.npz")
    assert found.spatial is not None
    assert saved.spatial is not None
    for one, other in ((found.pooled, saved.pooled), (found.spatial, saved.spatial)):
        assert np.array_equal(one.mean, other.mean)
        assert np.array_equal(one.covariance, other.covariance)
        assert one.count == other.count == 9
    assert found.doubts(IDENTITY) == ()
    assert [path.name for path in tmp_path.iterdir()] == ["ref.npz"]


def test_files_of_other_programs(tmp_path: Path) -> None:
    pooled, spatial = some_statistics().pooled, some_statistics().spatial
    assert spatial is not None
    np.savez(tmp_path / "pytorch-fid.npz", mu=pooled.mean, sigma=pooled.covariance.astype(np.float32))
    found = load_statistics(tmp_path / "pytorch-fid.npz")
    assert found.pooled.count is None
    assert found.pooled.covariance.dtype == np.float64
    assert found.spatial is None
    assert "do not say" in found.doubts(IDENTITY)[0]
    moments = {"mu": pooled.mean, "sigma": pooled.covariance, "mu_s": spatial.mean, "sigma_s": spatial.covariance}
    np.savez(tmp_path / "adm.npz", arr_0=np.zeros((2, 8, 8, 3), np.uint8), **moments)
    found = load_statistics(tmp_path / "adm.npz")
    assert found.spatial is not None
    assert np.array_equal(found.spatial.mean, spatial.mean)


def test_another_network_is_refused() -> None:
    for other in (NetworkIdentity("net", "b" * 64, "8 bits", True), NetworkIdentity("net", "a" * 64, "resized", True)):
        with pytest.raises(DataError, match="the reference statistics are of net"):
            some_statistics().doubts(other)


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    with pytest.raises(DataError, match="cannot be read"):
        load_statistics(path)
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        load_statistics(path)
    np.savez(path, mu=np.array([print], dtype=object), sigma=np.eye(1))  # would have to be unpickled
    with pytest.raises(DataError, match="cannot be read"):
        load_statistics(path)
    np.savez(path, arr_0=np.zeros(3))
    with pytest.raises(DataError, match="expected arrays mu and sigma"):
        load_statistics(path)
    np.savez(path, mu=np.zeros(3), sigma=np.eye(2))
    with pytest.raises(DataError, match="do not fit"):
        load_statistics(path)
    np.savez(path, mu=np.full(2, np.nan), sigma=np.eye(2))
    with pytest.raises(DataError, match="NaN"):
        load_statistics(path)
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(DataError, match="cannot be read"):
        load_statistics(tmp_path / "single.npy")
