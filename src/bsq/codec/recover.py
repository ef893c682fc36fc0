"""A picture from what is left of a stream. What enters: digits, some of them unknown. What leaves: codes to decode.

Digits that are missing count as zero, as they do in training. A token without its most important digits would be a
hole, so the prior fills in the likeliest ones: its first layer of digits, up to 6 dB better than zeros. Later layers
are left at zero: filled in, they were worse as often as better.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bsq.codec.stream import DecodedStream
from bsq.codes import Codes
from bsq.errors import TruncatedStreamError
from bsq.prior.base import Prior
from bsq.prior.fill import MostLikely, fill
from bsq.prior.layout import Layout
from bsq.prior.uniform import UniformPrior


class Fill(StrEnum):
    """What stands for tokens that are missing: what the prior expects, or nothing."""

    prior = "prior"
    zero = "zero"


@dataclass(frozen=True)
class PartialCodes:
    """Codes (1, T, h, w, K), and how many first digits of each count, (1, T, h, w) int64; the rest is unknown."""

    codes: Codes
    kept: Tensor


def complete(stream: DecodedStream, prior: Prior, way: Fill) -> PartialCodes:
    """The codes of a stream read by `read_available` with `prior`, missing ones filled in as `way` says."""
    digits, known = stream.codes.digits[0], stream.known
    kept = known.long().cumprod(-1).sum(-1)
    if way is Fill.zero or isinstance(prior, UniformPrior):
        return PartialCodes(stream.codes, kept[None])
    digits, start = digits.clone(), 0
    depth = min(first_layer(prior), stream.codes.length)
    # How far tokens are filled in: one that was written with fewer digits than that lacks none of the others.
    wanted = torch.where(stream.missing[..., :depth].any(-1), stream.due.clamp(max=depth), kept)
    for grid in stream.info.groups:
        frames = slice(start, start + grid.frames)
        start += grid.frames
        if bool((kept[frames] >= wanted[frames]).all()):
            continue
        rows, sure = (part[frames, ..., :depth].reshape(-1, depth).numpy() for part in (digits, known))
        filled = fill(prior, grid, stream.codes.radices[:depth], rows, sure, MostLikely())
        shape = digits[frames, ..., :depth].shape
        digits[frames, ..., :depth] = torch.from_numpy(filled.astype(rows.dtype)).reshape(shape)
        kept[frames] = torch.maximum(kept[frames], wanted[frames])
    return PartialCodes(Codes(digits[None], stream.codes.radices), kept[None])


def first_layer(prior: Prior) -> int:
    """How many digits the prior asks for of some tokens before it asks for any of others."""
    layout = getattr(prior, "layout", None)
    return len(layout.layers[0].digits) if isinstance(layout, Layout) else 1


def tell_missing(stream: DecodedStream, size: int) -> str:
    """What a stream of `size` bytes with trouble still gave: '… digits 1–9 of all tokens, 10–18 of 31–40 %, …'."""
    cut = isinstance(stream.trouble, TruncatedStreamError)
    known, missing = (
        part.reshape(-1, stream.codes.length).double().sum(0).numpy() for part in (stream.known, stream.missing)
    )
    shares = np.where(missing > 0, known / np.maximum(known + missing, 1), 1.0)
    told = f"{'ends early' if cut else 'is damaged'} ({size} bytes are there): "
    if not shares.any():
        return f"{told}no digits can be used"
    all_in_all = float(known.sum() / (known.sum() + missing.sum()))
    told += f"{_percent(all_in_all)} of the digits can be used, {tell_digits(shares)}"
    if stream.unchecked:
        told += f"; {stream.unchecked} bytes of it lie behind the last checksum"
    if stream.residual is None:
        told += "; what larger parts lack is lost"
    return told


def tell_digits(shares: np.ndarray) -> str:
    """Shares (K,) of known tokens, in runs of digits: all of them, some, none."""
    kinds = np.where(shares >= 1, 2, np.where(shares > 0, 1, 0))
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(shares)]
    runs: list[str] = []
    for first, last in pairwise(edges):
        which = f"{first + 1}" if last == first + 1 else f"{first + 1}–{last}"
        low, high = _percent(shares[first:last].min()), _percent(shares[first:last].max())
        of = {2: "of all tokens", 1: f"of {low if low == high else f'{low} to {high}'} of the tokens", 0: "of none"}
        runs.append(f"{'' if runs else 'digit ' if last == 1 else 'digits '}{which} {of[int(kinds[first])]}")
    return ", ".join(runs)


def _percent(share: float) -> str:
    """A share that is neither nothing nor all does not look like either."""
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"
