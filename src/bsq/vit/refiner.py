"""Pixels, refined. What enters: the pixels that a decoder painted patch by patch, and the hidden tokens it painted them
from. What leaves: pixels across whose patches convolutions have looked.

A patch comes out of one token, and its neighbours' last pixels out of others: what they got wrong does not meet at the
border. A few convolutions at half the resolution see both sides. They add to the pixels, and nothing at first.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from bsq.errors import SettingsError
from bsq.layers.patches import unpatchify
from bsq.layers.products import Linear
from bsq.settings import Settings
from bsq.vit.transformer import portion

FOLD = 2  # squares of so many pixels a side lie in the channels while convolutions see them
STRIP = 4  # at use, strips of so many times the tokens that go through a block at once


class RefinerSettings(Settings):
    """Channels, and how many convolutions lie between the first and the last."""

    width: PositiveInt = 48
    depth: PositiveInt = 2

    def halo(self, patch: int) -> int:
        """How many tokens away the pixels of a token see those of others."""
        return -(-FOLD * (self.depth + 2) // patch)

    def least_weights(self, hidden_width: int) -> int:
        """How many numbers the weights are at least, whatever the patch, without building anything."""
        return self.width * (2 * 9 * 3 * FOLD**2 + 9 * self.depth * self.width + hidden_width)


class Refiner(nn.Module):
    """3×3 convolutions over pixels folded 2×2, to which each token tells what its pixels do not say."""

    def __init__(self, settings: RefinerSettings, hidden_width: int, patch: int) -> None:
        """Raises SettingsError: an odd patch."""
        super().__init__()
        if patch % FOLD:
            raise SettingsError(f"a refiner takes patches of an even side, got {patch}")
        self.patch = patch
        self.halo = settings.halo(patch)
        width = settings.width
        self.from_hidden = Linear(hidden_width, width * (patch // FOLD) ** 2)
        self.first = nn.Conv2d(3 * FOLD**2, width, 3, padding=1)
        self.middle = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(settings.depth))
        self.last = nn.Conv2d(width, 3 * FOLD**2, 3, padding=1)
        self.add_nothing()

    def add_nothing(self) -> None:
        """From here on, until something is learned, pixels leave as they came."""
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor, hidden: Tensor) -> Tensor:
        """Pixels (B, 3, T, h·p, w·p) and hidden (B, T, h, w, D) → pixels; the frames of a clip one by one, each in
        strips, where no gradient is wanted.
        """
        if torch.is_grad_enabled():
            frames = pixels.transpose(1, 2)
            refined = self.refine(frames.flatten(0, 1), hidden.flatten(0, 1))
            return refined.unflatten(0, frames.shape[:2]).transpose(1, 2)
        return torch.stack([self._in_strips(pixels[:, :, t], hidden[:, t]) for t in range(hidden.shape[1])], dim=2)

    def refine(self, pixels: Tensor, hidden: Tensor) -> Tensor:
        """Pixels (N, 3, h·p, w·p) and hidden (N, h, w, D) of single frames → pixels."""
        told = unpatchify(self.from_hidden(hidden)[:, None], self.patch // FOLD)[:, :, 0]
        seen = self.first(F.pixel_unshuffle(pixels, FOLD)) + told
        for convolve in self.middle:
            seen = seen + convolve(F.silu(seen))
        return pixels + F.pixel_shuffle(self.last(F.silu(seen)), FOLD)

    def _in_strips(self, pixels: Tensor, hidden: Tensor) -> Tensor:
        """As `refine`. A strip's rims, as wide as a pixel sees, are computed twice and thrown away."""
        batch, rows, columns, _ = hidden.shape
        step = max(1, STRIP * portion(hidden.device) // (batch * columns))
        strips = []
        for start in range(0, rows, step):
            stop, top = min(rows, start + step), max(0, start - self.halo)
            bottom = min(rows, stop + self.halo)
            refined = self.refine(pixels[:, :, top * self.patch : bottom * self.patch], hidden[:, top:bottom])
            strips.append(refined[:, :, (start - top) * self.patch : (stop - top) * self.patch])
        return strips[0] if len(strips) == 1 else torch.cat(strips, dim=2)
