"""Every kind of video gives upright RGB frames and their times; everything else is an error in plain words."""

from __future__ import annotations

import io
import os
import struct
import threading
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clip_files import frame, number_of, video

import bsq.data.videos as videos
from bsq.data.videos import open_video
from bsq.errors import LimitError, MediaError, MissingDependencyError


def read(data: bytes) -> list[videos.Frame]:
    with open_video(data) as opened:
        return list(opened)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("avi", "ffv1"), ("matroska", "ffv1"), ("mpegts", "libx264")],
)
def test_frames_come_in_order_with_their_times(kind: str, codec: str) -> None:
    frames = read(video(kind=kind, codec=codec))
    assert [number_of(shown.pixels) for shown in frames] == list(range(12))
    assert [round(float(shown.time), 2) for shown in frames] == [n / 10 for n in range(12)]
    assert all(np.abs(shown.pixels.astype(int) - frame(n)).mean() < 4 for n, shown in enumerate(frames))


def test_what_is_known_beforehand() -> None:
    with open_video(video(rate=Fraction(30000, 1001), size=(31, 47))) as opened:
        assert (opened.height, opened.width, opened.frames) == (31, 47, 12)
        assert opened.rate == Fraction(30000, 1001)
        assert opened.duration == Fraction(12 * 1001, 30000)
        assert opened.notes == []


def test_variable_frame_rates_keep_their_times() -> None:
    times = [0, 1, 2, 10, 11, 30]
    frames = read(video(6, times=times, rate=100))
    assert [shown.time for shown in frames] == [Fraction(t, 100) for t in times]


def test_times_start_at_zero() -> None:
    assert read(video(3, times=[50, 51, 53], kind="mpegts"))[0].time == 0


# a, b, u, c, d, v of x' = ax + cy, y' = bx + dy
TURNS = {
    "none": [1, 0, 0, 0, 1, 0],
    "clockwise": [0, 1, 0, -1, 0, 0],
    "half": [-1, 0, 0, 0, -1, 0],
    "anticlockwise": [0, -1, 0, 1, 0, 0],
    "mirrored": [-1, 0, 0, 0, 1, 0],
}


@pytest.mark.parametrize("turn", TURNS)
def test_rotation_is_applied(turn: str) -> None:
    upright = {
        "none": frame(0),
        "clockwise": np.rot90(frame(0), -1),
        "half": np.rot90(frame(0), 2),
        "anticlockwise": np.rot90(frame(0)),
        "mirrored": frame(0)[:, ::-1],
    }[turn]
    with open_video(video(2, turn=TURNS[turn])) as opened:
        assert (opened.height, opened.width) == upright.shape[:2]
        shown = next(iter(opened)).pixels
    assert np.abs(shown.astype(int) - upright).mean() < 4


def coloured(luma: int, pixels: str, colorspace: int, color_range: int, size: tuple[int, int] = (16, 16)) -> np.ndarray:
    """The RGB of a video of one YUV colour, U 90 and V 160 of 255."""
    buffer = io.BytesIO()
    container = av.open(buffer, "w", format="matroska")
    stream = container.add_stream("ffv1", rate=5)
    stream.height, stream.width, stream.pix_fmt = *size, pixels
    stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, color_range
    raw = av.VideoFrame(size[1], size[0], pixels)
    deep = 4 if "10" in pixels else 1
    for plane, value in zip(raw.planes, (luma, 90, 160), strict=True):
        kind = np.uint16 if deep > 1 else np.uint8
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, value * deep, kind).tobytes())
    raw.colorspace, raw.color_range = colorspace, color_range
    container.mux(stream.encode(raw))
    container.mux(stream.encode(None))
    container.close()
    return read(buffer.getvalue())[0].pixels[4, 4].astype(int)


