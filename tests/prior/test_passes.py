"""Orders of decoding: every token once, coarse to fine, any size."""

from __future__ import annotations

import numpy as np
import pytest

from bsq.errors import SettingsError
from bsq.prior.base import Grid
from bsq.prior.passes import quincunx_map, quincunx_passes, raster_map, split_passes

SIZES = [(1, 1), (1, 2), (2, 1), (1, 17), (3, 3), (16, 16), (64, 96), (33, 7)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("passes", [1, 2, 6, 12])
def test_every_token_is_in_one_pass(height: int, width: int, passes: int) -> None:
    parts = quincunx_passes(Grid(2, height, width), passes)
    assert 1 <= len(parts) <= passes
    assert all(len(part) for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(2 * height * width))


def test_last_pass_lies_between_known_tokens() -> None:
    order = quincunx_map(8, 8, 6)
    rows, columns = np.indices(order.shape)
    assert np.array_equal(order == 5, (rows + columns) % 2 == 1)
    assert np.array_equal(order == 4, (rows % 2 == 1) & (columns % 2 == 1))
    assert [int((order == p).sum()) for p in range(6)] == [2, 2, 4, 8, 16, 32]


def test_frames_share_one_order() -> None:
    one, two = quincunx_passes(Grid(1, 4, 6), 4), quincunx_passes(Grid(2, 4, 6), 4)
    for single, double in zip(one, two, strict=True):
        assert np.array_equal(double, np.concatenate([single, single + 24]))


def test_raster_is_one_token_a_pass() -> None:
    parts = split_passes(Grid(1, 3, 4), raster_map(3, 4))
    assert [part.tolist() for part in parts] == [[i] for i in range(12)]


@pytest.mark.parametrize("passes", [0, 13])
def test_number_of_passes_is_checked(passes: int) -> None:
    with pytest.raises(SettingsError, match="1 to 12 passes"):
        quincunx_map(4, 4, passes)
