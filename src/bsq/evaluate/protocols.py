"""What is done to pictures before and after a system sees them. What enters: uint8 RGB. What leaves: prepared uint8.

Values of one measure from two protocols cannot be set side by side, so each result is written with its protocol. The
ready-made ones follow the released evaluation code of arXiv:2406.07548 where it says what was done (Pillow's Lanczos
to a short side, the middle square, pixels in [−1, 1], reconstructions not rounded); its sampling of clips is not
published, and `remarks` says so.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import yaml
from PIL import Image
from pydantic import PositiveFloat, PositiveInt, model_validator

from bsq.data.pictures import check_picture
from bsq.errors import MediaError, SettingsError
from bsq.settings import Settings

ResizeFilter = Literal["none", "bilinear", "bicubic", "lanczos"]
PublishedTable = Literal["imagenet-256", "imagenet-128-quantizers", "ucf101", "kodak", "imagenet-128-generation"]
VALUES = "float32 in [-1, 1] for systems; 0 … 255 for PSNR, SSIM and MS-SSIM, which are of R, G and B"


class Protocol(Settings):
    """`short_side` is reached with Pillow's `resize`, then the central square of `crop` is taken. `rounding`: whether
    reconstructions become whole numbers in 0 … 255 before they are measured. Clips are `frames` frames from the middle
    of a video, `frame_rate` a second (None: the video's own), every frame prepared as a picture. `samples` pictures or
    clips of `reference` make a result comparable with the rows of `published`.
    """

    name: str = "native"
    resize: ResizeFilter = "none"
    short_side: PositiveInt | None = None
    crop: PositiveInt | None = None
    rounding: Literal["none", "uint8"] = "none"
    frames: PositiveInt = 16
    frame_rate: PositiveFloat | None = None
    samples: PositiveInt | None = None
    reference: str = "the pictures given"
    published: tuple[PublishedTable, ...] = ()
    remarks: str = ""

    @model_validator(mode="after")
    def _resizes_to_a_size(self) -> Self:
        if (self.resize == "none") != (self.short_side is None):
            raise ValueError("resize and short_side go together: give a filter and the side that it leads to")
        return self

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) → the same, resized and cropped. Raises MediaError for pictures smaller than the crop."""
        check_picture(picture)
        if self.short_side is not None:
            picture = resized(picture, self.short_side, self.resize)
        return picture if self.crop is None else central(picture, self.crop)

    def for_reports(self) -> dict[str, Any]:
        """As JSON, with what no setting changes."""
        return self.model_dump(mode="json") | {"values": VALUES}


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(),
        Protocol(
            name="imagenet-256",
            resize="lanczos",
            short_side=256,
            crop=256,
            samples=50_000,
            reference="ImageNet-1k val",
            published=("imagenet-256",),
        ),
        Protocol(
            name="imagenet-128",
            resize="lanczos",
            short_side=128,
            crop=128,
            samples=50_000,
            reference="ImageNet-1k val",
            published=("imagenet-128-quantizers", "imagenet-128-generation"),
        ),
        Protocol(
            name="coco-256",
            resize="lanczos",
            short_side=256,
            crop=256,
            samples=5_000,
            reference="COCO val2017",
        ),
        Protocol(
            name="ucf101",
            resize="lanczos",
            short_side=128,
            crop=128,
            frames=16,
            samples=3_783,
            reference="UCF-101, test split 1",
            published=("ucf101",),
            remarks="how the paper samples and resizes clips is not published: here the middle 16 frames at the "
            "video's own rate, Lanczos",
        ),
        Protocol(
            name="kodak",
            rounding="uint8",
            samples=24,
            reference="Kodak, whole pictures",
            published=("kodak",),
            remarks="everything is measured as 8-bit pictures, as files of codecs are",
        ),
        Protocol(
            name="adm",
            rounding="uint8",
            samples=50_000,
            reference="the reference batch given",
            published=("imagenet-128-generation",),
            remarks="the suite of guided-diffusion: FID, sFID, inception score, precision, recall of uint8 samples",
        ),
    )
}


FOLLOWING = ("name", "published")
"""What a changed protocol does not take from the command line, so that its results cannot pass for another's."""


OF_CLIPS = ("frames", "frame_rate")
"""What no protocol of pictures reads."""
OF_RECONSTRUCTIONS = (*OF_CLIPS, "rounding")
"""What no protocol of given pictures reads: they have 8 bits."""


def chosen_protocol(name: str, overrides: list[str] | tuple[str, ...] = (), unread: tuple[str, ...] = ()) -> Protocol:
    """A ready-made protocol with "resize=bicubic" or "protocol.crop=64" in place of its own values.

    Its name and published rows cannot be set: they follow from the values; nor can what is `unread` by the measures to
    be taken. Raises SettingsError for a name that there is not, and for a field without a value; pydantic's
    ValidationError else.
    """
    if name not in PROTOCOLS:
        raise SettingsError(f"no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    changes: dict[str, Any] = {}
    for text in overrides:
        field, sign, value = text.removeprefix("protocol.").partition("=")
        if not sign or not field:
            raise SettingsError(f"--set takes FIELD=VALUE, as in resize=bicubic; got {text!r}")
        if field in FOLLOWING:
            raise SettingsError(f"a protocol's {field} follows from its values and cannot be set; got {text!r}")
        if field in unread:
            raise SettingsError(f"{field} changes nothing that is measured here; got {text!r}")
        try:
            changes[field] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SettingsError(f"--set takes FIELD=VALUE, as in resize=bicubic; {value!r} is no value") from error
    if not changes:
        return PROTOCOLS[name]
    told = ", ".join(f"{field}={value}" for field, value in changes.items())
    base = PROTOCOLS[name].model_dump() | {"name": f"{name} with {told}", "published": ()}
    return Protocol.model_validate(base | changes)


def resized(picture: np.ndarray, short_side: int, resize: ResizeFilter) -> np.ndarray:
    """The short side brought to `short_side`, the long one in proportion, rounded down (as torchvision does)."""
    height, width = picture.shape[:2]
    short = min(height, width)
    size = (int(short_side * width / short), int(short_side * height / short))
    if size == (width, height):
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, _filter(resize)))


def _filter(resize: ResizeFilter) -> Image.Resampling:
    match resize:
        case "bilinear":
            return Image.Resampling.BILINEAR
        case "bicubic":
            return Image.Resampling.BICUBIC
        case "lanczos":
            return Image.Resampling.LANCZOS
        case _:
            raise SettingsError(f"no filter {resize!r}")


def central(picture: np.ndarray, side: int) -> np.ndarray:
    """The central square, its corner rounded to the nearest even number of pixels at a half (as torchvision does)."""
    height, width = picture.shape[:2]
    if min(height, width) < side:
        raise MediaError(f"is {width}×{height}, smaller than the crop of {side}; a protocol with a resize enlarges it")
    top, left = round((height - side) / 2), round((width - side) / 2)
    return np.ascontiguousarray(picture[top : top + side, left : left + side])