def by_formula(luma: int, red: float, blue: float, full: bool) -> np.ndarray:
    """BT.601 (K 0.299, 0.114) or BT.709 (0.2126, 0.0722), ITU-R BT.601-7 §2.5.2, BT.709-6 §3."""
    y, u, v = (luma, 90 - 128, 160 - 128) if full else ((luma - 16) * 255 / 219, -38 * 255 / 224, 32 * 255 / 224)
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return np.clip(np.rint([r, (y - red * r - blue * b) / (1 - red - blue), b]), 0, 255)


@pytest.mark.parametrize("pixels", ["yuv444p", "yuv420p", "yuv420p10le", "yuv444p10le"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("colorspace", [1, 6])
def test_colours_follow_the_matrix_range_and_depth_of_the_file(pixels: str, full: bool, colorspace: int) -> None:
    weights = (0.2126, 0.0722) if colorspace == 1 else (0.299, 0.114)
    seen = coloured(120, pixels, colorspace, 2 if full else 1)
    assert np.abs(seen - by_formula(120, *weights, full)).max() <= 2


def test_files_that_name_no_matrix() -> None:
    small, large = coloured(120, "yuv444p", 2, 0), coloured(120, "yuv444p", 2, 0, (720, 16))
    assert np.abs(small - by_formula(120, 0.299, 0.114, False)).max() <= 2
    assert np.abs(large - by_formula(120, 0.2126, 0.0722, False)).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 17)])
@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_odd_sizes(size: tuple[int, int], kind: str) -> None:
    codec, pixels = ("libx264", "yuv444p") if kind == "mp4" else ("gif", "rgb8")
    frames = read(video(3, size=size, kind=kind, codec=codec, pixels=pixels, options={}))
    assert [shown.pixels.shape for shown in frames] == [(*size, 3)] * 3


def test_sound_and_transparency_are_left_out_with_a_note() -> None:
    with open_video(video(sound=True)) as opened:
        assert len(list(opened)) == 12
        assert opened.notes == ["its sound is left out"]
    with open_video(video(kind="matroska", codec="ffv1", pixels="yuva444p")) as opened:
        assert next(iter(opened)).pixels.shape == (32, 48, 3)
        assert opened.notes == ["its transparency is left out"]


def test_damaged_packets_are_counted_and_the_rest_is_read() -> None:
    data = bytearray(video(40, options={"crf": "4", "g": "4"}))
    middle = (data.index(b"mdat") + data.index(b"moov")) // 2
    data[middle : middle + 300] = np.random.default_rng(0).bytes(300)
    with open_video(bytes(data)) as opened:
        frames = list(opened)
        assert opened.corrupt >= 1
        assert 25 <= len(frames) <= 40
        assert "damaged" in opened.notes[-1]


