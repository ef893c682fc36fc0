"""Random crops: sizes, ranges, and which settings change what."""

from __future__ import annotations

import numpy as np
import pytest

from bsq.data.transforms import CropSettings, central_crop, random_crop


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
