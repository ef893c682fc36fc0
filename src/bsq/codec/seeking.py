"""Streams of pictures whose codes are looked for. What enters: a picture's writer, and how many steps a search may
take. What leaves: a stream whose tokens all keep as many digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Self

import torch

from bsq.checkpoint.decoders import faithful_of
from bsq.codec.search import DESCENT_FROM, Search, Told, check_search, growth_of
from bsq.codec.stream import CodedStream
from bsq.codec.writer import PictureWriter, Written, most_within, repeats
from bsq.codes import Codes
from bsq.errors import SettingsError
from bsq.tokenizer import Tokenizer

USUAL, USUAL_MOST = 1, 65_536
"""Steps where nobody says how many, of pictures of up to so many tokens: .3 dB of MS-SSIM for hardly more bytes."""
MOST_TRIES = 8
"""Numbers of digits that corrected codes are tried with, at most, where a file is given a size."""
FEW = 1_024
"""Of pictures of up to so many tokens more is tried."""
WIDE = 1.12
"""How many times the bits of the encoder's codes are room for all that sets pixels right, too."""
LEAST_GROWTH = 0.98
"""How many times the bits of the encoder's codes corrected ones take, at least, as good as always."""


def told_search(search: int | None) -> str:
    """What codes of files are, by the `search` that was asked for, in words."""
    if search is None:
        return f"codes {told_steps(USUAL)}, of pictures of up to {USUAL_MOST:,} tokens"
    return f"codes {told_steps(search)}" if search else "the encoder's codes"


def told_steps(steps: int) -> str:
    """ "after 2 steps of search"."""
    return f"after {steps} step{'s' * (steps > 1)} of search"


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


def write_alike(writer: PictureWriter, most: int, max_bytes: int | None, seeking: Seeking) -> Written:
    """The stream of a picture whose tokens all keep `most` digits; with `max_bytes`, as many of them, up to `most`, as
    show the picture best in so many bytes.

    Raises LimitError if one digit is too much.
    """
    if max_bytes is not None:
        return write_within(writer, most, max_bytes, seeking)
    written, plain = writer.set_right(seeking.codes(writer, most)), writer.account.codes(most)
    if written.draft.codes == plain or not (repeats(plain) or is_small(plain)):
        return written
    # Of drawings and small pictures, what sets them right may be worth more with the codes that the encoder chose.
    first = writer.set_right(plain)
    return writer.nearest([written, first]) if len(first.data) <= len(written.data) else written


def write_within(writer: PictureWriter, most: int, max_bytes: int, seeking: Seeking) -> Written:
    """Of the encoder's codes of as many digits as fit, and of others that were found, the nearest."""
    codes, enough = writer.account.codes(most), growth_of(seeking.steps)
    coded = cache(lambda kept: writer.coded(codes.first(kept)))
    best = writer.within(codes, max_bytes, coded)
    wide = WIDE if is_small(codes) else enough
    last: Written | None = None
    for kept in lengths(coded, most, max_bytes, seeking.steps):
        # Where digits have to go all the room may be taken. (Half a byte, so that what fits exactly does.)
        room = (max_bytes + 0.5 - (len(coded(kept).stream()) - coded(kept).size)) / max(1, coded(kept).size)
        found = seeking.codes(writer, kept, room if kept < most else min(room, enough))
        if found != codes.first(kept):
            written = writer.set_right(found, max_bytes)
            if len(written.data) > max_bytes:
                continue
            best = writer.nearest([best, written])
            if kept == most and room > WIDE:  # nothing had to go
                break
            if last is not None and room > wide and writer.nearest([last, written]) is last:
                break
            last = written
        elif room > enough:
            break
    return best


def is_small(codes: Codes) -> bool:
    """Whether trying once more takes no time."""
    return codes.digits[..., 0].numel() <= FEW


def lengths(coded: Callable[[int], CodedStream], most: int, max_bytes: int, steps: int) -> range:
    """Numbers of digits to try, one after another, where `coded` gives the encoder's so many: corrected ones take about
    as many bits, and less to set them right. A descent is long, and gets one try.
    """
    if not steps:
        return range(0)
    fits = most_within(lambda kept: int(LEAST_GROWTH * len(coded(kept).stream())), most, max_bytes)
    return range(fits, max(0, fits - (MOST_TRIES if steps < DESCENT_FROM else 1)), -1)


def followed(codes: Codes, longer: Codes) -> Codes:
    """These codes, and behind their digits those that `longer` ones have there."""
    return Codes(torch.cat([codes.digits, longer.digits[..., codes.length :]], -1), longer.radices)
