"""What `bsq tokenize` is asked for. What enters: keywords. What leaves: checked settings."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from bsq.data.pictures import MAX_PIXELS
from bsq.data.token_files import Format
from bsq.settings import Settings


class ViewSettings(Settings):
    """How a picture, or each frame of a video, becomes pixels. With `size` its short side is scaled to that many pixels
    (Lanczos) and, with `crop` "center", the square in the middle is cut out; without, it stays as it is. View 0 is that
    square. Each of the `views` after it is a random square of the same size whose side is `zoom` … 1 of the short side,
    mirrored with probability `flip`; it follows from `seed`, the input's key and the view's number alone.
    """

    size: PositiveInt | None = None
    crop: Literal["center", "none"] = "center"
    views: PositiveInt = 1
    zoom: float = Field(default=1.0, gt=0, le=1)
    flip: float = Field(default=0.0, ge=0, le=1)
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _can_be_cut(self) -> Self:
        if self.views > 1 and (self.size is None or self.crop == "none"):
            raise ValueError("several views of a picture are squares; give their size, and crop=center")
        if self.views == 1 and (self.zoom < 1 or self.flip > 0):
            raise ValueError("zoom and flip are for the views after the first; ask for views=2 or more")
        return self


class FrameSettings(Settings):
    """Videos: `frames` in a row of tokens (None: as many as the model's streams have in a group), the last row of a
    video fewer; brought to `frame_rate` a second (None: the video's own); the first `max_frames` of each (None: all).
    """

    frames: PositiveInt | None = None
    frame_rate: PositiveFloat | None = None
    max_frames: PositiveInt | None = None


class TokenizeSettings(Settings):
    """All that the rows of a folder of tokens depend on, beside the inputs and the model.

    `inputs`: what sources are searched for. `bits`: digits to keep of a code (None: all). `shard_size` inputs go into
    one file of the given `format`. `batch` views of one size are encoded together. `label`: "folder" (the name of the
    one a file lies in), a suffix of members of a tar ("cls"), or a column of a Parquet file, whose pictures are in
    `column`. Inputs of more than `max_pixels` are refused.
    """

    inputs: Literal["pictures", "videos"] = "pictures"
    bits: PositiveInt | None = None
    shard_size: PositiveInt = 1000
    format: Literal["parquet", "webdataset"] = "parquet"
    batch: PositiveInt = 4
    label: str | None = None
    column: str = "image"
    max_pixels: PositiveInt = MAX_PIXELS
    views: ViewSettings = ViewSettings()
    frames: FrameSettings = FrameSettings()

    @model_validator(mode="after")
    def _has_frames(self) -> Self:
        if self.inputs == "pictures" and self.frames != FrameSettings():
            raise ValueError("frames, frame_rate and max_frames are for videos; ask for them (--videos)")
        return self

    @property
    def shard_format(self) -> Format:
        return Format[self.format.upper()]
