"""Videos ↔ `.bsq` streams, frame by frame. What enters: frames, or a file. What leaves: the other, in bounded memory.

The frames are coded in groups that know nothing of each other: encoder, prior and decoder begin afresh with each. So
any group can be decoded alone, with the same pixels.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain, count, repeat
from pathlib import Path
from typing import BinaryIO

import numpy as np
from torch import Tensor

from bsq.codec.colour_maps import FilmColours
from bsq.codec.frames import decode_group, encode_groups, of_one_size
from bsq.codec.groups import GroupReader, GroupWriter
from bsq.codec.info import MAX_SIZE, Limits, StreamInfo
from bsq.codec.recover import Fill, complete
from bsq.codec.search import Search, Told, check_search
from bsq.codec.shelf import DEFAULT_MODEL, model_of, named_model, priors_called, priors_for, usual_group
from bsq.codec.showing import shown
from bsq.codec.stream import DecodedStream, choose_prior
from bsq.codec.writer import describe
from bsq.data.pictures import to_uint8
from bsq.errors import MediaError, SettingsError, TruncatedStreamError
from bsq.prior.base import Prior
from bsq.tokenizer import Tokenizer


def compress_video(
    frames: Iterable[np.ndarray],
    frame_rate: Fraction | int,
    target: BinaryIO,
    tokenizer: Tokenizer | str | Path = DEFAULT_MODEL,
    bits: int | None = None,
    prior: Prior | str | None = None,
    frames_per_group: int | None = None,
    search: int | None = None,
    told: Told | None = None,
    colours: bool = True,
) -> StreamInfo:
    """Frames, one by one → a `.bsq` stream in `target`; what its header says.

    Args:
        frames: uint8 (H, W, 3), all of one size; as many as there are.
        frame_rate: frames a second.
        target: a binary file, written once, front to back, when the last frame was taken; it need not be searchable.
        tokenizer, bits: as `compress` takes them.
        prior: what drives the entropy coder, or its name; default: of `smallest_of`, the one that makes the stream
            smallest.
        frames_per_group: what can be decoded without what is before it, 1 or more; default: `usual_group`.
        search: look for better codes than the encoder's, in so many steps a group (`bsq.codec.search`); takes a
            group's frames into memory at once. A group takes at most 5 % more bits (2 % from 10 steps on) by the prior
            that suits it best. Default: none; other than a picture a film is not searched unasked.
        told: is told what share of a group's search is done.
        colours: decode some of the groups and keep in the header how to set their colours right (`bsq.codec.colours`).

    Raises:
        MediaError: no frames. ShapeError: frames of other shapes. SettingsError: `frame_rate`, `bits`,
        `frames_per_group`. CheckpointError: the tokenizer's name. LimitError: a search needs too much memory.
        MissingDependencyError: 10 and more steps of search need pytorch-msssim.
    """
    rate = check_rate(frame_rate)
    model = tokenizer if isinstance(tokenizer, Tokenizer) else named_model(tokenizer)
    length = usual_group(model) if frames_per_group is None else frames_per_group
    if not 1 <= length <= MAX_SIZE:
        raise SettingsError(f"a group has 1 frame or more, got {frames_per_group}")
    film = FilmColours(model) if colours else None
    rest = of_one_size(frames) if film is None else film.watch(of_one_size(frames))
    first = next(rest, None)
    if first is None:
        raise MediaError("there are no frames")
    priors = priors_called(prior, model)
    kept = len(model.radices) if bits is None else model.check_bits(bits)
    steps = 0 if search is None else check_search(search, model)
    find = Search(model, priors[0], kept, steps, told, priors[1:]) if steps else None
    groups = encode_groups(chain([first], rest), model, bits, length, find)
    codes = next(groups)
    picture = describe(model, first.shape[0], first.shape[1], codes.length)
    info = replace(picture, frames=length, frame_rate=rate)
    with GroupWriter(info, priors, folder_of(target)) as writer:
        for group in chain([codes], groups):
            writer.add(group)
            if film is not None:
                film.add(group)
        return writer.finish(target, () if film is None else film.colours())


@dataclass
class DecodedVideo:
    """A video being decoded.

    info     what the stream's header says
    span     which of its frames are decoded
    frames   those, one by one, uint8 (H, W, 3); once
    missing  what the stream did not have, in plain words, when all frames were taken
    """

    info: StreamInfo
    span: range
    frames: Iterator[np.ndarray]
    missing: list[str] = field(default_factory=list)

    @property
    def rate(self) -> Fraction:
        """Frames a second."""
        assert self.info.frame_rate is not None
        return self.info.frame_rate


def decompress_video(
    source: BinaryIO,
    tokenizer: Tokenizer | str | Path | None = None,
    device: str = "cpu",
    limits: Limits | None = None,
    priors: Sequence[Prior] = (),
    start: Fraction | float | None = None,
    end: Fraction | float | None = None,
) -> DecodedVideo:
    """Mirror of `compress_video`: a `.bsq` stream in a searchable file → its frames, in the size they had.

    Args:
        source: stays open until all frames were taken.
        tokenizer, device, priors: as `decompress` takes them. limits: of one group.
        start, end: seconds; frames shown from `start` on and before `end`, equal to those of a whole decoding.

    Raises, at once or with a frame:
        A `StreamError`, each cause its own. The closing digest is behind the last frame: of a whole video, frames
        are as written if none is raised at their end; of a part, its chunks' checksums vouch for them.
        MediaError: a picture. SettingsError: `start` or `end`.
    """
    reader, model, prior = _open(source, tokenizer, device, limits, priors)
    span, size = frames_between(reader.info, start, end), reader.info.size

    def decode() -> Iterator[np.ndarray]:
        given = 0
        for number, group in _groups(reader, prior, span):
            if group.trouble is not None:
                raise group.trouble
            wanted = _within(reader.info, number, span)
            for frame in decode_group(group.codes, model, size, wanted, reader.info.colours):
                given += 1
                yield frame
        if reader.trouble is not None and (given < len(span) or given == reader.info.frames):
            raise reader.trouble

    return DecodedVideo(reader.info, span, decode())


def recover_video(
    source: BinaryIO,
    tokenizer: Tokenizer | str | Path | None = None,
    device: str = "cpu",
    limits: Limits | None = None,
    way: Fill = Fill.prior,
    start: Fraction | float | None = None,
    end: Fraction | float | None = None,
) -> DecodedVideo:
    """As `decompress_video`, of a stream that was cut short or damaged, as far as its checksums vouch for it.

    Frames of which a part is left are completed as `way` says; those of which nothing is left show the one before
    them; those behind the end of a stream that was cut are left out.
    """
    reader, model, prior = _open(source, tokenizer, device, limits, ())
    span = frames_between(reader.info, start, end)
    missing: list[str] = []

    def decode() -> Iterator[np.ndarray]:
        tally, last, waiting = Tally(), None, 0
        for left in _remains(reader, model, prior, span, way):
            tally.count(left)
            if left.pixels is None:
                waiting += 1
                continue
            last = left.pixels if last is None or not waiting else last
            yield from repeat(last, waiting)
            yield left.pixels
            last, waiting = left.pixels, 0
        if reader.trouble is None or tally.whole == len(span) < reader.info.frames:
            return
        if last is None:
            raise reader.trouble
        if not isinstance(reader.trouble, TruncatedStreamError):
            yield from repeat(last, waiting)
            waiting = 0
        missing.append(tally.tell(reader, span, waiting))

    return DecodedVideo(reader.info, span, decode(), missing)


def verify_video(source: BinaryIO, tokenizer: Tokenizer, limits: Limits | None = None) -> None:
    """Read a stream back to its codes; its closing digest is that of the codes encoded, so a difference is an error."""
    reader, _, prior = _open(source, tokenizer, "cpu", limits, ())
    deque(reader.groups(prior), maxlen=0)
    if reader.trouble is not None:
        raise reader.trouble


def frames_between(info: StreamInfo, start: Fraction | float | None, end: Fraction | float | None) -> range:
    """The frames shown from `start` on and before `end`, in seconds. Raises SettingsError if there are none."""
    assert info.frame_rate is not None
    first = 0 if start is None else math.ceil(exactly(start) * info.frame_rate)
    last = info.frames if end is None else min(info.frames, math.ceil(exactly(end) * info.frame_rate))
    if 0 <= first < last:
        return range(first, last)
    given = f"{0 if start is None else float(start):g} s to {'its end' if end is None else f'{float(end):g} s'}"
    seconds = float(info.frames / info.frame_rate)
    raise SettingsError(f"from {given} there are no frames; the video has {info.frames}, 0 s to {seconds:g} s")


def exactly(seconds: Fraction | float) -> Fraction:
    """1.1 is 11/10, not the binary fraction beside it. Raises SettingsError."""
    try:
        return Fraction(str(seconds))
    except ValueError as error:
        raise SettingsError(f"a moment of a video is a number of seconds, got {seconds!r}") from error


# One way


def check_rate(rate: Fraction | int) -> Fraction:
    """A frame rate that a header can hold. Raises SettingsError."""
    exact = Fraction(rate)
    if exact <= 0 or max(exact.as_integer_ratio()) > MAX_SIZE:
        raise SettingsError(f"the frame rate must be above 0, its terms below 2^31; got {rate}")
    return exact


def folder_of(target: BinaryIO) -> Path | None:
    """Where a file lies that has a name."""
    name = getattr(target, "name", None)
    return Path(name).parent if isinstance(name, str | Path) and Path(name).is_file() else None


# And back


@dataclass(frozen=True, eq=False)
class Left:
    """What is left of a frame: pixels, None if there is nothing; `whole` if nothing is missing."""

    pixels: np.ndarray | None
    whole: bool


class Tally:
    """How many frames were whole, there in part, or lost."""

    def __init__(self) -> None:
        self.whole = self.part = self.lost = 0

    def count(self, left: Left) -> None:
        self.whole += left.whole
        self.part += not left.whole and left.pixels is not None
        self.lost += left.pixels is None

    def tell(self, reader: GroupReader, span: range, dropped: int) -> str:
        """The sum, of a stream with trouble; `dropped` of the lost frames are not shown."""
        cut = isinstance(reader.trouble, TruncatedStreamError)
        told = f"{'ends early' if cut else 'is damaged'} ({reader.size} bytes are there): of {len(span)} frames "
        told += f"{self.whole} are whole, {self.part} there in part"
        held, gone = self.lost - dropped, len(span) - self.whole - self.part - self.lost + dropped
        if held:
            told += f", {held} lost (the frame before stays)"
        return told + (f", {gone} behind the end" if gone else "")


def _remains(reader: GroupReader, model: Tokenizer, prior: Prior, span: range, way: Fill) -> Iterator[Left]:
    """What is left of each frame, up to the last group of which anything is."""
    size, colours = reader.info.size, reader.info.colours
    for number, group in _groups(reader, prior, span):
        wanted = _within(reader.info, number, span)
        if group.trouble is None:
            yield from (Left(frame, True) for frame in decode_group(group.codes, model, size, wanted, colours))
            continue
        there = group.known.flatten(1)
        pixels: Tensor | None = None
        if there.any():
            partial = complete(group, prior, way)
            pixels = shown(model, partial.codes, size, partial.kept, colours)
        for frame in wanted:
            known = pixels is not None and bool(there[frame].any())
            yield Left(
                to_uint8(pixels[:, :, frame]) if pixels is not None and known else None, bool(there[frame].all())
            )


def _groups(reader: GroupReader, prior: Prior, span: range) -> Iterator[tuple[int, DecodedStream]]:
    """The groups that hold frames of the span, with their numbers."""
    size = reader.info.group_size
    first, last = span.start // size, -(-span.stop // size)
    return zip(count(first), reader.groups(prior, first, last), strict=False)


def _within(info: StreamInfo, number: int, span: range) -> range:
    """Which frames of a group lie in the span, counted from the group's first."""
    start, frames = number * info.group_size, info.of_group(number).frames
    return range(max(0, span.start - start), min(frames, span.stop - start))


def _open(
    source: BinaryIO,
    tokenizer: Tokenizer | str | Path | None,
    device: str,
    limits: Limits | None,
    priors: Sequence[Prior],
) -> tuple[GroupReader, Tokenizer, Prior]:
    reader = GroupReader(source, limits)
    info = reader.info
    if info.frame_rate is None:
        raise MediaError("the stream holds a picture; decompress() gives it")
    model = model_of(info, tokenizer, device)
    return reader, model, choose_prior(reader.header, (*priors, *priors_for(model)))
