"""What the tests of distribution measures share: random features, and a small network that needs no weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bsq.metrics import Features, GivenFeatures, NetworkIdentity
from bsq.metrics.features import as_rows, check_pictures, in_chunks


def random_rows(count: int, width: int, seed: int, shift: float = 0.0) -> Tensor:
    """Correlated, skewed rows (count, width), float64."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return (noise @ mix / width**0.5).exp() + shift


def random_pictures(count: int, seed: int, side: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(-1, 1)


def tiny_network(width: int = 6) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, width, 5, stride=3), nn.ReLU(), nn.BatchNorm2d(width)).eval()


def tiny_features(at_once: int = 1) -> GivenFeatures:
    return GivenFeatures(tiny_network(), "tiny", at_once=at_once)


class AllFeatures:
    """A network with every kind of output, from plain sums of pixels."""

    identity = NetworkIdentity("sums", "0" * 64, "as they are", comparable=True)

    def features(self, pixels: Tensor) -> Features:
        return in_chunks(self._run, check_pictures(pixels), 1)

    def _run(self, pictures: Tensor) -> Features:
        blocks = torch.nn.functional.avg_pool2d(pictures.double(), 8).flatten(1)
        count = len(pictures)
        return Features(
            as_rows(blocks[:, :9], count, "sums"), as_rows(blocks[:, 9:], count, "sums"), (4 * blocks).softmax(1)
        )
