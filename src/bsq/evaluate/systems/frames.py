"""Clips as pictures. What enters: a system and a clip. What leaves: its frames, each reconstructed alone."""

from __future__ import annotations

import torch
from torch import Tensor

from bsq.codes import Codes
from bsq.evaluate.systems.base import Reconstructed, System
from bsq.evaluate.systems.fitting import clip_of, frames_of, one_by_one


class FrameByFrame:
    """A system that never sees two frames at once: the "frame only" row of a video table."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.name, self.currency, self.parameters = system.name, system.currency, system.parameters
        self.description, self.notes = f"{system.description}; every frame alone", system.notes

    def reconstruct(self, pixels: Tensor) -> Reconstructed:
        clips, bits, digits = [], [], []
        radices: tuple[int, ...] = ()
        for clip in one_by_one(pixels):
            alone = self._system.reconstruct(frames_of(clip)[:, :, None])
            clips.append(clip_of(alone.pixels[:, :, 0]))
            bits.append(sum(alone.bits))
            if alone.codes is not None:
                radices = alone.codes.radices
                digits.append(alone.codes.digits.transpose(0, 1))
        return Reconstructed(torch.cat(clips), tuple(bits), Codes(torch.cat(digits), radices) if digits else None)

    def reconstruct_together(self, pixels: Tensor) -> Tensor:
        again = self._system.reconstruct_together(pixels.transpose(1, 2).flatten(0, 1)[:, :, None])
        return again[:, :, 0].unflatten(0, (len(pixels), -1)).transpose(1, 2)
