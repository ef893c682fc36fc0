"""What measures of distributions see of pictures and clips. What enters: pixels. What leaves: float64 `Features`.

A `FeatureNetwork` turns pixels into features and says exactly what it is: numbers made with two networks, or with two
preparations of the pixels, do not compare. Only the published files, fed as their authors do, count as comparable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from bsq.errors import NumericsError, ShapeError
from bsq.pixels import check_range

NOT_COMPARABLE = "not comparable"


class Levels(Enum):
    """What pixels a network is shown."""

    EIGHT_BIT = "rounded to 8 bits"  # as a picture file would hold them; what published evaluations read
    CONTINUOUS = "not rounded"


@dataclass(frozen=True)
class NetworkIdentity:
    """All that a number depends on besides the pictures."""

    name: str
    weights_sha256: str  # of the file of weights; of names, shapes and values of all tensors where there is no file
    preparation: str  # what is done to pixels before the network sees them
    comparable: bool  # True: published weights, fed as published evaluations feed them

    @property
    def label(self) -> str:
        """The name, and that its numbers are not comparable unless they are."""
        return self.name if self.comparable else f"{self.name}, {NOT_COMPARABLE}"


@dataclass(frozen=True, eq=False)
class Features:
    """What a network says of B pictures or clips: finite float64 tensors on the CPU, one row for each."""

    pooled: Tensor  # (B, D)
    spatial: Tensor | None = None  # (B, D₂), of a layer that still has places; None if the network has no such output
    probabilities: Tensor | None = None  # (B, K), of classes; None if the network has no classes

    def __len__(self) -> int:
        return len(self.pooled)


class FeatureNetwork(Protocol):
    """A network of pictures or of clips. Every picture's features are the same in any batch."""

    @property
    def identity(self) -> NetworkIdentity:
        """What it is."""

    def features(self, pixels: Tensor) -> Features:
        """Pixels in [−1, 1], float (B, 3, H, W) for a network of pictures, (B, 3, T, H, W) for one of clips.

        Raises ShapeError, NumericsError and RangeError for anything else.
        """


def check_pictures(pixels: Tensor) -> Tensor:
    """Pixels as float32 (B, 3, H, W). Raises ShapeError, NumericsError, RangeError."""
    return _checked(pixels, 4, "pictures (B, 3, H, W)")


def check_clips(pixels: Tensor) -> Tensor:
    """Pixels as float32 (B, 3, T, H, W). Raises ShapeError, NumericsError, RangeError."""
    return _checked(pixels, 5, "clips (B, 3, T, H, W)")


def to_levels(pixels: Tensor, levels: Levels) -> Tensor:
    """Pixels in [−1, 1] → float32 in 0 … 255, whole numbers for 8 bits (rounded to nearest, halves to even)."""
    scaled = pixels.detach().float().add(1).mul(127.5).clamp(0, 255)
    match levels:
        case Levels.EIGHT_BIT:
            return scaled.round()
        case Levels.CONTINUOUS:
            return scaled
        case _:
            raise ShapeError(f"no levels {levels!r}")


@torch.no_grad()
def in_chunks(network: Callable[[Tensor], Features], inputs: Tensor, size: int) -> Features:
    """Features of `inputs` (B, …), from calls with exactly `size` of them; copies of the last one fill the last call.

    Kernels are chosen by the size of a batch and round differently, so numbers would depend on how pictures are
    batched if the network saw other sizes. `size` 1 keeps pictures apart altogether.
    """
    if size < 1:
        raise ShapeError(f"a network runs at least one picture at once, not {size}")
    parts = []
    for start in range(0, len(inputs), size):
        chunk = inputs[start : start + size]
        missing = size - len(chunk)
        filled = torch.cat([chunk, chunk[-1:].expand(missing, *chunk.shape[1:])]) if missing else chunk
        with torch.autocast(inputs.device.type, enabled=False):
            parts.append(_first(network(filled), len(chunk)))
    return Features(
        torch.cat([part.pooled for part in parts]),
        _joined([part.spatial for part in parts]),
        _joined([part.probabilities for part in parts]),
    )


def as_rows(output: Tensor, count: int, what: str) -> Tensor:
    """A network's output (B, D) as finite float64 on the CPU. Raises ShapeError, NumericsError."""
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != count or not output.shape[1]:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ShapeError(f"{what} must be ({count}, D) for {count} inputs, the network gave {found}")
    if not bool(output.isfinite().all()):
        raise NumericsError(f"{what} hold NaN or infinity")
    return output.detach().cpu().double()


def _checked(pixels: Tensor, rank: int, wanted: str) -> Tensor:
    if not isinstance(pixels, Tensor):
        raise ShapeError(f"expected {wanted} as a torch.Tensor, got {type(pixels).__name__}")
    if not pixels.is_floating_point() or pixels.ndim != rank or pixels.shape[1] != 3 or 0 in pixels.shape:
        raise ShapeError(
            f"expected floating-point {wanted}, none of them empty; got {pixels.dtype} {tuple(pixels.shape)}"
        )
    check_range(pixels)
    return pixels.detach().float()


def _first(features: Features, count: int) -> Features:
    cut = (None if part is None else part[:count] for part in (features.spatial, features.probabilities))
    return Features(features.pooled[:count], *cut)


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if len(present) == len(parts) else None
