"""A picture or clip as it is asked for. What enters: material. What leaves: a stream, pixels, and what tokens cost.

A clip's encoder runs once; another number of bits is another prefix of the same codes. A picture's are corrected, or
searched for, and kept: another decoder shows the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bsq.checkpoint.decoders import FAITHFUL
from bsq.codec.colour_maps import film_colours
from bsq.codec.frames import decode_group, encode_groups
from bsq.codec.info import StreamInfo
from bsq.codec.picture import show
from bsq.codec.residual import Residual
from bsq.codec.seeking import Seeking, followed, write_alike
from bsq.codec.shelf import priors_for, smallest_of, usual_group
from bsq.codec.stream import split_groups, write_codes
from bsq.codec.writer import PictureWriter, describe
from bsq.codes import Codes
from bsq.data.pictures import to_pixels
from bsq.demo.material import Material
from bsq.prior.base import Prior
from bsq.prior.lengths import digit_lengths
from bsq.tokenizer import Tokenizer

STEPS = 20
"""Of a search: half of what it can bring, in some seconds."""


@dataclass(frozen=True)
class Choice:
    """What is asked for: bits a token, whether the search is a long one, and which decoder shows them."""

    bits: int
    searched: bool = False
    decoder: str = FAITHFUL


@dataclass(frozen=True, eq=False)
class Work:
    """Material, all digits of its codes (1, T, h, w, L), and by name further models with other decoders of them."""

    material: Material
    model: Tokenizer
    codes: Codes
    decoders: Mapping[str, Tokenizer] = field(default_factory=dict)
    files: dict[Choice, Coded] = field(default_factory=dict)

    def shown_by(self, choice: Choice) -> Tokenizer:
        return self.decoders.get(choice.decoder, self.model)

    def file_for(self, choice: Choice) -> Choice:
        """What a file is made for: the decoder that its codes are searched for, or else the model's own."""
        return choice if choice.searched and not self.material.is_clip else Choice(choice.bits)

    def codes_of(self, choice: Choice) -> Codes:
        """Those in the file of that choice."""
        return code(self, choice).codes

    def digits_of(self, choice: Choice) -> Tensor:
        """All digits (1, T, h, w, L): those of the choice, and behind them the encoder's, which no file has."""
        return followed(self.codes_of(choice), self.codes).digits


@dataclass(frozen=True, eq=False)
class Coded:
    """The `stream` of a choice, its codes, what its header says, and what its pixels lack; `costs` (T, h, w) float64,
    the bits its prior asks for each token.
    """

    choice: Choice
    codes: Codes
    stream: bytes
    info: StreamInfo
    residual: Residual
    costs: np.ndarray


def begin(material: Material, model: Tokenizer, decoders: Mapping[str, Tokenizer] | None = None) -> Work:
    """Run the encoder."""
    if not material.is_clip:
        return Work(material, model, model.encode(to_pixels(material.frames[0])), decoders or {})
    groups = list(encode_groups(iter(material.frames), model, None, usual_group(model)))
    codes = Codes(torch.cat([group.digits for group in groups], 1), groups[0].radices)
    return Work(material, model, codes, decoders or {})


def code(work: Work, choice: Choice) -> Coded:
    """The file that `bsq encode` writes: with `--bits`, and `--search` where a long one is asked for."""
    asked = work.file_for(choice)
    if asked not in work.files:
        work.files[asked] = code_clip(work, asked) if work.material.is_clip else code_picture(work, asked)
    return replace(work.files[asked], choice=choice)


def code_picture(work: Work, choice: Choice) -> Coded:
    """The stream of a picture, set right for the decoder that the file is made for."""
    model, pixels = work.shown_by(choice) if choice.searched else work.model, to_pixels(work.material.frames[0])
    first, *spare = smallest_of(work.model)
    writer = PictureWriter(model, first, pixels, spare=tuple(spare))
    seeking = Seeking.of(STEPS if choice.searched else None, model, work.material.size)
    written = write_alike(writer, choice.bits, None, seeking)
    codes, coded = written.draft.codes, written.draft.coded
    info = replace(describe(work.model, *work.material.size, choice.bits), colours=written.colours)
    return Coded(choice, codes, written.data, info, written.residual, costs_of([codes], coded.prior))


def code_clip(work: Work, choice: Choice) -> Coded:
    """The stream of a clip."""
    material, codes, group = work.material, work.codes.first(choice.bits), usual_group(work.model)
    info = replace(
        describe(work.model, *material.size, choice.bits),
        frames=len(material.frames),
        frame_rate=material.rate,
        frames_per_group=group if group < len(material.frames) else None,
    )
    info = replace(info, colours=film_colours(work.model, split_groups(codes, info), material.frames))
    prior = priors_for(work.model)[0]
    costs = costs_of(split_groups(codes, info), prior)
    return Coded(choice, codes, write_codes(codes, info, prior), info, (), costs)


def costs_of(groups: Iterable[Codes], prior: Prior) -> np.ndarray:
    """What each token costs (T, h, w), of codes that know nothing of each other: −log2 of what was expected of it."""
    return np.concatenate([digit_lengths(prior, codes).sum(-1).reshape(codes.shape[1:4]) for codes in groups])


def reconstruct(work: Work, choice: Choice) -> tuple[np.ndarray, ...]:
    """What that file decodes to: frames uint8 (H, W, 3)."""
    codes, model, coded = work.codes_of(choice), work.shown_by(choice), code(work, choice)
    if not work.material.is_clip:
        return (show(model, coded.info, codes, None, coded.residual),)
    return tuple(
        frame
        for group in split_groups(codes, coded.info)
        for frame in decode_group(group, model, coded.info.size, range(group.shape[1]), coded.info.colours)
    )
