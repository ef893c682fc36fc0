"""Streams of one picture. What enters: its codes. What leaves: the bytes that hold them, and set its pixels right.

Everything that looks for codes (`bsq.codec.search`, `bsq.codec.allocation`) has them written here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from torch import Tensor

from bsq.codec.allocation import best_within, levels_of, measure_costs, patch_errors
from bsq.codec.colour_maps import colours_of, look
from bsq.codec.colours import RECORD, coloured
from bsq.codec.container import read_container
from bsq.codec.info import Limits, StreamInfo
from bsq.codec.measure import inspect
from bsq.codec.residual import fit_residual, with_residual
from bsq.codec.residual_bytes import read_residual
from bsq.codec.shelf import name_of
from bsq.codec.stream import CodedStream, short_hash
from bsq.codes import Codes
from bsq.errors import LimitError
from bsq.pixels import pad_to
from bsq.prior.allocated import allocate as allocate_digits
from bsq.prior.allocated import kept_digits
from bsq.prior.base import Prior
from bsq.tokenizer import Tokenizer

LEAN = 0.95
"""Share of the bytes that digits take at most where a target leaves what sets pixels right the rest."""


@dataclass(frozen=True, eq=False)
class Written:
    """A stream, its codes and how many digits of each are kept, as `Tokenizer.decode` takes them; what it shows,
    (1, 3, H, W), where that is known.
    """

    data: bytes
    codes: Codes
    kept: Tensor | None
    shown: Tensor | None = None


@dataclass(frozen=True, eq=False)
class PictureWriter:
    """Writes streams of codes of the picture `pixels` (1, 3, H, W); `colours`: whether to set them right, all over by a
    map and, but for huge pictures, in parts by a residual.
    """

    model: Tokenizer
    prior: Prior
    pixels: Tensor
    colours: bool = True

    def coded(self, codes: Codes, levels: tuple[int, ...] = ()) -> CodedStream:
        """Codes (1, 1, h, w, kept), coded; with levels, allocated codes (`bsq.prior.allocated`)."""
        kept = levels[-1] if levels else codes.length
        height, width = self.pixels.shape[-2:]
        info = describe(self.model, height, width, kept)
        return CodedStream(codes, replace(info, levels=levels), self.prior)

    def set_right(self, codes: Codes, max_bytes: int | None = None) -> bytes:
        """The stream of codes, with what sets its pixels right where that pays, and `max_bytes` leaves room for it."""
        return self._written(self.coded(codes), codes, None, max_bytes).data

    def largest(self, codes: Codes, max_bytes: int) -> bytes:
        """The stream of as many first digits as fit into `max_bytes`, not set right. Raises LimitError."""
        kept = most_within(lambda kept: len(self.coded(codes.first(kept)).stream()), codes.length, max_bytes)
        return self.coded(codes.first(kept)).stream()

    def within(self, codes: Codes, max_bytes: int) -> bytes:
        """The same of as many first digits as fit into `max_bytes`, or of fewer that leave room for what sets pixels
        right, if that is nearer. Raises LimitError if one digit is too much.
        """
        coded = cache(lambda kept: self.coded(codes.first(kept)))
        lean = int(LEAN * max_bytes)
        most = most_within(lambda kept: len(coded(kept).stream()), codes.length, max_bytes)
        choices = {most}
        if self.colours and len(coded(1).stream()) <= lean:
            choices.add(most_within(lambda kept: len(coded(kept).stream()), most, lean))
        return self._nearest([self._written(coded(kept), codes.first(kept), None, max_bytes) for kept in choices]).data

    def allocated(self, codes: Codes, alike: bytes, max_bytes: int) -> bytes:
        """The stream of at most `max_bytes` with the least error that allocation finds; `alike`, a stream of tokens
        that all keep as many digits, where that has less, nothing else fits or codes have a single digit.
        """
        levels = levels_of(codes.length)
        if len(levels) < 2:
            return alike

        def code(chosen: np.ndarray) -> CodedStream:
            return self.coded(allocate_digits(codes, levels, chosen), levels)

        costs = measure_costs(self.model, self.pixels, codes, levels, self.prior)
        # Costs are of tokens whose neighbours keep as many digits: what counts is the pictures as they come out.
        uniform = inspect(alike)
        choices = [Written(alike, codes.first(uniform.info.kept), None)]
        for room in {max_bytes - RECORD, max_bytes - RECORD - uniform.extra} if self.colours else {max_bytes}:
            found = best_within(costs, lambda chosen: code(chosen).stream(), room)
            if found is not None:
                kept = kept_digits(allocate_digits(codes, levels, found[0]), levels)
                choices.append(self._written(code(found[0]), codes, kept, max_bytes))
        return self._nearest(choices).data

    def _written(self, coded: CodedStream, codes: Codes, kept: Tensor | None, max_bytes: int | None) -> Written:
        """Codes of which each token keeps so many digits, as they were coded, set right."""
        if not self.colours:
            return Written(coded.stream(), codes, kept)
        seen = look(self.model, codes, self.pixels, kept)
        colours = colours_of(seen, codes, self.pixels)
        data = coded.stream(colours)
        if max_bytes is not None and len(data) > max_bytes:
            colours, data = (), coded.stream()
        if not seen.whole:
            return Written(data, codes, kept)
        shown = coloured(seen.shown, colours)[:, :, 0]
        found = fit_residual(shown, self.pixels, lambda residual: len(coded.stream(colours, residual)), max_bytes)
        return Written(coded.stream(colours, found), codes, kept, with_residual(shown, found))

    def _nearest(self, choices: list[Written]) -> Written:
        """The one with the least error, the first of several."""
        return choices[0] if len(choices) == 1 else min(choices, key=self._error)

    def _error(self, written: Written) -> float:
        """As allocation counts it."""
        shown = written.shown
        if shown is None:
            there = read_container(written.data, Limits())
            info = there.header.info
            shown = coloured(self.model.decode(written.codes, info.size, written.kept), info.colours)[:, :, 0]
            shown = with_residual(shown, read_residual(there.residual or b"", info))
        rows, columns = (-(-side // self.model.patch) * self.model.patch for side in self.pixels.shape[-2:])
        return float(patch_errors(pad_to(shown, rows, columns), self.pixels, self.model.patch).sum())


def most_within(size: Callable[[int], int], most: int, max_bytes: int) -> int:
    """The most digits, 1 … `most`, whose stream has at most `max_bytes`; more digits make more bytes.

    Raises LimitError if one digit is too much.
    """
    if size(1) > max_bytes:
        raise LimitError(
            f"cannot be coded in {max_bytes} bytes: the smallest stream, 1 bit of each code, takes {size(1)}; "
            "allow so many, or scale the picture down"
        )
    fits, over = 1, most + 1
    while over - fits > 1:
        middle = (fits + over) // 2
        if size(middle) <= max_bytes:
            fits = middle
        else:
            over = middle
    return fits


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
