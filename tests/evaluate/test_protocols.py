"""Protocols: what is done to pictures, step by step, and what cannot be asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from bsq.errors import MediaError, SettingsError
from bsq.evaluate.protocols import OF_RECONSTRUCTIONS, PROTOCOLS, Protocol, central, chosen_protocol


@pytest.mark.parametrize("resize", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("height", "width"), [(50, 81), (81, 50), (32, 32), (10, 17)])
def test_a_resize_is_pillows_with_the_long_side_rounded_down(resize: str, height: int, width: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    protocol = Protocol.model_validate({"resize": resize, "short_side": 32, "crop": 32})
    size = (32, 32 * height // width) if width < height else (32 * width // height, 32)
    by_hand = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling[resize.upper()]))
    top, left = round((size[1] - 32) / 2), round((size[0] - 32) / 2)
    assert np.array_equal(protocol.prepare(picture), by_hand[top : top + 32, left : left + 32])


def test_a_picture_that_fits_is_left_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    assert PROTOCOLS["native"].prepare(picture) is picture
    same = Protocol(resize="lanczos", short_side=32).prepare(picture)
    assert np.array_equal(same, picture)


def test_a_crop_of_more_than_there_is() -> None:
    with pytest.raises(MediaError, match="is 40×32, smaller than the crop of 33"):
        central(np.zeros((32, 40, 3), np.uint8), 33)


def test_every_protocol_is_written_whole() -> None:
    for name, protocol in PROTOCOLS.items():
        told = json.loads(json.dumps(protocol.for_reports()))
        assert told.pop("values").startswith("float32 in [-1, 1]")
        assert Protocol.model_validate(told) == protocol
        assert told["name"] == name


def test_a_changed_protocol_says_so_and_has_no_published_rows() -> None:
    changed = chosen_protocol("imagenet-256", ["resize=bicubic", "protocol.crop=64"])
    assert (changed.resize, changed.crop, changed.short_side) == ("bicubic", 64, 256)
    assert changed.name == "imagenet-256 with resize=bicubic, crop=64"
    assert changed.published == ()


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("imagenet", [], "no protocol 'imagenet'; there are native"),
        ("native", ["crop"], "takes FIELD=VALUE"),
        ("native", ["crop=["], "'\\[' is no value"),
        ("native", ["name=kodak"], "name follows from its values"),
        ("native", ["protocol.published=[kodak]"], "published follows from its values"),
    ],
)
def test_what_cannot_be_asked_for(name: str, changes: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        chosen_protocol(name, changes)


def test_what_no_measure_reads_cannot_be_asked_for() -> None:
    for unread in OF_RECONSTRUCTIONS:
        value = "uint8" if unread == "rounding" else "2"
        with pytest.raises(SettingsError, match=f"{unread} changes nothing"):
            chosen_protocol("native", [f"{unread}={value}"], OF_RECONSTRUCTIONS)
        assert chosen_protocol("native", [f"{unread}={value}"]) != chosen_protocol("native")


@pytest.mark.parametrize("changes", [["resize=lanczos"], ["short_side=64"], ["crop=0"], ["sharpness=3"]])
def test_values_that_make_no_protocol(changes: list[str]) -> None:
    with pytest.raises(ValidationError):
        chosen_protocol("native", changes)