def test_a_file_cut_off_behind_its_index_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    from bsq.data.video_files import write_video

    with write_video(tmp_path / "whole.mp4", 10) as writer:
        for number in range(40):
            writer.write(np.random.default_rng(number).integers(0, 256, (32, 48, 3), np.uint8))
    data = (tmp_path / "whole.mp4").read_bytes()
    with open_video(data[: len(data) // 2]) as opened:
        count = len(list(opened))
        assert 5 < count < 35
        assert any("ends early" in note for note in opened.notes)


@pytest.mark.parametrize(
    ("kind", "codec", "pixels"), [("matroska", "libx264", "yuv444p"), ("webm", "libvpx-vp9", "yuv420p")]
)
def test_a_film_without_an_index_that_ends_early_is_said(kind: str, codec: str, pixels: str) -> None:
    data = video(60, (64, 96), kind=kind, codec=codec, pixels=pixels)
    for part, told in ((data, False), (data[: len(data) // 2], True)):
        with open_video(part) as opened:
            count = sum(1 for _ in opened)
            assert (0 < count < 60) == told
            assert any(note.startswith("ends early: ") and "of 6.00 s" in note for note in opened.notes) == told


def only_sound() -> bytes:
    buffer = io.BytesIO()
    container = av.open(buffer, "w", format="wav")
    stream = container.add_stream("pcm_s16le", rate=8000)
    silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
    silence.sample_rate = 8000
    container.mux(stream.encode(silence))
    container.close()
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty, 0 bytes"),
        (b"just some text, no video at all", "not a video"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not a video"),
        (b"#EXTM3U\n#EXTINF:10,\nsecret.ts\n", "not a video"),
        (video()[:700], "cut-off or damaged mp4"),
        (only_sound(), "only sound"),
    ],
)
def test_what_is_no_video(data: bytes, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        open_video(data)


def test_no_frame_that_can_be_decoded() -> None:
    data = bytearray(video(1))
    start = data.index(b"mdat") + 4
    stop = data.index(b"moov") - 4
    data[start:stop] = bytes(stop - start)
    with pytest.raises(MediaError, match="none of which can be decoded"):
        open_video(bytes(data))


def test_a_size_that_changes() -> None:
    parts = [video(3, size=size, kind="mpegts", codec="mpeg2video", pixels="yuv420p") for size in ((32, 48), (48, 64))]
    with (
        open_video(b"".join(parts)) as opened,
        pytest.raises(MediaError, match="changes its size from 48×32 to 64×48 at 0"),
    ):
        list(opened)


def test_frames_beyond_the_limit() -> None:
    with pytest.raises(LimitError, match="48×32"):
        open_video(video(2), limit=1000)
    data = bytearray(video(2, codec="ffv1", kind="avi"))
    where = data.index(b"strf") + 12
    data[where : where + 8] = struct.pack("<ii", 10000, 9000)
    with pytest.raises(LimitError, match="10000×9000"):
        open_video(bytes(data), limit=50_000_000)


def test_missing_files_folders_and_other_objects(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        open_video(tmp_path / "missing.mp4")
    with pytest.raises(MediaError, match="folder"):
        open_video(tmp_path)
    with pytest.raises(MediaError, match="int"):
        open_video(3)  # type: ignore[arg-type]


def test_a_pipe_is_read(tmp_path: Path) -> None:
    data = video()
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(data)

    threading.Thread(target=feed).start()
    with os.fdopen(reading, "rb") as source, open_video(source) as opened:
        assert len(list(opened)) == 12


def test_a_file_that_the_caller_opened_stays_open(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(video())
    with (tmp_path / "a.mp4").open("rb") as file:
        with open_video(file) as opened:
            assert len(list(opened)) == 12
        assert not file.closed


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    data = video(300, size=(64, 64), options={"crf": "40"})
    tracemalloc.start()
    with open_video(data) as opened:
        for shown in opened:
            assert shown.pixels.nbytes == 64 * 64 * 3
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(data) + 40 * 64 * 64 * 3


def test_what_is_on_the_screen_at_a_time() -> None:
    data = video(40, times=[2 * n for n in range(30)] + list(range(70, 80)), rate=20, options={"crf": "4", "g": "7"})

    def shown(*times: float) -> list[int]:
        with open_video(data) as opened:
            return [number_of(pixels) for pixels in opened.at([Fraction(time) for time in times])]

    assert shown(0, 0.05, 0.1, 0.12) == [0, 0, 1, 1]
    assert shown(2.0, 2.05) == [20, 20]  # a search, not a reading from the start
    assert shown(2.85, 3.4, 3.5, 3.95) == [28, 29, 30, 39]
    with pytest.raises(MediaError, match="ends at"):
        shown(3.9, 4.5)


@pytest.mark.parametrize(
    ("kind", "options"), [("mpegts", {"crf": "4"}), ("mpegts", {"crf": "4", "g": "7"}), ("h264", {"crf": "4"})]
)
def test_files_that_cannot_be_searched_show_the_same_at_a_time(kind: str, options: dict[str, str]) -> None:
    data = video(40, rate=25, kind=kind, options=options)
    for start in (0, 10, 30):
        with open_video(data) as opened:
            assert opened.length() == Fraction(40, 25)
            shown = opened.at([Fraction(start + n, 25) for n in range(4)])
            assert [number_of(pixels) for pixels in shown] == [start + n for n in range(4)]


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"bsq\[video\]"):
        open_video(b"")
