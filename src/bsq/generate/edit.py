"""Pictures in part made anew. What enters: pixels, and what is to change. What leaves: codes, and how far each counts.

The generator models the first digits of a code; what is kept keeps all of its digits, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bsq.codes import Codes
from bsq.errors import SettingsError, ShapeError
from bsq.generate.folder import TrainedGenerator
from bsq.generate.noise import CHANGE, uniform
from bsq.generate.sampler import Sampler, SamplerSettings, Watch
from bsq.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class Edited:
    """Codes (B, T, h, w, L); of each the first `kept` (B, T, h, w) digits count; `made` (bool) are the new tokens."""

    codes: Codes
    kept: Tensor
    made: Tensor

    def pixels(self, tokenizer: Tokenizer) -> Tensor:
        """float32 (B, 3, T, H, W)."""
        return tokenizer.decode(self.codes, kept=self.kept)


class Editor:
    """A generator beside its tokenizer.

    >>> editor = Editor(load_generator("runs/generate-s/model"), bsq.load("biscuit-s"))
    >>> edited = editor.inpaint(pixels, mask, number=4)     # mask (H, W) bool, True = make anew
    >>> again = edited.pixels(editor.tokenizer)
    """

    def __init__(
        self, generator: TrainedGenerator, tokenizer: Tokenizer, settings: SamplerSettings | None = None
    ) -> None:
        """Raises CheckpointError for a tokenizer that is not the generator's."""
        generator.check(tokenizer)
        self.tokenizer, self.network = tokenizer, generator.network
        self.sampler = Sampler(generator.network, settings)

    @property
    def digits(self) -> int:
        """How many first digits of a code are modelled."""
        return len(self.network.settings.radices)

    def complete(
        self,
        codes: Codes,
        kept: Tensor,
        number: int | None = None,
        seed: int = 0,
        first: int = 0,
        watch: Watch | None = None,
    ) -> Edited:
        """Codes (B, T, h, w, K) of which the first `kept` (B, T, h, w) digits are known, the others made under class
        `number` (None: none). Tokens of which all modelled digits are known stay.

        Raises ShapeError for a grid that the generator's learned positions do not cover.
        """
        self._check_grid(codes.shape[1:4])
        depth = min(self.digits, codes.length)
        known = torch.arange(self.digits) < kept[..., None]
        given = torch.zeros(*codes.shape[:-1], self.digits, dtype=torch.int64)
        given[..., :depth] = codes.digits[..., :depth].cpu()
        none = self.network.settings.classes
        classes = torch.full((len(given),), none if number is None else number)
        filled = self.sampler.fill(given, known, classes, seed, first, watch)
        length = max(codes.length, self.digits)
        whole = torch.zeros(*codes.shape[:-1], length, dtype=torch.int64)
        whole[..., : codes.length] = codes.digits.cpu()
        whole[..., : self.digits] = filled.digits
        made = kept < self.digits
        whole[..., self.digits :] *= ~made[..., None]
        return Edited(Codes(whole, self.tokenizer.radices[:length]), torch.where(made, self.digits, kept), made)

    def inpaint(self, pixels: Tensor, mask: Tensor, number: int | None = None, **how: Any) -> Edited:
        """Pixels (B, 3, H, W) or (B, 3, T, H, W); tokens with a pixel of `mask` (H, W) bool among theirs are made anew.

        Raises ShapeError for a mask of another size, SettingsError for one that hides nothing.
        """
        if mask.dtype != torch.bool or mask.shape != pixels.shape[-2:]:
            raise ShapeError(f"the mask must be bool {tuple(pixels.shape[-2:])}, got {mask.dtype} {tuple(mask.shape)}")
        if not mask.any():
            raise SettingsError("the mask hides nothing; mark with white what is to be made anew")
        codes = self.tokenizer.encode(pixels)
        hidden = self._tokens(mask, codes.shape[2:4]).expand(codes.shape[:-1])
        return self.complete(codes, torch.where(hidden, 0, codes.length), number, **how)

    def outpaint(
        self, pixels: Tensor, margins: tuple[int, int, int, int], number: int | None = None, **how: Any
    ) -> Edited:
        """More around a picture (B, 3, H, W) or clip: so many tokens on top, at the bottom, left and right.

        Learned positions are of one size: there, shrink the picture first. Raises ShapeError.
        """
        if min(margins) < 0 or not any(margins):
            raise SettingsError(f"margins are tokens on top, at the bottom, left and right, got {margins}")
        top, bottom, left, right = margins
        codes = self.tokenizer.encode(pixels)
        around = (left, right, top, bottom)
        digits = F.pad(codes.digits, (0, 0, *around))
        kept = F.pad(torch.full(codes.shape[:-1], codes.length), around)
        return self.complete(Codes(digits, codes.radices), kept, number, **how)

    def change(self, pixels: Tensor, number: int, share: float, seed: int = 0, first: int = 0, **how: Any) -> Edited:
        """Forget a share of the tokens, drawn at random, and make them anew under another class."""
        if not 0 < share <= 1:
            raise SettingsError(f"share must be above 0 and at most 1, got {share}")
        codes = self.tokenizer.encode(pixels)
        samples = torch.arange(first, first + codes.shape[0])
        draws = uniform(seed, CHANGE, 0, samples, codes.digits[0, ..., 0].numel()).view(codes.shape[:-1])
        return self.complete(codes, torch.where(draws < share, 0, codes.length), number, seed, first, **how)

    def go_on(self, pixels: Tensor, frames: int, number: int | None = None, **how: Any) -> Edited:
        """So many more frames of a clip (B, 3, T, H, W), one after another."""
        if frames < 1:
            raise SettingsError(f"frames must be 1 or more, got {frames}")
        codes = self.tokenizer.encode(pixels)
        later = (0, 0, 0, 0, 0, frames)
        kept = F.pad(torch.full(codes.shape[:-1], codes.length), later)
        return self.complete(Codes(F.pad(codes.digits, (0, 0, *later)), codes.radices), kept, number, **how)

    def _check_grid(self, grid: tuple[int, ...]) -> None:
        """As the network does, but in pixels, where another size of picture is the way out."""
        network, patch = self.network, self.tokenizer.patch
        try:
            network.check_grid(*grid)
        except ShapeError as error:
            _, rows, columns = network.settings.grid
            if grid[1:] == (rows, columns):
                raise
            raise ShapeError(
                f"this generator has learned positions: with what is added, pictures must have {columns * patch}×"
                f"{rows * patch} pixels, got {grid[2] * patch}×{grid[1] * patch}; resize the picture first"
            ) from error

    def _tokens(self, mask: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Pixels (H, W) → tokens (h, w) with at least one of them."""
        rows, columns = grid[0], grid[1]
        patch = self.tokenizer.patch
        padded = F.pad(mask, (0, columns * patch - mask.shape[1], 0, rows * patch - mask.shape[0]))
        return padded.view(rows, patch, columns, patch).any(3).any(1)
