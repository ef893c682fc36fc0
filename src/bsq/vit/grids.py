"""Grids of any size through encoder and decoder. What enters: pixels of whole patches, or digits. What leaves: the
other.

A model with windows takes a large grid in parts with margins (`bsq.parts`), one with learned positions in tiles
(`bsq.tiling`). Where frames come piece by piece, a `GridPast` remembers for each part or tile what later frames see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bsq.errors import ShapeError
from bsq.layers.positions import LearnedPositionsSettings
from bsq.parts import cut_parts
from bsq.tiling import Tiling, blend_tiles, cut_tiles
from bsq.vit.decoder import Decoder
from bsq.vit.encoder import Encoder
from bsq.vit.transformer import BodyPast, TransformerSettings, on_frames


class GridPast:
    """What is remembered of earlier frames of one clip, by parts and tiles.

    `unfinished` holds from the moment that a part begins to take in frames until all parts have: whoever gives frames
    says when they are all in. If it holds before, the parts stand at different frames and are of no use.
    """

    def __init__(self) -> None:
        self.unfinished = False
        self._bodies: dict[tuple[int, int], BodyPast] = {}

    @property
    def frames(self) -> int:
        """How many frames have gone through."""
        return max((body.frames for body in self._bodies.values()), default=0)

    @property
    def kept_bytes(self) -> int:
        return sum(body.kept_bytes for body in self._bodies.values())

    def at(self, top: int, left: int) -> BodyPast:
        """The past of the part or tile whose first token is in that row and column."""
        self.unfinished = True
        return self._bodies.setdefault((top, left), BodyPast())


def encode_grid(
    encoder: Encoder, clip: Tensor, read: Callable[[Tensor], Tensor], past: GridPast | None = None
) -> Tensor:
    """Pixels (B, 3, T, h·p, w·p) → what `read` makes of their latent (B, T, h, w, C): digits (B, T, h, w, L)."""

    _check_frames(encoder.body.settings, clip.shape[2], past)

    def code(pixels: Tensor, top: int, left: int) -> Tensor:
        pieces = [
            on_frames(read, encoder(pixels[:, :, span], body))
            for span, body in _spans(encoder.body.settings, clip.shape[2], past, top, left)
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    tiling = tiling_of(encoder.body.settings)
    if tiling is not None:
        return cut_tiles(clip, tiling, encoder.patch, code)
    rows, columns = clip.shape[-2] // encoder.patch, clip.shape[-1] // encoder.patch
    digits: Tensor | None = None
    for part in cut_parts(rows, columns, encoder.body.settings.reach(rows, columns)):
        down, right = part.rows.times(encoder.patch), part.columns.times(encoder.patch)
        here = code(clip[..., down.outer, right.outer], part.rows.start, part.columns.start)
        if digits is None:
            digits = here.new_empty(*here.shape[:2], rows, columns, here.shape[-1])
        digits[:, :, part.rows.own, part.columns.own] = here[:, :, part.rows.inside, part.columns.inside]
    assert digits is not None
    return digits


def decode_grid(
    decoder: Decoder, codes: Tensor, show: Callable[[Tensor], Tensor], past: GridPast | None = None
) -> Tensor:
    """Digits (B, T, h, w, L), turned by `show` into the decoder's input → pixels (B, 3, T, h·p, w·p). Mirror of
    `encode_grid`.
    """

    _check_frames(decoder.body.settings, codes.shape[1], past)

    def paint(digits: Tensor, top: int, left: int) -> Tensor:
        pieces = [
            decoder(on_frames(show, digits[:, span]), body)
            for span, body in _spans(decoder.body.settings, codes.shape[1], past, top, left)
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)

    tiling = tiling_of(decoder.body.settings)
    if tiling is not None:
        return blend_tiles(codes, tiling, decoder.patch, paint)
    batch, frames, rows, columns, _ = codes.shape
    size = batch, 3, frames, rows * decoder.patch, columns * decoder.patch
    pixels = torch.empty(size, dtype=torch.float32, device=codes.device)
    for part in cut_parts(rows, columns, decoder.reach(rows, columns)):
        down, right = part.rows.times(decoder.patch), part.columns.times(decoder.patch)
        here = paint(codes[:, :, part.rows.outer, part.columns.outer], part.rows.start, part.columns.start)
        pixels[..., down.own, right.own] = here[..., down.inside, right.inside]
    return pixels


def tiling_of(settings: TransformerSettings) -> Tiling | None:
    """The tile of a model with learned positions."""
    match settings.positions:
        case LearnedPositionsSettings(rows=rows, columns=columns):
            return Tiling(rows, columns)
        case _:
            return None


def _check_frames(settings: TransformerSettings, frames: int, past: GridPast | None) -> None:
    """Before any part takes in a frame: raises ShapeError where a table of frames has not so many more."""
    so_far = 0 if past is None else past.frames
    match settings.positions:
        case LearnedPositionsSettings(frames=most) if so_far + frames > most:
            raise ShapeError(f"learned positions are for up to {most} frames, got {so_far + frames}")
        case _:
            pass


def _spans(
    settings: TransformerSettings, frames: int, past: GridPast | None, top: int, left: int
) -> Iterator[tuple[slice, BodyPast | None]]:
    """How the frames of a part go through: at once; or, where a token sees a few of them only, so many at a time."""
    step = settings.window_frames or frames
    body = past.at(top, left) if past is not None else BodyPast() if step < frames else None
    for start in range(0, frames, step):
        yield slice(start, start + step), body
