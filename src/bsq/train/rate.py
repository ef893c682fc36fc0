"""What codes cost. What enters: a quantizer's code, with gradients. What leaves: bits a token that a prior would take.

Training minimises distortion + weight · coded bits: not the digits are counted but what the prior, which learns
alongside, cannot predict of them. Gradients reach the code the way those of the distortion do, straight through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from bsq.prior.masked import MaskedPrior, MaskedSettings
from bsq.prior.points import Asking, costs_a_token, draw_point
from bsq.prior.rounding import Rounding
from bsq.quantizers import corner_of
from bsq.quantizers.base import Quantized, Quantizer, straight_through
from bsq.train.schedule import RampSettings

SHAPE = {"layer_digits", "passes", "width", "blocks", "chain_width", "window"}
"""Those of the settings below that a run keeps to its end."""


class RateSettings(RampSettings):
    """The weight of one coded bit a token, and the masked prior (`MaskedSettings`) that counts them.

    `weight` 0 lets the prior learn and count without a say. `rounded` is the share of the run, at its end, in which the
    prior learns as integers, so that it can be frozen and written beside the model.
    """

    weight: float = Field(default=1e-4, ge=0)
    start: float = Field(default=0.0, ge=0)
    layer_digits: int = Field(default=9, ge=1)
    passes: tuple[int, ...] = (6, 4, 2)
    width: int = 96
    blocks: int = 3
    chain_width: int = 96
    window: int = 5
    learning_rate: PositiveFloat = 2e-3
    rounded: float = Field(default=0.3, ge=0, le=1)

    def lasting(self, frames: int) -> dict[str, Any]:
        """The settings that shape the prior, which a run keeps to its end."""
        return self.model_dump(mode="json", include=SHAPE) | {"clips": frames > 1}

    def prior(self, radices: tuple[int, ...], frames: int) -> MaskedSettings:
        """The shape of the prior of such codes, of pictures or of clips of `frames`."""
        return MaskedSettings(radices=radices, earlier_frames=1 if frames > 1 else 0, **self.model_dump(include=SHAPE))


@dataclass(frozen=True, eq=False)
class Counted:
    """What codes cost: a loss, and the bits a token of each sample (B,), detached."""

    loss: Tensor
    bits: Tensor


class CodeRate(nn.Module):
    """Bits a token of codes of binary digits, counted by a prior that learns from the same gradients."""

    def __init__(self, settings: RateSettings, quantizer: Quantizer, frames: int) -> None:
        super().__init__()
        self.prior = MaskedPrior(settings.prior(quantizer.radices, frames))
        self.corner = corner_of(quantizer, "loss.rate")

    def forward(
        self,
        quantized: Quantized,
        kept: Tensor | None,
        weight: float,
        draw: np.random.Generator,
        rounding: Rounding | None = None,
    ) -> Tensor:
        """Bits a token of each sample (B,), of its first `kept` digits (None: of all), estimated at one random point of
        the coding order for each frame.

        The prior gets their gradient as it is, the code (B, T, h, w, L) gets `weight` times theirs.
        """
        if quantized.digits is None:
            raise TypeError("a continuous latent has no digits to count")
        hard = quantized.digits.float() * 2 - 1
        soft = quantized.quantized.float() / self.corner  # zero behind the kept digits, without gradient
        signs = straight_through(hard * (soft != 0), soft, weight)
        batch, frames, *_, bits = signs.shape
        counts = np.full(batch, bits) if kept is None else kept.cpu().numpy()
        before = torch.cat([torch.zeros_like(signs[:, :1]), signs[:, :-1]], 1).flatten(0, 1)
        return (
            self._count(signs.flatten(0, 1), before, np.repeat(counts, frames), draw, rounding)
            .view(batch, frames)
            .mean(1)
        )

    def _count(
        self, signs: Tensor, before: Tensor, counts: np.ndarray, draw: np.random.Generator, rounding: Rounding | None
    ) -> Tensor:
        """Bits a token (N,) of the first `counts` (N,) digits of frames (N, h, w, bits), given the frames before."""
        layers = self.prior.layout.layers
        # One of the layers that a code of this length has, weighed by their number.
        choices = np.array([sum(layer.bits.start < count for layer in layers) for count in counts])
        drawn = draw.integers(choices)
        askings, places = [], []
        for layer in layers:
            place = np.flatnonzero(drawn == layer.index)
            if not len(place):
                continue
            rows = torch.from_numpy(place).to(signs.device)
            ends = np.minimum(counts[place], layer.bits.stop) - layer.bits.start
            earlier = before[rows] if self.prior.memory is not None else None
            askings.append(Asking(layer, signs[rows], earlier, draw_point(layer, signs[rows], ends, draw)))
            places.append(rows)
        found = costs_a_token(self.prior, askings, rounding)
        bits = torch.cat(found) * torch.from_numpy(choices).to(signs.device)[torch.cat(places)]
        return torch.zeros_like(bits).index_copy(0, torch.cat(places), bits)
