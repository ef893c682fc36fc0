"""How far off codes are. What enters: pixels as they are shown, and as they are meant. What leaves: their distance."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bsq.losses.reconstruction import ReconstructionSettings, reconstruction_loss
from bsq.losses.structure import TRAINING_MIN_SIDE

DISTORTION = ReconstructionSettings(l1=0.25, mse=1.0, ms_ssim=1.0, chroma=4.0)
"""As recipes/biscuit-s-colour.yaml trains; of sides that have fewer pixels than MS-SSIM needs, without it."""
SQUARED = ReconstructionSettings(l1=0.0, mse=1.0)
"""What corrections must make less."""
JUDGED = 512
"""Side in pixels, at least, of the pieces that distortion is measured in at the end; the last one of an axis has what
is left over, too.
"""


def distortion(shown: Tensor, wanted: Tensor, settings: ReconstructionSettings = DISTORTION) -> Tensor:
    """Of what a decoder gives for whole patches, beside pixels (1, 3, T, H, W) that may lack padding."""
    height, width = wanted.shape[-2:]
    if min(height, width) < TRAINING_MIN_SIDE:
        settings = settings.model_copy(update={"ms_ssim": 0.0})
    return reconstruction_loss(shown[..., :height, :width], wanted, settings).loss


@torch.no_grad()
def in_pieces(shown: Tensor, wanted: Tensor, settings: ReconstructionSettings) -> float:
    """The same of clips (1, 3, T, H, W) of any size, frame by frame and piece by piece."""
    height, width = wanted.shape[-2:]
    total = 0.0
    for frame in range(wanted.shape[2]):
        for rows in pieces(height):
            for columns in pieces(width):
                here = slice(None), slice(None), slice(frame, frame + 1), rows, columns
                total += float(distortion(shown[here], wanted[here], settings)) * wanted[here].numel()
    return total / wanted.numel()


def pieces(size: int) -> Iterator[slice]:
    """Of an axis, `JUDGED` and less than twice that each, or all of it."""
    count = max(1, size // JUDGED)
    for number in range(count):
        yield slice(number * JUDGED, size if number == count - 1 else (number + 1) * JUDGED)
