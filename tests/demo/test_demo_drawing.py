"""What is drawn of codes: planes, a map of costs, clips side by side."""

from __future__ import annotations

import numpy as np

from bsq.demo.drawing import (
    HEAT,
    INK,
    LIGHT,
    PLANES_WIDTH,
    draw_costs,
    draw_planes,
    heat,
    magnified,
    side_by_side,
    squared,
)

RANDOM = np.random.default_rng(0)


def test_planes_show_each_digit_and_fade_those_left_out() -> None:
    digits = np.zeros((4, 6, 12), np.uint8)
    digits[1, 2, 0] = digits[1, 2, 11] = 1
    sheet = draw_planes(digits, kept=11)
    scale = PLANES_WIDTH // (9 * (6 + 4))
    assert sheet.shape == (2 * (4 * scale + 4) - 4, 9 * (6 * scale + 4) - 4, 3)
    row, column = int(1.5 * scale), int(2.5 * scale)
    assert tuple(sheet[row, column]) == INK
    assert tuple(sheet[0, 0]) == LIGHT
    below, right = 4 * scale + 4, 2 * (6 * scale + 4)
    assert sheet[below + row, right + column].min() > 200, "the twelfth digit is left out"
    assert tuple(sheet[-1, -1]) == (255, 255, 255)


def test_planes_of_a_huge_grid_stay_small() -> None:
    assert draw_planes(np.zeros((900, 1200, 3), np.uint8), 3).shape[1] < 2200


def test_a_map_runs_from_the_cheapest_token_to_the_dearest() -> None:
    costs = np.array([[1.0, 2.0], [3.0, 9.0]])
    shown = draw_costs(costs, 8, (16, 13))
    assert shown.shape == (16, 13, 3)
    assert tuple(shown[0, 0]) == HEAT[0]
    assert tuple(shown[15, 12]) == HEAT[-1]
    assert (draw_costs(np.ones((2, 2)), 8, (16, 16)) == HEAT[0]).all()


def test_heat_grows_lighter() -> None:
    shades = heat(np.linspace(0, 1, 32)).astype(float) @ [0.3, 0.6, 0.1]
    assert (np.diff(shades) > 0).all()


def test_clips_side_by_side_have_even_sizes() -> None:
    left, right = ([RANDOM.integers(0, 256, (9, 7, 3), dtype=np.uint8)] for _ in range(2))
    (frame,) = side_by_side(left, right)
    assert frame.shape == (10, 18, 3)
    assert (frame[:9, :7] == left[0]).all()
    assert (frame[:9, 11:18] == right[0]).all()


def test_small_pictures_are_magnified_and_squared_ones_keep_their_middle() -> None:
    assert magnified(np.zeros((1, 1, 3), np.uint8), 256).shape == (256, 256, 3)
    assert magnified(np.zeros((300, 10, 3), np.uint8), 256).shape == (300, 10, 3)
    picture = np.zeros((40, 100, 3), np.uint8)
    picture[:, 30:70] = 200
    assert (squared(picture, 20, 20) == 200).all()
