"""Streams of one picture. What enters: its codes. What leaves: the bytes that hold them, with its colours set right.

Everything that looks for codes (`bsq.codec.search`, `bsq.codec.allocation`) has them written here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bsq.codec.allocation import best_within, levels_of, measure_costs, patch_errors
from bsq.codec.colour_maps import colours_of
from bsq.codec.colours import RECORD, ColourMap, coloured
from bsq.codec.info import StreamInfo
from bsq.codec.measure import inspect
from bsq.codec.shelf import name_of
from bsq.codec.stream import short_hash, write_codes
from bsq.codes import Codes
from bsq.prior.allocated import allocate as allocate_digits
from bsq.prior.allocated import kept_digits
from bsq.prior.base import Prior
from bsq.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class PictureWriter:
    """Writes streams of codes of the picture `pixels` (1, 3, H, W); `colours`: whether to set them right."""

    model: Tokenizer
    prior: Prior
    pixels: Tensor
    colours: bool = True

    def plain(self, codes: Codes, levels: tuple[int, ...] = (), colours: ColourMap = ()) -> bytes:
        """A stream of codes (1, 1, h, w, kept); with levels, of allocated codes (`bsq.prior.allocated`)."""
        kept = levels[-1] if levels else codes.length
        height, width = self.pixels.shape[-2:]
        info = describe(self.model, height, width, kept)
        return write_codes(codes, replace(info, levels=levels, colours=colours), self.prior)

    def with_map(self, codes: Codes, levels: tuple[int, ...] = (), max_bytes: int | None = None) -> bytes:
        """The same with its colours set right where that pays, and `max_bytes` leaves room for it."""
        if not self.colours:
            return self.plain(codes, levels)
        kept = kept_digits(codes, levels) if levels else None
        colours = colours_of(self.model, codes.first(levels[-1]) if levels else codes, self.pixels, kept)
        data = self.plain(codes, levels, colours)
        return data if max_bytes is None or len(data) <= max_bytes else self.plain(codes, levels)

    def allocated(self, codes: Codes, alike: bytes, max_bytes: int) -> bytes:
        """The stream of at most `max_bytes` with the least error that allocation finds; `alike`, a stream of tokens
        that all keep as many digits, where that has less, nothing else fits or codes have a single digit.
        """
        levels = levels_of(codes.length)
        if len(levels) < 2:
            return alike

        def write(chosen: np.ndarray) -> bytes:
            return self.plain(allocate_digits(codes, levels, chosen), levels)

        costs = measure_costs(self.model, self.pixels, codes, levels, self.prior)
        found = best_within(costs, write, max_bytes - (RECORD if self.colours else 0))
        if found is None:
            return alike
        chosen = allocate_digits(codes, levels, found[0])
        shared = self.with_map(chosen, levels, max_bytes)
        # Costs are of tokens whose neighbours keep as many digits: what counts is the pictures as they come out.
        mixed = kept_digits(chosen, levels)
        uniform = torch.full_like(mixed, inspect(alike).info.kept)
        better = self.error(codes, mixed, shared) < self.error(codes, uniform, alike)
        return shared if better else alike

    def error(self, codes: Codes, kept: Tensor, stream: bytes) -> float:
        """Of codes of which each token keeps so many digits, with the stream's colours, as allocation counts it."""
        shown = coloured(self.model.decode(codes, kept=kept), inspect(stream).info.colours)
        return float(patch_errors(shown[:, :, 0], self.pixels, self.model.patch).sum())


def describe(model: Tokenizer, height: int, width: int, kept: int) -> StreamInfo:
    """What the header says of a picture's codes by this tokenizer."""
    least_rows, least_columns = model.grid(1, 1)
    return StreamInfo(
        height=height,
        width=width,
        patch=model.patch,
        radices=model.radices,
        kept=kept,
        code_hash=short_hash(model.code_hash),
        tokenizer=name_of(model),
        least_rows=least_rows,
        least_columns=least_columns,
    )
