"""Positions of a run: the same pictures and crops, whatever reads them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bsq.data.dataset import Items, to_pixels
from bsq.data.loader import Batch, Data, DataSettings, Positions, Share, load_batches, open_dataset
from bsq.errors import DataError, SettingsError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    for number in range(7):
        Image.fromarray(np.full((24, 30, 3), 10 * number, np.uint8)).save(path / f"{number}.png")
    return path


def dataset(folder: Path, seed: int = 0, **changes: object) -> Data:
    return open_dataset(DataSettings.model_validate({"source": str(folder), "crop": 8, **changes}), seed)


def pictures(folder: Path, seed: int = 0) -> Items:
    items = dataset(folder, seed).pictures
    assert items is not None
    return items


def shades(batches: Iterable[Batch]) -> list[int]:
    return [int(pixels[0, 0, 0, 0]) for batch in batches for pixels in batch.stored]


def test_every_epoch_is_a_permutation_of_its_own(folder: Path) -> None:
    data = pictures(folder)
    epochs = [[data.number_at(position) for position in range(7 * e, 7 * e + 7)] for e in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] == [pictures(folder).number_at(position) for position in range(7)]
    assert epochs[0] != [pictures(folder, seed=1).number_at(position) for position in range(7)]


def test_a_position_has_one_crop(folder: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    data = dataset(tmp_path)
    assert torch.equal(data[3].pixels, dataset(tmp_path)[3].pixels)
    assert torch.equal(data[3].pixels, dataset(tmp_path, cache_gib=1.0)[3].pixels)
    assert not torch.equal(data[3].pixels, data[4].pixels)
    assert not torch.equal(data[3].pixels, dataset(tmp_path, seed=1)[3].pixels)


def test_corrupt_pictures_are_named_and_replaced_by_the_next(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "3.png").write_bytes(b"\x89PNG broken")
    data = dataset(tmp_path)
    order = pictures(tmp_path)
    samples = {order.number_at(position): (position, data[position]) for position in range(7)}
    position, stand_in = samples[3]
    assert [refused.name for refused in stand_in.unreadable] == [str(tmp_path / "3.png")]
    assert "not a picture" in stand_in.unreadable[0].reason
    assert int(stand_in.pixels[0, 0, 0, 0]) == 10 * order.number_at(position, 1)
    assert all(not sample.unreadable for number, (_, sample) in samples.items() if number != 3)
    assert [crops.shape for crops in data.central(7)] == [(6, 3, 1, 8, 8)]


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of 1"):
        dataset(tmp_path)[0]
    with pytest.raises(DataError):
        dataset(tmp_path).central(1)


def test_the_cache_is_bounded(folder: Path) -> None:
    data = pictures(folder)
    assert data.keep(2.5 * 24 * 30 * 3 / 2**30) == 2
    assert data.keep(1.0) == 7


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_nothing(folder: Path, workers: int) -> None:
    data = dataset(folder)
    share = Share(batch=4, micro=2)
    expected = [int(data[position].pixels[0, 0, 0, 0]) for position in range(8, 20)]
    assert shades(load_batches(data, share, 8, 22, workers)) == expected


def test_loading_leaves_the_random_numbers_of_training_alone(folder: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(load_batches(dataset(folder), Share(batch=2, micro=2), 0, 4, workers=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_share_a_batch() -> None:
    whole = list(Positions(Share(batch=8, micro=8), 16, 32))
    parts = [list(Positions(Share(8, 2, process, 2), 16, 32)) for process in range(2)]
    assert parts[0] == [[16, 17], [18, 19], [24, 25], [26, 27]]
    assert len(Positions(Share(8, 2, 0, 2), 16, 32)) == 4
    for step, batch in enumerate(whole):
        assert batch == [p for part in parts for micro in part[2 * step : 2 * step + 2] for p in micro]


@pytest.mark.parametrize("share", [(8, 3, 0, 1), (9, 1, 0, 2)])
def test_batches_that_cannot_be_shared(share: tuple[int, int, int, int]) -> None:
    with pytest.raises(SettingsError, match="cannot be shared"):
        Share(*share)


def test_pixels_span_minus_one_to_one() -> None:
    assert to_pixels(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
