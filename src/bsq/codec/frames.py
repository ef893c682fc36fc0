"""Groups of frames through a tokenizer, frame by frame. What enters: frames, or codes. What leaves: the other.

Encoder and decoder begin afresh with each group: what is in memory is a group and what the model remembers of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch

from bsq.codec.colours import ColourMap
from bsq.codec.showing import decoded_beside, set_right, shown
from bsq.codes import Codes
from bsq.data.pictures import check_picture, to_pixels, to_uint8
from bsq.errors import ShapeError
from bsq.tokenizer import Tokenizer

FindCodes = Callable[[torch.Tensor], Codes]
"""Pixels (1, 3, T, H, W) of a group → its codes (1, T, h, w, kept)."""


def of_one_size(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same frames. Raises ShapeError."""
    shape: tuple[int, ...] | None = None
    for frame in frames:
        check_picture(frame)
        if shape not in (None, frame.shape):
            raise ShapeError(f"frames of one video have one size: got {frame.shape} after {shape}")
        shape = frame.shape
        yield frame


def encode_groups(
    frames: Iterator[np.ndarray], model: Tokenizer, bits: int | None, size: int, find: FindCodes | None = None
) -> Iterator[Codes]:
    """Codes (1, T, h, w, kept) of every `size` frames, each group as if nothing had been before it.

    A model whose frames see later ones takes a group at once, others frame by frame, in less memory. `find` is asked
    for the codes of a group in place of the encoder.
    """
    if find is not None:
        while together := list(islice(frames, size)):
            yield find(torch.stack([to_pixels(frame) for frame in together], 2))
        return
    stream = model.stream_encoder(bits) if model.settings.encoder.time == "causal" else None
    while True:
        group = map(to_pixels, islice(frames, size))
        if stream is None:
            clip = list(group)
            pieces = [model.encode(torch.stack(clip, 2), bits)] if clip else []
        else:
            stream.restart()
            pieces = [stream.push(pixels) for pixels in group]
        if not pieces:
            return
        yield Codes(torch.cat([piece.digits for piece in pieces], 1), pieces[0].radices)


def decode_group(
    codes: Codes, model: Tokenizer, size: tuple[int, int], wanted: range, colours: ColourMap = ()
) -> Iterator[np.ndarray]:
    """Those frames of a group, uint8 (H, W, 3), their `colours` set right. Mirror of `encode_groups`."""
    if model.settings.decoder.time != "causal":
        pixels = shown(model, codes, size, colours=colours)
        yield from (to_uint8(pixels[:, :, number]) for number in wanted)
        return
    stream, faithful = model.stream_decoder(size), decoded_beside(model, colours)
    beside = None if faithful is None else faithful.stream_decoder(size)
    for number in range(wanted.stop):
        frame = Codes(codes.digits[:, number : number + 1], codes.radices)
        pixels, right = stream.push(frame), None if beside is None else beside.push(frame)
        if number in wanted:
            yield to_uint8(set_right(pixels, right, colours))
