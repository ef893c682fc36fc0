"""The one interface of all that is evaluated. What enters: pixels. What leaves: pixels, and what they cost in bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """`pixels` float32 (B, 3, T, H, W) in [−1, 1], of the input's size; `bits` spent on each of the B pictures or
    clips, in the system's own currency (`System.currency`).
    """

    pixels: Tensor
    bits: tuple[float, ...]


class System(Protocol):
    """Anything that gives pixels back.

    name         of its row, as it was asked for: "biscuit-s@18"
    description  what is needed to repeat it: weights' hash, encoder and version, settings
    currency     what `bits` counts: "code bits", "file bits", "16-bit floats"
    parameters   how many numbers its weights are; None where that has no meaning
    notes        what a reader of the table must know: "random weights, speed only"
    """

    name: str
    description: str
    currency: str
    parameters: int | None
    notes: tuple[str, ...]

    def reconstruct(self, pixels: Tensor) -> Reconstructed:
        """Pixels float (B, 3, T, H, W) in [−1, 1] (T = 1 for pictures) → the same, reconstructed.

        The result for one picture must not depend on which others are in the batch.
        """
        ...
