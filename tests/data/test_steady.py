"""Videos at a constant rate: every frame where the rate is constant, the duration kept where it varies."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from clip_files import number_of, video
from PIL import Image

from bsq.data.kinds import is_video
from bsq.data.pictures import encode_picture
from bsq.data.steady import LONGEST_HOLD, SteadyFrames
from bsq.data.videos import Frame, open_video


@dataclass
class Times:
    """Frames whose only pixel is their number."""

    times: list[float]
    rate: Fraction | None = Fraction(10)
    last: Fraction | None = None
    duration: Fraction | None = None
    frames: int = 0
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Frame]:
        for number, time in enumerate(self.times):
            yield Frame(np.full((1, 1, 3), number, np.uint8), Fraction(time), self.last)


@pytest.mark.parametrize(
    ("times", "shown", "held", "dropped"),
    [
        ([0, 0.1, 0.2, 0.3], [0, 1, 2, 3], 0, 0),
        ([0, 0.104, 0.196, 0.3], [0, 1, 2, 3], 0, 0),  # milliseconds, as in Matroska
        ([0, 0.3, 0.4], [0, 0, 0, 1, 2], 2, 0),
        ([0, 0.01, 0.02, 0.1, 0.13], [2, 4], 0, 3),
        ([0], [0], 0, 0),
        ([0, 1e6, 1e6 + 0.1], [0, 1, 2], 0, 0),
    ],
)
def test_each_frame_takes_the_nearest_place(times: list[float], shown: list[int], held: int, dropped: int) -> None:
    frames = SteadyFrames(Times(times))  # type: ignore[arg-type]
    assert [int(pixels[0, 0, 0]) for pixels in frames] == shown
    assert (frames.count, frames.held, frames.dropped) == (len(shown), held, dropped)
    notes = list(frames.notes())
    assert any("constant 10 frames" in note for note in notes) == bool(held or dropped)
    assert any("jump" in note for note in notes) == (times[-1] > LONGEST_HOLD)


def test_the_last_frame_stays_as_long_as_it_says() -> None:
    frames = SteadyFrames(Times([0, 0.1], last=Fraction(1, 2)))  # type: ignore[arg-type]
    assert len(list(frames)) == 6
    endless = SteadyFrames(Times([0], last=Fraction(10**9)))  # type: ignore[arg-type]
    assert sum(1 for _ in endless) == 1 + 10 * LONGEST_HOLD


def test_a_thinned_film_is_not_longer_than_before() -> None:
    film = Times([n / 30 for n in range(30)], rate=Fraction(30), last=Fraction(1, 30))
    frames = SteadyFrames(film, Fraction(10))  # type: ignore[arg-type]
    assert len(list(frames)) == 10
    assert (frames.count, frames.dropped) == (10, 20)
    alone = Times([0, 0.001], last=Fraction(1, 1000))
    assert len(list(SteadyFrames(alone))) == 1  # type: ignore[arg-type]


def test_a_video_that_names_no_rate() -> None:
    frames = SteadyFrames(Times([0, 0.04], rate=None))  # type: ignore[arg-type]
    assert (len(list(frames)), frames.rate) == (2, 25)
    assert "names no frame rate" in next(frames.notes())
    assert SteadyFrames(Times([0], rate=None), Fraction(5)).rate == 5  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25), Fraction(12)])
@pytest.mark.parametrize(("kind", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("matroska", "libx264")])
def test_files_of_a_constant_rate_keep_every_frame(kind: str, codec: str, rate: Fraction) -> None:
    with open_video(video(20, rate=rate, kind=kind, codec=codec)) as opened:
        frames = SteadyFrames(opened)
        assert [number_of(pixels) for pixels in frames] == list(range(20))
        assert list(frames.notes()) == []
        assert frames.expected in (20, 21)


def test_kinds_are_told_by_bytes(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    still, moving = io.BytesIO(), io.BytesIO()
    pictures[0].save(still, "GIF")
    pictures[0].save(moving, "GIF", save_all=True, append_images=pictures[1:])
    grey = np.zeros((8, 8, 3), np.uint8)
    cases = {
        "a.png": (video(2), True),
        "b": (video(2, kind="webm", codec="libvpx-vp9"), True),
        "c": (video(2, kind="avi"), True),
        "d": (video(2, kind="mpegts"), True),
        "d2": (video(2, kind="h264"), True),
        "e.mp4": (encode_picture(grey, ".png"), False),
        "f.mp4": (encode_picture(grey, ".webp"), False),
        "g.mp4": (encode_picture(grey, ".avif"), False),
        "h": (still.getvalue(), False),
        "i": (moving.getvalue(), True),
        "j": (moving.getvalue()[:9], False),
        "k.mp4": (b"", True),
        "l.txt": (b"text", False),
    }
    for name, (data, expected) in cases.items():
        file = io.BytesIO(data)
        assert is_video(file, name) == expected, name
        assert file.tell() == 0
