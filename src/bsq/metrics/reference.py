"""Statistics of a reference set in a file. What enters: Gaussians. What leaves: an `.npz`, and back.

The arrays have the names of pytorch-fid (`mu`, `sigma`) and of the ADM reference batches (`mu_s`, `sigma_s` beside them
for the spatial features), so their files can be read and ours can be used there. Ours also say how many rows there were
(`count`) and which network made them (`network`, `weights_sha256`, `preparation`). Nothing is unpickled.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bsq.errors import DataError
from bsq.metrics.features import NetworkIdentity
from bsq.metrics.frechet import Gaussian


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """Statistics of pooled features and, where there are any, of spatial ones."""

    pooled: Gaussian
    spatial: Gaussian | None = None
    network: str | None = None  # name, hash and preparation are None in files of others
    weights_sha256: str | None = None
    preparation: str | None = None

    def doubts(self, identity: NetworkIdentity) -> tuple[str, ...]:
        """Why features of `identity` may not be compared with these statistics; raises DataError if they cannot be."""
        if self.weights_sha256 is None or self.preparation is None:
            return ("the reference statistics do not say which network and preparation made them",)
        if (self.weights_sha256, self.preparation) != (identity.weights_sha256, identity.preparation):
            raise DataError(
                f"the reference statistics are of {self.network} ({self.weights_sha256[:12]}…; {self.preparation}), "
                f"the pictures' of {identity.name} ({identity.weights_sha256[:12]}…; {identity.preparation})"
            )
        return ()


def save_statistics(path: Path | str, statistics: ReferenceStatistics) -> None:
    """Writes `path` whole or not at all. Mirror of `load_statistics`."""
    target = Path(path)
    arrays: dict[str, np.ndarray] = {"mu": statistics.pooled.mean, "sigma": statistics.pooled.covariance}
    if statistics.pooled.count is not None:
        arrays["count"] = np.array(statistics.pooled.count, np.int64)
    if statistics.spatial is not None:
        arrays |= {"mu_s": statistics.spatial.mean, "sigma_s": statistics.spatial.covariance}
    for name in ("network", "weights_sha256", "preparation"):
        if (value := getattr(statistics, name)) is not None:
            arrays[name] = np.array(value)  # of type str, not an object: nothing to unpickle
    handle, partial = tempfile.mkstemp(prefix=target.name, suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            np.savez(out, allow_pickle=False, **arrays)
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)


def load_statistics(path: Path | str) -> ReferenceStatistics:
    """Reads what `save_statistics`, pytorch-fid or ADM wrote. Raises DataError for anything else."""
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files if name in _NAMES}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as statistics (.npz): {error}") from error
    if "mu" not in found or "sigma" not in found:
        raise DataError(f"{path} holds no statistics: expected arrays mu and sigma")
    count = int(found["count"]) if "count" in found else None
    has_spatial = "mu_s" in found and "sigma_s" in found
    return ReferenceStatistics(
        _gaussian(path, found["mu"], found["sigma"], count),
        _gaussian(path, found["mu_s"], found["sigma_s"], count) if has_spatial else None,
        *(str(found[name]) if name in found else None for name in ("network", "weights_sha256", "preparation")),
    )


_NAMES = ("mu", "sigma", "mu_s", "sigma_s", "count", "network", "weights_sha256", "preparation")


def _gaussian(path: Path | str, mean: np.ndarray, covariance: np.ndarray, count: int | None) -> Gaussian:
    width = len(mean) if mean.ndim == 1 else 0
    if not width or covariance.shape != (width, width):
        raise DataError(f"{path}: a mean of shape {mean.shape} and a covariance of {covariance.shape} do not fit")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DataError(f"{path} holds NaN or infinity")
    return Gaussian(mean.astype(np.float64), covariance.astype(np.float64), count)
