"""Streams of pictures whose codes are looked for. What enters: a picture's writer, and how many steps a search may
take. What leaves: a stream whose tokens all keep as many digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from bsq.checkpoint.decoders import faithful_of
from bsq.codec.measure import inspect
from bsq.codec.search import DESCENT_FROM, Search, Told, check_search, growth_of
from bsq.codec.writer import PictureWriter, Written
from bsq.codes import Codes
from bsq.errors import SettingsError
from bsq.tokenizer import Tokenizer

USUAL, USUAL_MOST = 1, 65_536
"""Steps where nobody says how many, of pictures of up to so many tokens: .3 dB for hardly more bytes."""
FEWER = 3
"""So many numbers of digits are tried, one less each time, where a target leaves no room for corrections."""
SLACK = 8
"""Bytes by which a stream may exceed what its digits take by the prior's account."""


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
            return self.model.encode(writer.pixels, kept)
        search = Search(self.model, writer.prior, kept, self.steps, self.told)
        return search(writer.pixels, growth, writer.account_of(self.model))

    def lengths(self, fitting: int) -> range:
        """Numbers of digits to try, one after another, where so many of the encoder's fit. Corrections take some more
        bits, and are worth more than a digit; a descent counts what it takes, and is as long again.
        """
        tries = 0 if not self.steps else FEWER if self.steps < DESCENT_FROM else 1
        return range(fitting, max(0, fitting - tries), -1)


def write_alike(writer: PictureWriter, most: int, max_bytes: int | None, seeking: Seeking) -> Written:
    """The stream of a picture whose tokens all keep `most` digits, or as many of them as fit into `max_bytes`.

    Raises LimitError if one digit is too much.
    """
    if max_bytes is None:
        return writer.set_right(seeking.codes(writer, most))
    codes = writer.model.encode(writer.pixels, most)
    first = writer.within(codes, max_bytes)
    room = max_bytes - inspect(first.data).overhead - SLACK
    for kept in seeking.lengths(first.draft.codes.length):
        alike = codes.first(kept)
        growth = room / max(1, writer.coded(alike).size)
        # Where digits had to go all that is left of the room may be taken.
        found = seeking.codes(writer, kept, growth if kept < most else min(growth, growth_of(seeking.steps)))
        if found != alike:
            written = writer.set_right(found, max_bytes)
            return writer.nearest([first, written]) if len(written.data) <= max_bytes else first
    return first


def followed(codes: Codes, longer: Codes) -> Codes:
    """These codes, and behind their digits those that `longer` ones have there."""
    return Codes(torch.cat([codes.digits, longer.digits[..., codes.length :]], -1), longer.radices)
