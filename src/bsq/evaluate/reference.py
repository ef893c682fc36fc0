"""Reference batches as guided-diffusion's suite reads them. What enters: pictures. What leaves: an `.npz`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bsq.data.files import Existing
from bsq.data.stored import Kind
from bsq.errors import DataError
from bsq.evaluate.data import Samples, open_samples
from bsq.evaluate.networks import open_features
from bsq.evaluate.npz import NETWORK, write_samples
from bsq.evaluate.protocols import Protocol
from bsq.evaluate.share import as_pixels
from bsq.metrics.features import FeatureNetwork, rounded
from bsq.metrics.sets import FeatureSet


def write_reference(
    data: tuple[str, ...],
    protocol: Protocol,
    features: str,
    path: Path,
    existing: Existing,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """A reference batch as guided-diffusion reads it: pictures, prepared, and the moments of their features.

    Returns how many. Every picture must be readable and of one size: a reference of some of them would be another one.
    """
    network = open_features(features, "cpu")
    samples = open_samples(data, Kind.PICTURES, protocol)
    extra = {} if network is None else moments_of(network, samples, on_sample)
    write_samples(path, pictures(samples), len(samples), extra, existing)
    return len(samples)


def pictures(samples: Samples) -> Iterator[np.ndarray]:
    for number in range(len(samples)):
        yield samples.read(number)[0]


def moments_of(
    network: FeatureNetwork, samples: Samples, on_sample: Callable[[int, int], None]
) -> dict[str, np.ndarray]:
    """mu and sigma, with mu_s and sigma_s where the network gives spatial features, and the network's name."""
    if len(samples) < 2:
        raise DataError(f"moments need at least 2 pictures, got {len(samples)}; --features none writes pictures alone")
    pooled, spatial = FeatureSet({"moments"}), FeatureSet({"spatial moments"})
    for number, picture in enumerate(pictures(samples), 1):
        features = network.pictures(rounded(as_pixels(picture[None])[:, :, 0], "uint8"))  # as `DistributionMeter` does
        pooled.add(features)
        if features.spatial is not None:
            spatial.add(features)
        on_sample(number, len(samples))
    moments = pooled.moments()
    arrays = {"mu": moments.mean, "sigma": moments.covariance, NETWORK: np.array(network.name)}
    if not len(spatial):
        return arrays
    places = spatial.moments("spatial moments")
    return arrays | {"mu_s": places.mean, "sigma_s": places.covariance}
