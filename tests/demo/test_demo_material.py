"""What the page takes of an upload, and what it says of what it does not take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bsq.data.pictures import open_picture
from bsq.demo.material import Bounds, Size, fit, middle, read_material
from bsq.errors import LimitError, MediaError

BOUNDS = Bounds()
RANDOM = np.random.default_rng(0)


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_a_photograph_comes_as_it_is(photo: Callable[[str], Path]) -> None:
    material = read_material(photo("chelsea"), Size.quick, BOUNDS)
    assert (material.name, material.size, material.is_clip, material.notes) == ("chelsea.png", (300, 451), False, ())
    assert (material.frames[0] == open_picture(photo("chelsea"))).all()


def test_a_large_one_is_scaled_down_and_says_so_unless_all_of_it_is_asked_for(photo: Callable[[str], Path]) -> None:
    bounds = replace(BOUNDS, quick=10_000)
    small = read_material(photo("chelsea"), Size.quick, bounds)
    assert small.size == (81, 122)
    assert small.notes == ("451×300 shown at 122×81 for a quick look; full size codes every pixel",)
    full = read_material(photo("chelsea"), Size.full, bounds)
    assert (full.size, full.notes) == ((300, 451), ())


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("words.png", b"I am no picture", "words.png is not a picture"),
        ("empty.jpg", b"", "empty.jpg is empty"),
        ("cut.png", None, "cut.png is damaged or truncated"),
    ],
)
def test_wrong_files_are_named(
    name: str, data: bytes | None, says: str, photo: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(photo("chelsea").read_bytes()[:5000] if data is None else data)
    with pytest.raises(MediaError, match=says) as caught:
        read_material(path, Size.quick, BOUNDS)
    assert str(tmp_path) not in str(caught.value)


def test_what_is_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("L", (3000, 3000)).save(path)
    with pytest.raises(LimitError, match=r"huge.png has 3000×3000"):
        read_material(path, Size.quick, replace(BOUNDS, pixels=1_000_000))
    with pytest.raises(MediaError, match="this page takes 100"):
        read_material(path, Size.quick, replace(BOUNDS, file=100))


def test_one_pixel_alpha_and_16_bits(tmp_path: Path) -> None:
    one = read_material(save(tmp_path / "one.png", np.full((1, 1, 3), 9, np.uint8)), Size.quick, BOUNDS)
    assert one.size == (1, 1)
    clear = np.zeros((8, 8, 4), np.uint8)
    assert read_material(save(tmp_path / "clear.png", clear), Size.quick, BOUNDS).frames[0].min() == 255
    deep = np.full((8, 8), 32896, np.uint16)
    assert read_material(save(tmp_path / "deep.png", deep), Size.quick, BOUNDS).frames[0].max() == 128


def test_a_clip_is_cut_to_its_first_frames_and_scaled(tmp_path: Path) -> None:
    frames = [Image.fromarray(RANDOM.integers(0, 256, (40, 60, 3), dtype=np.uint8)) for _ in range(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    pytest.importorskip("av")
    clip = read_material(tmp_path / "a.gif", Size.quick, replace(BOUNDS, frames=3, clip_pixels=600))
    assert (len(clip.frames), clip.size, clip.rate) == (3, (20, 30), Fraction(10))
    assert [note for note in clip.notes if "first 3 frames" in note]
    assert [note for note in clip.notes if "60×40 frames are scaled down to 30×20" in note]


def test_fitting_and_cutting_out_keep_the_shape() -> None:
    picture = RANDOM.integers(0, 256, (100, 400, 3), dtype=np.uint8)
    assert fit(picture, 40_000) is picture
    assert fit(picture, 10_000).shape == (50, 200, 3)
    assert middle(picture, 40_000) is picture
    assert (middle(picture, 10_000) == picture[25:75, 100:300]).all()
    assert fit(np.zeros((1, 5000, 3), np.uint8), 100).shape[0] == 1
