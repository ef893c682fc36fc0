"""Streams of one picture. What enters: its codes. What leaves: the bytes that hold them, and set its pixels right.

Everything that looks for codes (`bsq.codec.search`, `bsq.codec.allocation`) has them written here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bsq.checkpoint.decoders import faithful_of
from bsq.codec.account import Account, Lately
from bsq.codec.allocation import best_within, levels_of, measure_costs, patch_errors
from bsq.codec.colour_maps import Seen, colours_of, look
from bsq.codec.colours import RECORD, ColourMap, coloured
from bsq.codec.info import StreamInfo
from bsq.codec.residual import Residual, fit_residual, with_residual
from bsq.codec.shelf import name_of
from bsq.codec.stream import CodedStream, short_hash
from bsq.codes import Codes
from bsq.errors import LimitError
from bsq.pixels import pad_to
from bsq.prior.allocated import allocate as allocate_digits
from bsq.prior.allocated import kept_digits
from bsq.prior.base import Prior
from bsq.tokenizer import Tokenizer

LOOKED_AT, FEW = 1024, 16
"""About so many tokens are looked at for codes that repeat, and no more than one in so many may differ."""
TRIES = 4
"""Numbers of digits that are tried where a target must also have room for what sets pixels right."""


@dataclass(frozen=True, eq=False)
class Draft:
    """Codes as they were coded; how many digits of each are kept, as `Tokenizer.decode` takes them; what they show,
    None where pixels are not set right, and the map of colours that is wanted.
    """

    coded: CodedStream
    codes: Codes
    kept: Tensor | None
    seen: Seen | None
    colours: ColourMap


@dataclass(frozen=True, eq=False)
class Written:
    """A stream, of what, and what sets its pixels right."""

    data: bytes
    draft: Draft
    colours: ColourMap = ()
    residual: Residual = ()

    @property
    def extra(self) -> int:
        """Bytes of what sets pixels right."""
        return len(self.data) - len(self.draft.coded.stream())


@dataclass(frozen=True, eq=False)
class Coder:
    """Codes the codes of a picture of `size` pixels."""

    model: Tokenizer
    size: tuple[int, int]
    prior: Prior
    spare: tuple[Prior, ...]

    def __call__(self, codes: Codes, levels: tuple[int, ...] = ()) -> CodedStream:
        """Codes (1, 1, h, w, kept); with levels, allocated codes (`bsq.prior.allocated`)."""
        info = replace(describe(self.model, *self.size, levels[-1] if levels else codes.length), levels=levels)
        coded = CodedStream(codes, info, self.prior)
        others = [CodedStream(codes, info, prior) for prior in self.spare] if repeats(codes) else []
        return min([coded, *others], key=lambda one: len(one.stream()))


@dataclass(eq=False)
class PictureWriter:
    """Writes streams of codes of the picture `pixels` (1, 3, H, W).

    colours  whether to set them right, all over by a map and, but for huge pictures, in parts by a residual
    spare    priors that code, too, where many tokens have the same code; the smaller stream is taken
    coded    codes (1, 1, h, w, kept) → what they are in a stream
    account  of codes as they are written, and what the faithful decoder shows of them: what was asked of it, or of
             `coded`, need not be worked out again
    """

    model: Tokenizer
    prior: Prior
    pixels: Tensor
    colours: bool = True
    spare: tuple[Prior, ...] = ()

    coded: Callable[[Codes], CodedStream] = field(init=False)
    account: Account = field(init=False)
    _coder: Coder = field(init=False)

    def __post_init__(self) -> None:
        # Nothing here knows the writer: a picture must not wait for Python to notice that nobody wants it any more.
        self._coder = Coder(self.model, (self.pixels.shape[-2], self.pixels.shape[-1]), self.prior, self.spare)
        self.coded = coded = Lately(self._coder)
        self.account = Account(faithful_of(self.model), self.pixels, lambda codes: 8 * coded(codes).size)

    def account_of(self, model: Tokenizer) -> Account:
        """Of codes as they are written, and what that model shows of them."""
        return self.account if model is self.account.model else Account(model, self.pixels, self.account.bits)

    def set_right(self, codes: Codes, max_bytes: int | None = None) -> Written:
        """The stream of codes, with what sets its pixels right where that pays, and `max_bytes` leaves room for it."""
        return self._finished(self._draft(self.coded(codes), codes), max_bytes)

    def within(self, codes: Codes, max_bytes: int, coded: Callable[[int], CodedStream]) -> Written:
        """The same of as many first digits as fit into `max_bytes`, or of fewer that leave room for what sets pixels
        right, if that is nearer; `coded` gives the stream of so many. Raises LimitError if one digit is too much.
        """
        choices, most, room = list[Written](), codes.length, max_bytes
        while len(choices) < TRIES:
            most = most_within(lambda kept: len(coded(kept).stream()), most, room)
            draft = self._draft(coded(most), codes.first(most))
            wanted = self._finished(draft, None)
            over = len(wanted.data) - max_bytes
            choices.append(self._finished(draft, max_bytes) if over > 0 else wanted)
            if over <= 0 or most == 1:
                break
            # First without what was wanted over larger parts, if not even the map had room.
            over = min(over, RECORD) if draft.colours and not choices[-1].colours else over
            room = max(len(coded(1).stream()), len(coded(most).stream()) - over)
        return self.nearest(choices)

    def allocated(self, codes: Codes, alike: Written, max_bytes: int) -> Written:
        """The stream of at most `max_bytes` with the least error that allocation finds; `alike`, a stream of tokens
        that all keep as many digits, where that has less, nothing else fits or codes have a single digit.
        """
        levels = levels_of(codes.length)
        if len(levels) < 2:
            return alike

        def code(chosen: np.ndarray) -> CodedStream:
            return self._coder(allocate_digits(codes, levels, chosen), levels)

        costs = measure_costs(self.model, self.pixels, codes, levels, self.prior)
        # Costs are of tokens whose neighbours keep as many digits: what counts is the pictures as they come out.
        choices = [alike]
        for room in {max_bytes - RECORD, max_bytes - alike.extra} if self.colours else {max_bytes}:
            found = best_within(costs, lambda chosen: code(chosen).stream(), room)
            if found is not None:
                kept = kept_digits(allocate_digits(codes, levels, found[0]), levels)
                choices.append(self._finished(self._draft(code(found[0]), codes, kept), max_bytes))
        return min(choices, key=self._visible_error)

    def nearest(self, choices: list[Written]) -> Written:
        """The one with the least squared error, the first of several."""
        return choices[0] if len(choices) == 1 else min(choices, key=self._squared_error)

    def _draft(self, coded: CodedStream, codes: Codes, kept: Tensor | None = None) -> Draft:
        if not self.colours:
            return Draft(coded, codes, kept, None, ())
        seen = look(self.model, codes, self.pixels, kept, self.account.shown)
        return Draft(coded, codes, kept, seen, colours_of(seen, codes, self.pixels))

    def _finished(self, draft: Draft, max_bytes: int | None) -> Written:
        """The draft, set right as far as there is room."""
        coded, seen, colours = draft.coded, draft.seen, draft.colours
        if max_bytes is not None and len(coded.stream(colours)) > max_bytes:
            colours = ()
        residual: Residual = ()
        if seen is not None and seen.whole:
            shown = coloured(seen.shown.clone(), colours)[:, :, 0]
            residual = fit_residual(shown, self.pixels, lambda layers: len(coded.stream(colours, layers)), max_bytes)
        return Written(coded.stream(colours, residual), draft, colours, residual)

    def _shown(self, written: Written) -> Tensor:
        """(1, 3, H, W) of what the stream shows."""
        draft, size = written.draft, (self.pixels.shape[-2], self.pixels.shape[-1])
        if draft.seen is not None and draft.seen.whole:
            shown = draft.seen.shown.clone()
        else:
            shown = faithful_of(self.model).decode(draft.codes, size, draft.kept)
        return with_residual(coloured(shown, written.colours)[:, :, 0], written.residual)

    def _squared_error(self, written: Written) -> float:
        shown = self._shown(written)
        return float((shown - self.pixels.to(shown.device)).square().mean())

    def _visible_error(self, written: Written) -> float:
        """As allocation counts it."""
        patch, (height, width) = self.model.patch, self.pixels.shape[-2:]
        shown = pad_to(self._shown(written), -(-height // patch) * patch, -(-width // patch) * patch)
        return float(patch_errors(shown, self.pixels, patch).sum())


def repeats(codes: Codes) -> bool:
    """Whether a kind of picture that no photograph is: of some tokens spread over it few have a code of their own."""
    rows = codes.digits.reshape(-1, codes.length)
    rows = rows[:: max(1, len(rows) // LOOKED_AT)]
    return len(torch.unique(rows, dim=0)) * FEW <= len(rows)


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
