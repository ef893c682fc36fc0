"""Streams of pictures whose codes are looked for. What enters: a picture's writer, and how many steps a search may
take. What leaves: a stream whose tokens all keep as many digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from bsq.checkpoint.decoders import faithful_of
from bsq.codec.search import DESCENT_FROM, Search, Told, check_search, growth_of
from bsq.codec.writer import PictureWriter, Written, repeats
from bsq.codes import Codes
from bsq.errors import SettingsError
from bsq.tokenizer import Tokenizer

USUAL, USUAL_MOST = 1, 65_536
"""Steps where nobody says how many, of pictures of up to so many tokens: .3 dB for hardly more bytes."""
MORE, FEWER = 3, 3
"""Digits more, and less, than the encoder's codes may keep that corrected ones are tried with in a given size."""
LEAST_GROWTH = 0.98
"""How many times the bits of the encoder's codes corrected ones take, at least, as good as always."""


def told_steps(search: int | None) -> str:
    """What codes of files are, by the `search` that was asked for, in words."""
    if search is None:
        return f"codes after {USUAL} step of search, of pictures of up to {USUAL_MOST:,} tokens"
    return f"codes after {search} step{'s' * (search > 1)} of search" if search else "the encoder's codes"


@dataclass(frozen=True)
class Seeking:
    """How codes of a picture are looked for: for which decoder, in how many steps; 0 takes the encoder's."""

    model: Tokenizer
    steps: int
    told: Told | None = None

    @classmethod
    def of(cls, search: int | None, model: Tokenizer, size: tuple[int, int], told: Told | None = None) -> Self:
        """In `search` steps for the model's own decoder. None: as usual for a picture of that size, where its codes can
        be searched for at all, for the faithful decoder, so that whichever decoder is at hand the file is the same.

        Raises what `check_search` raises.
        """
        if search is not None:
            return cls(model, check_search(search, model), told)
        rows, columns = model.grid(*size)
        try:
            steps = check_search(USUAL, model) if rows * columns <= USUAL_MOST else 0
        except SettingsError:
            steps = 0
        return cls(faithful_of(model), steps, told)

    def codes(self, writer: PictureWriter, kept: int, growth: float | None = None) -> Codes:
        """Of the writer's picture, of `kept` digits, in at most `growth` (default: `growth_of`) times the bits of the
        encoder's.
        """
        if not self.steps:
            return writer.account.codes(kept)
        search = Search(self.model, writer.prior, kept, self.steps, self.told)
        return search(writer.pixels, growth, writer.account_of(self.model))

    def lengths(self, fitting: int, most: int) -> range:
        """Numbers of digits to try, one after another, where so many of the encoder's fit, set right, and up to `most`
        are wanted. Corrected codes take some more bits, and less to set them right; a descent is as long again.
        """
        if self.steps >= DESCENT_FROM:
            return range(fitting, fitting - 1, -1)
        return range(min(most, fitting + MORE), max(0, fitting - FEWER), -1) if self.steps else range(0)


def write_alike(writer: PictureWriter, most: int, max_bytes: int | None, seeking: Seeking) -> Written:
    """The stream of a picture whose tokens all keep `most` digits, or as many of them as fit into `max_bytes`.

    Raises LimitError if one digit is too much.
    """
    if max_bytes is not None:
        return write_within(writer, most, max_bytes, seeking)
    codes = seeking.codes(writer, most)
    plain = writer.account.codes(most)
    written = writer.set_right(codes)
    # Drawings: what a map of colours makes exact corrections may disturb.
    return writer.nearest([written, writer.set_right(plain)]) if codes != plain and repeats(plain) else written


def write_within(writer: PictureWriter, most: int, max_bytes: int, seeking: Seeking) -> Written:
    """Of the encoder's codes of as many digits as fit, and of others that were found, the nearest."""
    codes, enough = writer.account.codes(most), growth_of(seeking.steps)
    best = writer.within(codes, max_bytes)
    for kept in seeking.lengths(best.draft.codes.length, most):
        alike = codes.first(kept)
        coded = writer.coded(alike)
        room = (max_bytes - (len(coded.stream()) - coded.size)) / max(1, coded.size)
        if room < LEAST_GROWTH:
            continue
        # Where digits have to go all the room may be taken.
        found = seeking.codes(writer, kept, room if kept < most else min(room, enough))
        written, whole = writer.fits(found, max_bytes) if found != alike else (best, kept == most and room > enough)
        if len(written.data) <= max_bytes:
            best = writer.nearest([best, written])
            if whole:  # fewer digits show less
                break
    return best


def followed(codes: Codes, longer: Codes) -> Codes:
    """These codes, and behind their digits those that `longer` ones have there."""
    return Codes(torch.cat([codes.digits, longer.digits[..., codes.length :]], -1), longer.radices)
