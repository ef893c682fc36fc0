"""Random crops: sizes, ranges, and which settings change what."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bsq.data.transforms import CropSettings, Recolour, central_crop, random_crop


def picture(height: int, width: int) -> np.ndarray:
    """Red tells the row, green the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], -1).astype(np.uint8)


def cut(settings: CropSettings, source: np.ndarray, seed: int = 0) -> np.ndarray:
    return random_crop(source, settings, np.random.default_rng(seed))


@pytest.mark.parametrize("size", [(16, 16), (16, 40), (40, 16), (5, 9), (1, 1), (200, 100)])
@pytest.mark.parametrize("settings", [{}, {"zoom": (0.5, 3)}, {"short_side": 32}, {"flip": 1.0, "short_side": 8}])
def test_any_size_gives_a_crop(size: tuple[int, int], settings: dict[str, object]) -> None:
    for seed in range(5):
        crop = cut(CropSettings.model_validate({"crop": 16, **settings}), picture(*size), seed)
        assert crop.shape == (16, 16, 3)
        assert crop.dtype == np.uint8
        assert crop.flags.c_contiguous


def test_without_scaling_a_crop_is_a_piece_of_the_picture() -> None:
    source = picture(60, 80)
    corners = set()
    for seed in range(200):
        crop = cut(CropSettings(crop=16), source, seed)
        top, left = int(crop[0, 0, 0]), int(crop[0, 0, 1])
        assert np.array_equal(crop, source[top : top + 16, left : left + 16])
        corners.add((top, left))
    tops, lefts = zip(*corners, strict=True)
    assert (min(tops), min(lefts)) <= (2, 3)
    assert max(tops) > 40
    assert max(lefts) > 58


def test_zoom_and_short_side_widen_the_cut() -> None:
    def reach(settings: CropSettings) -> int:
        crop = cut(settings, picture(100, 100)).astype(int)
        return crop[-1, 0, 0] - crop[0, 0, 0]

    assert reach(CropSettings(crop=16)) == 15
    assert 28 <= reach(CropSettings(crop=16, zoom=(2, 2))) <= 31
    assert 28 <= reach(CropSettings(crop=16, short_side=50)) <= 31
    assert 92 <= reach(CropSettings(crop=16, zoom=(50, 50))) <= 99


def test_flip_mirrors_the_same_cut() -> None:
    plain, mirrored = (cut(CropSettings(crop=16, flip=flip), picture(60, 60)) for flip in (0.0, 1.0))
    assert np.array_equal(plain, mirrored[:, ::-1])
    seen = {bool(cut(CropSettings(crop=16, flip=0.5), picture(60, 60), s)[0, 0, 1] < 16) for s in range(40)}
    assert seen == {True, False}


def test_the_centre() -> None:
    crop = central_crop(picture(60, 80), CropSettings(crop=16, flip=1.0, zoom=(2, 3)))
    assert np.array_equal(crop, picture(60, 80)[22:38, 32:48])


def test_grey_leaves_the_colour_out_of_the_same_cut() -> None:
    source = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    plain, grey = (cut(CropSettings(crop=16, grey=share), source) for share in (0.0, 1.0))
    luma = plain @ [0.299, 0.587, 0.114]
    assert np.abs(grey - luma[..., None]).max() <= 0.51
    seen = {bool(np.ptp(cut(CropSettings(crop=16, grey=0.5), source, seed), axis=2).any()) for seed in range(40)}
    assert seen == {True, False}


def test_recolouring_changes_the_colours_of_the_same_cut() -> None:
    source = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    plain, other = (cut(CropSettings(crop=16, recolour=share), source, seed=3) for share in (0.0, 1.0))
    drawn = np.random.default_rng(3)
    drawn.random(6)  # where the cut lies, and whether it is recoloured
    assert np.array_equal(other, Recolour.drawn(drawn).apply(plain))
    assert not np.array_equal(other, plain)
    cuts = [cut(CropSettings(crop=16, recolour=0.5), source, seed) for seed in range(40)]
    same = [np.array_equal(one, cut(CropSettings(crop=16), source, seed)) for seed, one in enumerate(cuts)]
    assert 10 < sum(same) < 30


def test_hue_saturation_contrast_and_shift_mean_what_they_say() -> None:
    red = np.full((4, 4, 3), (150, 100, 100), np.uint8)
    assert np.abs(Recolour(0, 1, 1, 0).apply(red).astype(int) - red).max() <= 1
    turned = Recolour(math.pi, 1, 1, 0).apply(red).astype(float)[0, 0]
    assert turned[0] < turned[1] < 140, "its complement"
    for changed in (turned, Recolour(1, 2, 1, 0).apply(red).astype(float)[0, 0]):
        assert abs((changed - red[0, 0]) @ (0.299, 0.587, 0.114)) < 1, "luma stays"
    assert np.ptp(Recolour(0, 0, 1, 0).apply(red)) == 0
    strong = Recolour(0, 2, 1, 0).apply(red)[0, 0].astype(int)
    assert abs(strong[0] - strong[1] - 100) <= 2
    grey = np.arange(64, 192, dtype=np.uint8).reshape(8, 16, 1).repeat(3, 2)
    assert np.ptp(Recolour(2, 3, 1.5, -10).apply(grey), axis=2).max() == 0, "greys stay grey"
    assert Recolour(0, 1, 0.5, 10).apply(grey)[-1, -1, 0] == round((191 - 127.5) * 0.5 + 137.5)
    clipped = Recolour(0, 3, 1.5, 64).apply(np.full((1, 1, 3), (255, 0, 255), np.uint8))
    assert clipped.tolist() == [[[255, 0, 255]]]
