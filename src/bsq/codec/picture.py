"""Pictures ↔ `.bsq` streams: the one door between them. What enters: a picture, or bytes. What leaves: the other.

The header carries the picture's own size, so that the padding to whole patches is cut off exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from bsq.codec.info import Limits, StreamInfo
from bsq.codec.measure import inspect
from bsq.codec.recover import Fill, complete, tell_missing
from bsq.codec.residual import Residual
from bsq.codec.search import Told
from bsq.codec.seeking import Seeking, followed, write_alike
from bsq.codec.shelf import DEFAULT_MODEL, model_of, named_model, priors_called, priors_for
from bsq.codec.showing import shown
from bsq.codec.stream import choose_prior, read_available, read_codes
from bsq.codec.writer import PictureWriter
from bsq.codes import Codes
from bsq.data.pictures import Source, open_picture, to_pixels, to_uint8
from bsq.errors import MediaError, SettingsError
from bsq.prior.base import Prior
from bsq.tokenizer import Tokenizer


def compress(
    picture: Source | np.ndarray,
    tokenizer: Tokenizer | str | Path = DEFAULT_MODEL,
    bits: int | None = None,
    prior: Prior | str | None = None,
    max_bytes: int | None = None,
    allocate: bool = False,
    search: int | None = None,
    told: Told | None = None,
    colours: bool = True,
) -> bytes:
    """A picture → the bytes of a `.bsq` stream.

    Args:
        picture: uint8 (H, W, 3), or what `open_picture` takes: a path, a picture file's bytes or a binary file.
        tokenizer: a tokenizer, or the name, folder or hub id of one.
        bits: keep the first `bits` digits of each code, 1 … L; default all.
        prior: what drives the entropy coder, or its name: "learned", "adaptive", "raw"; default, "auto": the best, and
            where many tokens have the same code, as in drawings, the one that makes the file smallest.
        max_bytes: keep as many digits, up to `bits`, as show the picture best in so many bytes.
        allocate: let every token keep as many digits as pay, for the least error (`bsq.codec.allocation`): in
            `max_bytes`, or else in no more bytes than `bits` digits of every token take, set right. One of the two is
            needed. Digits that a search found come first, the encoder's behind them. Takes about six times as long.
        search: look for better codes than the encoder's in so many steps (`bsq.codec.search`): 1 to 3 decode and
            encode once more each (4 to 9 find no more); 20 to 80 take four decodings each or more, and find more. A
            picture's codes take at most 5 % more bytes (2 % from 10 steps on), or what `max_bytes` leaves: several
            numbers of digits are tried then. In many steps only a learned prior steers towards fewer bits.
            0: the encoder's codes. Default: one step, for the faithful decoder whichever is at hand, of pictures of up
            to 65,536 tokens, if codes of the model can be searched for.
        told: is told what share of the search is done.
        colours: decode the codes and keep how to set right what they show, where it pays: its colours all over (some
            14 bytes; `bsq.codec.colours`), and in pictures of up to 65,536 tokens what larger parts lack (2 to 5 % of
            photographs, more of pure colours; `bsq.codec.residual`).

    Raises:
        MediaError, LimitError: the picture, or not even one digit of each code fits into `max_bytes`; or a search needs
        too much memory.
        SettingsError: `bits`, nothing to allocate, search where it cannot be. MissingDependencyError: 10 and more
        steps of search need pytorch-msssim. CheckpointError: the tokenizer's name.
    """
    pixels = to_pixels(picture if isinstance(picture, np.ndarray) else open_picture(picture))
    model = tokenizer if isinstance(tokenizer, Tokenizer) else named_model(tokenizer)
    seeking = Seeking.of(search, model, (pixels.shape[-2], pixels.shape[-1]), told)
    if allocate and bits is None and max_bytes is None:
        raise SettingsError("what is there to share out? allocate needs bits or max_bytes")
    most = len(model.radices) if bits is None else model.check_bits(bits)
    first, *spare = priors_called(prior, model)
    writer = PictureWriter(model, first, pixels, colours, tuple(spare))
    written = write_alike(writer, most, max_bytes, seeking)
    if allocate:
        # What `bits` of every token take may also be spent on more digits of some.
        codes = followed(written.draft.codes, writer.account.codes(len(model.radices) if max_bytes is None else most))
        written = writer.allocated(codes, written, max_bytes or len(written.data))
    return written.data


def decompress(
    data: bytes,
    tokenizer: Tokenizer | str | Path | None = None,
    device: str = "cpu",
    limits: Limits | None = None,
    priors: Sequence[Prior] = (),
) -> np.ndarray:
    """Mirror of `compress`: the bytes of a `.bsq` stream → uint8 (H, W, 3), in the size that was compressed.

    Args:
        data: a whole stream.
        tokenizer: needed only for streams of models that are not bundled.
        device: where a tokenizer that is not given as an object computes.
        limits: what to refuse before anything is allocated.
        priors: further priors that may have written it, besides the tokenizer's own.

    Raises:
        A `StreamError`, each cause its own (`errors.py`); WrongModelError if another tokenizer wrote the stream.
        MediaError: a path in place of bytes, or a stream of a video.
    """
    model = _model_of(data, tokenizer, device, limits)
    stream = read_codes(data, (*priors, *priors_for(model)), limits)
    return show(model, stream.info, stream.codes, stream.kept, stream.residual or ())


@dataclass(frozen=True)
class Recovered:
    """A picture, uint8 (H, W, 3), from what a stream still has; `missing` says what it has, None if that is all."""

    picture: np.ndarray
    missing: str | None


def recover(
    data: bytes,
    tokenizer: Tokenizer | str | Path | None = None,
    device: str = "cpu",
    limits: Limits | None = None,
    way: Fill = Fill.prior,
) -> Recovered:
    """As `decompress`, of a stream that was cut short or damaged, as far as its checksums vouch for it.

    Only the header must be whole. `way` says what stands for the tokens that are missing.
    """
    model = _model_of(data, tokenizer, device, limits)
    priors = priors_for(model)
    stream = read_available(data, priors, limits)
    if stream.trouble is None:
        return Recovered(show(model, stream.info, stream.codes, stream.kept, stream.residual or ()), None)
    partial = complete(stream, choose_prior(stream.header, priors), way)
    picture = show(model, stream.info, partial.codes, partial.kept, stream.residual or ())
    return Recovered(picture, tell_missing(stream, len(data)))


def show(model: Tokenizer, info: StreamInfo, codes: Codes, kept: Tensor | None, residual: Residual = ()) -> np.ndarray:
    """The picture uint8 (H, W, 3) of a stream's codes; `kept` as `Tokenizer.decode` takes it."""
    return to_uint8(shown(model, codes, info.size, kept, info.colours, residual))


def _model_of(data: bytes, tokenizer: Tokenizer | str | Path | None, device: str, limits: Limits | None) -> Tokenizer:
    """The tokenizer that decodes a picture's stream, if that is what `data` is."""
    if isinstance(data, str | Path):
        raise MediaError(f"a stream is bytes, got {type(data).__name__}; Path({str(data)!r}).read_bytes() reads a file")
    info = inspect(data, limits).info
    model = model_of(info, tokenizer, device)
    check_kind(info)
    return model


def verify(data: bytes, tokenizer: Tokenizer, limits: Limits | None = None) -> None:
    """Read a stream back to its codes. Its closing digest is that of the codes encoded, so a difference is an error."""
    read_codes(data, priors_for(tokenizer), limits)


def check_kind(info: StreamInfo) -> None:
    if info.kind != "picture":
        raise MediaError(f"the stream holds a {info.kind} of {info.frames} frames; decompress_video() gives them")
