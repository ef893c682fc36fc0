"""Clips of videos. What enters: an encoded video and random numbers. What leaves: uint8 crops (3, T, crop, crop)."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from bsq.data.sources import AnySource
from bsq.data.transforms import CropSettings, central_cut, random_cut
from bsq.data.videos import Video, open_video
from bsq.errors import MediaError
from bsq.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 2**25
"""Pixels of one frame of a video to train on: 8K."""


class ClipSettings(Settings):
    """Clips of `frames` frames, `frame_rate` a second, starting at a random time. At each of the clip's times the frame
    that is on the screen is taken, whatever the video's own rate. Of the steps of a run that has pictures too, `share`
    (default: half) are of clips.
    """

    source: AnySource
    frames: PositiveInt = 16
    frame_rate: PositiveFloat = 8.0
    share: float | None = Field(default=None, gt=0, lt=1)


def random_clip(data: bytes, clips: ClipSettings, crop: CropSettings, random: np.random.Generator) -> Tensor:
    """uint8 (3, T, crop, crop): the same random square of every frame of a random stretch.

    Raises MediaError if the video is too short or cannot be read.
    """
    moment = random.random()
    with open_video(data, LARGEST) as video:
        times = clip_times(video, clips, moment)
        cut = random_cut((video.height, video.width), crop, random)
        return stack([cut.apply(frame) for frame in video.at(times)])


def central_clip(data: bytes, clips: ClipSettings, crop: CropSettings) -> Tensor:
    """Mirror of `random_clip` without chance: the middle in time and space."""
    with open_video(data, LARGEST) as video:
        times = clip_times(video, clips, 0.5)
        cut = central_cut((video.height, video.width), crop)
        return stack([cut.apply(frame) for frame in video.at(times)])


def clip_times(video: Video, clips: ClipSettings, moment: float) -> list[Fraction]:
    """Seconds of each frame; `moment` in [0, 1) says where between the first and the last possible start."""
    step = 1 / Fraction(clips.frame_rate).limit_denominator(100_000)
    span = (clips.frames - 1) * step
    length = video.length()
    if length <= span:
        raise MediaError(
            f"{video.name} is too short: {float(length):.2f} s, and {clips.frames} frames at {clips.frame_rate:g} a "
            f"second span {float(span):.2f} s"
        )
    start = Fraction(int(moment * 2**20), 2**20) * (length - span)
    return [start + number * step for number in range(clips.frames)]


def stack(frames: list[np.ndarray]) -> Tensor:
    """uint8 (H, W, 3) each → (3, T, H, W)."""
    import torch

    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2).contiguous()
