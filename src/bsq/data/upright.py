"""Colour and orientation of video frames. What enters: decoded frames. What leaves: upright uint8 RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import av

UNSPECIFIED, BT709, BT601 = 2, 1, 6
"""Of AVColorSpace, as frames have it."""
HD_LINES, HD_COLUMNS = 720, 1280


def to_rgb(raw: av.VideoFrame) -> np.ndarray:
    """uint8 (H, W, 3) by the frame's own matrix and range."""
    from av.video.reformatter import Interpolation

    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
    if raw.colorspace == UNSPECIFIED and not raw.format.is_rgb:
        raw.colorspace = BT709 if raw.height >= HD_LINES or raw.width >= HD_COLUMNS else BT601
    return raw.reformat(format="rgb24", interpolation=flags, threads=1).to_ndarray()


@dataclass(frozen=True)
class Turn:
    """How stored frames become upright: transposed first, then mirrored."""

    transposed: bool
    left_right: bool
    up_down: bool

    def size(self, height: int, width: int) -> tuple[int, int]:
        return (width, height) if self.transposed else (height, width)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) turned, as a copy of its own."""
        if self.transposed:
            picture = picture.swapaxes(0, 1)
        if self.left_right:
            picture = picture[:, ::-1]
        if self.up_down:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


def turn_of(raw: av.VideoFrame) -> Turn:
    """The right-angled turn nearest to the frame's display matrix, (x', y') = (ax + cy, bx + dy) (ISO 14496-12)."""
    side = raw.side_data.get("DISPLAYMATRIX")
    if side is None:
        return Turn(False, False, False)
    a, b, _, c, d, *_ = np.frombuffer(side, np.int32).tolist()  # type: ignore[call-overload]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(False, a < 0, d < 0)
    return Turn(True, c < 0, b < 0)
