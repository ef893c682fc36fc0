"""Videos are written whole or not at all, with their size and rate, and read back as they were."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clip_files import frame, number_of
from PIL import Image

from bsq.data.files import Existing
from bsq.data.video_files import write_video
from bsq.data.videos import open_video
from bsq.errors import MediaError, SettingsError, ShapeError


def write_all(path: Path, frames: Iterable[np.ndarray], rate: Fraction | int = 10) -> Path:
    with write_video(path, rate) as video:
        for picture in frames:
            video.write(picture)
    return path


def interrupted() -> Iterator[np.ndarray]:
    yield frame(0)
    raise KeyboardInterrupt


def write(path: Path, count: int = 6, size: tuple[int, int] = (32, 48), rate: Fraction | int = 10) -> Path:
    return write_all(path, (frame(number, *size) for number in range(count)), rate)


@pytest.mark.parametrize("suffix", ["mp4", "webm", "gif"])
@pytest.mark.parametrize("size", [(32, 48), (31, 47), (1, 1)])
def test_frames_come_back(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    with open_video(write(tmp_path / f"clip.{suffix}", size=size)) as video:
        frames = list(video)
    assert size == (1, 1) or [number_of(shown.pixels) for shown in frames] == list(range(6))
    assert [round(float(shown.time), 2) for shown in frames] == [n / 10 for n in range(6)]
    assert all(np.abs(shown.pixels.astype(int) - frame(n, *size)).mean() < 5 for n, shown in enumerate(frames))


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25, 2), Fraction(1), Fraction(120)])
def test_the_rate_is_kept(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    with open_video(write(tmp_path / f"clip.{suffix}", rate=rate)) as video:
        assert video.rate == rate
        last = list(video)[-1]
    assert abs(last.time - 5 / rate) <= Fraction(1, 1000)  # WebM counts milliseconds


def test_usual_players_open_even_sizes(tmp_path: Path) -> None:
    with av.open(str(write(tmp_path / "a.mp4"))) as even, av.open(str(write(tmp_path / "b.mp4", size=(31, 48)))) as odd:
        assert even.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert odd.streams.video[0].codec_context.pix_fmt == "yuv444p"
        assert even.streams.video[0].codec_context.colorspace == 1
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays while it is still being fetched


def test_a_folder_keeps_every_value(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8)
    write_all(tmp_path / "frames", noise, Fraction(30000, 1001))
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [
        "000000.png",
        "000001.png",
        "000002.png",
        "frames.json",
    ]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "frames" / "000002.png")), noise[2])
    assert json.loads((tmp_path / "frames" / "frames.json").read_text()) == {"rate": "30000/1001", "frames": 3}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "frames"])
def test_an_interrupt_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path / name, interrupted())
    with pytest.raises(MediaError, match="no frames"), write_video(tmp_path / name, 10):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["clip.mp4", "frames"])
def test_what_exists_is_replaced_only_when_asked(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    with pytest.raises(MediaError, match="exists already"):
        write(path)
    with write_video(path, 10, Existing.REPLACE) as video:
        video.write(frame(3))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with (
        pytest.raises(MediaError, match=r"a\.txt"),
        write_video(tmp_path / "letters", 10, Existing.REPLACE) as video,
    ):
        video.write(frame(0))
    assert [path.name for path in tmp_path.rglob("*")] == ["letters", "a.txt"]


def test_bad_frames_rates_and_names(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="one size"):
        write_all(tmp_path / "a.mp4", [frame(0), frame(0, 48, 32)])
    with pytest.raises(ShapeError):
        write_all(tmp_path / "a.mp4", [np.zeros((4, 4, 3), np.float32)])
    for suffix, rate in ((".mp4", 0), (".gif", 101)):
        with pytest.raises(SettingsError, match="frame rate"):
            write_video(tmp_path / f"a{suffix}", rate)
    with pytest.raises(MediaError, match="known: mp4"):
        write_video(tmp_path / "a.mkv", 10)
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="not a folder"):
        write_video(tmp_path / "file" / "a.mp4", 10)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_rate_that_the_format_cannot_hold(tmp_path: Path) -> None:
    def write() -> None:
        with write_video(tmp_path / "slow.mp4", Fraction(1, 100_000)) as film:
            for number in range(5):
                film.write(frame(number))

    with pytest.raises(MediaError, match="cannot write"):
        write()
    assert not list(tmp_path.iterdir())
