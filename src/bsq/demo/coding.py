"""A picture or clip at any number of bits. What enters: material. What leaves: a stream, pixels, and what tokens cost.

The encoder runs once; another number of bits is another prefix of the same codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from bsq.codec.frames import decode_group, encode_groups
from bsq.codec.info import StreamInfo
from bsq.codec.picture import describe
from bsq.codec.shelf import priors_for, usual_group
from bsq.codec.stream import split_groups, write_codes
from bsq.codes import Codes
from bsq.data.pictures import to_pixels, to_uint8
from bsq.demo.material import Material
from bsq.prior.base import Conversation, Grid, Prior, Wrapped, reply
from bsq.prior.lengths import code_lengths
from bsq.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class Work:
    """Material and all digits of its codes (1, T, h, w, L)."""

    material: Material
    model: Tokenizer
    codes: Codes


@dataclass(frozen=True, eq=False)
class Coded:
    """`stream` at so many `bits` a token; `costs` (T, h, w) float64, the bits its prior asks for each token."""

    bits: int
    stream: bytes
    costs: np.ndarray


def begin(material: Material, model: Tokenizer) -> Work:
    """Run the encoder."""
    if not material.is_clip:
        return Work(material, model, model.encode(to_pixels(material.frames[0])))
    groups = list(encode_groups(iter(material.frames), model, None, usual_group(model)))
    return Work(material, model, Codes(torch.cat([group.digits for group in groups], 1), groups[0].radices))


def code(work: Work, bits: int) -> Coded:
    """The file that `bsq encode --bits` writes."""
    meter = Meter(priors_for(work.model)[0])
    stream = write_codes(work.codes.first(bits), info_of(work, bits), meter)
    return Coded(bits, stream, np.concatenate(meter.costs))


def reconstruct(work: Work, bits: int) -> tuple[np.ndarray, ...]:
    """What that file decodes to: frames uint8 (H, W, 3)."""
    codes, size = work.codes.first(bits), work.material.size
    if not work.material.is_clip:
        return (to_uint8(work.model.decode(codes, size)),)
    groups = split_groups(codes, info_of(work, bits))
    return tuple(frame for group in groups for frame in decode_group(group, work.model, size, range(group.shape[1])))


def info_of(work: Work, bits: int) -> StreamInfo:
    """What the stream's header says."""
    picture, frames = describe(work.model, *work.material.size, bits), len(work.material.frames)
    if not work.material.is_clip:
        return picture
    group = usual_group(work.model)
    return replace(
        picture, frames=frames, frame_rate=work.material.rate, frames_per_group=group if group < frames else None
    )


@dataclass(eq=False)
class Meter(Wrapped):
    """A prior that notes, while it is asked, what each token costs: −log2 of what it expected of its digits."""

    inner: Prior
    costs: list[np.ndarray] = field(default_factory=list)  # (T, h, w) of each group

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        spent = np.zeros(grid.tokens)
        self.costs.append(spent.reshape(grid.frames, grid.height, grid.width))
        conversation = self.inner.converse(grid, radices)
        question = next(conversation, None)
        while question is not None:
            answer = yield question
            spent[question.tokens] += code_lengths(question.frequencies, answer)
            question = reply(conversation, answer)
