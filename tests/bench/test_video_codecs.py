"""Classical video codecs, one by one: bytes, sizes, colours, what is left out."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from bsq.bench.video import rivals
from bsq.bench.video.clips import Clip
from bsq.bench.video.elementary import (
    START,
    VideoStream,
    without_av1_delimiters,
    without_avc_messages,
    without_hevc_messages,
)
from bsq.bench.video.rivals import SvtAv1Settings, Vp9Settings, X264Settings, X265Settings, rival_codec
from bsq.errors import MediaError, MissingDependencyError

CODECS = (X264Settings(), X265Settings(), Vp9Settings(speed=5), SvtAv1Settings(preset=10))
SATURATED = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (0, 0, 0), (255,) * 3)


def moving(height: int = 66, width: int = 80, count: int = 5) -> Clip:
    rows, columns = np.mgrid[:height, :width]
    frames = [
        np.stack([rows * 3, columns * 3, 128 + 100 * np.sin((rows + 3 * t) / 5)], -1).clip(0, 255) for t in range(count)
    ]
    return Clip("moving", np.stack(frames).astype(np.uint8), Fraction(24))


def error(shown: np.ndarray, clip: Clip) -> float:
    return float(np.square(shown.astype(float) - clip.frames).mean())


@pytest.mark.parametrize("settings", CODECS, ids=lambda s: s.kind)
def test_round_trip(settings: Any) -> None:
    """More bytes, less error; every frame comes back, in its place."""
    codec, clip = rival_codec(settings), moving()
    qualities = codec.qualities()
    assert list(qualities) == sorted(qualities)
    streams = [codec.encode(clip, qualities[len(qualities) * part // 10]) for part in (2, 8)]
    assert streams[0].size < streams[1].size
    shown = [codec.decode(stream, clip) for stream in streams]
    assert [pixels.shape for pixels in shown] == [clip.frames.shape] * 2
    assert error(shown[0], clip) > error(shown[1], clip)
    backwards = Clip("", clip.frames[::-1], clip.rate)
    assert error(shown[1], clip) < 0.5 * error(shown[1], backwards)


@pytest.mark.parametrize("settings", CODECS, ids=lambda s: s.kind)
@pytest.mark.parametrize("size", [(33, 47), (1, 3), (64, 129)])
def test_odd_and_tiny_sizes(settings: Any, size: tuple[int, int]) -> None:
    codec, clip = rival_codec(settings), moving(*size, count=2)
    shown = codec.decode(codec.encode(clip, -10), clip)
    assert shown.shape == clip.frames.shape
    assert error(shown, clip) < 60


@pytest.mark.parametrize("size", [(64, 80), (80, 64), (66, 80)])
def test_x265_writes_the_same_twice(size: tuple[int, int]) -> None:
    """With one coding tree unit in a column or row it does not, unless told to take smaller ones."""
    noise = np.random.default_rng(0).integers(0, 60, (6, *size, 3)).astype(np.uint8)
    clip, codec = Clip("noise", noise + moving(*size, count=6).frames // 2, Fraction(10)), rival_codec(X265Settings())
    assert len({codec.encode(clip, -26) for _ in range(12)}) == 1


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="only Linux tells")
@pytest.mark.parametrize("settings", CODECS, ids=lambda s: s.kind)
def test_no_encoder_keeps_a_priority_of_its_own(settings: Any) -> None:
    """As root, SVT-AV1 would leave the thread with a real-time one."""
    before = os.sched_getscheduler(0)
    rival_codec(settings).encode(moving(count=2), -30)
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize("settings", CODECS, ids=lambda s: s.kind)
def test_saturated_colours(settings: Any) -> None:
    """A wrong matrix or range moves some of these by 15 and more."""
    tiles = np.array(SATURATED, np.uint8).reshape(2, 4, 3).repeat(32, 0).repeat(32, 1)
    clip, codec = Clip("tiles", np.stack([tiles] * 3), Fraction(10)), rival_codec(settings)
    shown = codec.decode(codec.encode(clip, -4), clip)
    middles = shown[:, 16::32, 16::32].reshape(3, 8, 3).astype(int)
    assert np.abs(middles - np.array(SATURATED)).max() <= 5


@pytest.mark.parametrize("kind", [X264Settings, X265Settings, Vp9Settings])
def test_fine_colour(kind: Any) -> None:
    """4:4:4 keeps red and blue lines apart, which 4:2:0 mixes."""
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[:, ::2, :, 0] = frames[:, 1::2, :, 2] = 255
    clip = Clip("lines", frames, Fraction(10))
    errors = []
    for chroma in ("4:2:0", "4:4:4"):
        codec = rival_codec(kind(subsampling=chroma))
        errors.append(error(codec.decode(codec.encode(clip, -4), clip), clip))
        assert chroma in codec.description
    assert errors[1] < 0.1 * errors[0]


def test_only_x264_and_x265_leave_out_b_frames_as_asked() -> None:
    """Without B-frames pictures are decoded in the order in which they are shown."""
    clip = moving(count=12)
    for kind in (X264Settings, X265Settings):
        pictures = []
        for b_frames in (0, 3):
            codec = rival_codec(kind(b_frames=b_frames))
            decoder: Any = av.CodecContext.create("h264" if kind is X264Settings else "hevc", "r")
            decoder.thread_count = 1
            packets = codec.encode(clip, -30).packets
            shown = [f for data in packets for f in decoder.decode(av.Packet(data))] + decoder.decode(None)
            pictures.append({str(frame.pict_type) for frame in shown})
        assert len(pictures[0]) == 2  # I and P
        assert len(pictures[1]) == 3


def test_nothing_but_pictures_is_charged() -> None:
    """x264 writes its settings as a message, AV1 a delimiter before every picture: neither is in the stream."""
    clip = moving()
    x264 = b"".join(rival_codec(X264Settings()).encode(clip, -30).packets)
    assert b"x264" not in x264
    assert [unit[0] & 31 for unit in START.split(x264)[1:]] == [7, 8, 5, 1, 1, 1, 1]
    x265 = b"".join(rival_codec(X265Settings()).encode(clip, -30).packets)
    assert [unit[0] >> 1 & 63 for unit in START.split(x265)[1:]][:4] == [32, 33, 34, 20]
    assert all(packet[0] >> 3 & 15 != 2 for packet in rival_codec(CODECS[3]).encode(clip, -30).packets)


def test_units_are_taken_out() -> None:
    start = b"\0\0\0\1"
    assert without_avc_messages(start + b"\x67a" + start + b"\x06no" + b"\0\0\1" + b"\x65b") == (
        start + b"\x67a" + b"\0\0\1\x65b"
    )
    assert without_hevc_messages(start + b"\x4e\1no" + start + b"\x26\1b") == start + b"\x26\1b"
    assert without_av1_delimiters(b"\x12\0\x0a\1s\x32\2ab") == b"\x0a\1s\x32\2ab"
    for strip, data in (
        (without_avc_messages, b"abc"),
        (without_hevc_messages, b"\1\0\0\1"),
        (without_av1_delimiters, b"\x10\0"),
        (without_av1_delimiters, b"\x12"),
        (without_av1_delimiters, b"\x0a\5ab"),
    ):
        with pytest.raises(MediaError):
            strip(data)


def test_a_stream_cut_short_is_noticed() -> None:
    codec, clip = rival_codec(X264Settings()), moving()
    stream = codec.encode(clip, -30)
    assert stream.size == sum(map(len, stream.packets))
    with pytest.raises(MediaError, match="gave 3 frames of 5 back"):
        codec.decode(VideoStream(stream.packets[:3]), clip)


def test_an_encoder_this_build_lacks() -> None:
    way = rivals.Way("libnone", "h264", "yuv420p", {}, (51.0,), bytes)
    with pytest.raises(MissingDependencyError, match=r"H\.266 is left out: this build of PyAV has no libnone"):
        rivals.RivalCodec("h266", "H.266", "", way, 1)
