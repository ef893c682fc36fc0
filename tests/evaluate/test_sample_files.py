"""`.npz` files of samples: numpy reads what is written, and the other way round; damage is told."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bsq.data.files import Existing
from bsq.data.stored import Kind
from bsq.errors import DataError, EvaluationError, MediaError, ShapeError
from bsq.evaluate.data import open_samples
from bsq.evaluate.npz import SampleFile, has_moments, read_header, write_samples
from bsq.evaluate.protocols import Protocol

SAMPLES = np.random.default_rng(0).integers(0, 256, (5, 12, 10, 3), np.uint8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_wrote_is_read_in_any_order(tmp_path: Path, save: object) -> None:
    save(tmp_path / "x.npz", SAMPLES, np.arange(5))  # type: ignore[operator]
    file = SampleFile(tmp_path / "x.npz")
    assert (len(file), file.height, file.width) == (5, 12, 10)
    for number in (0, 1, 4, 2, 2, 0):
        assert np.array_equal(file.read(number), SAMPLES[number])
    again = pickle.loads(pickle.dumps(file))  # as another process gets it
    assert np.array_equal(again.read(3), SAMPLES[3])


def test_what_is_written_numpy_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_samples(path, iter(SAMPLES), 5, {"mu": np.arange(3.0), "sigma": np.eye(3)}, labels=[3, 1, 4, 1, 5])
    with np.load(path, allow_pickle=False) as found:
        assert np.array_equal(found["arr_0"], SAMPLES)
        assert found["arr_1"].tolist() == [3, 1, 4, 1, 5]
        assert np.array_equal(found["sigma"], np.eye(3))
    assert has_moments(path)
    assert np.array_equal(SampleFile(path).read(4), SAMPLES[4])
    with pytest.raises(MediaError, match="exists already"):
        write_samples(path, iter(SAMPLES), 5)
    write_samples(path, iter(SAMPLES[:1]), 1, existing=Existing.REPLACE)
    assert len(SampleFile(path)) == 1


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    mixed = [SAMPLES[0], SAMPLES[1][:8]]
    for pictures, count, words in (
        (mixed, 2, "10×8 after 10×12"),
        (SAMPLES, 6, "5 pictures were given, 6 announced"),
        (SAMPLES, 4, "5 pictures were given, 4 announced"),
    ):
        with pytest.raises(ShapeError, match=words):
            write_samples(tmp_path / "x.npz", iter(pictures), count)
    with pytest.raises(DataError, match="no pictures to write"):
        write_samples(tmp_path / "x.npz", iter(()), 0)
    with pytest.raises(ShapeError, match="5 pictures and 1 labels"):
        write_samples(tmp_path / "x.npz", iter(SAMPLES), 5, labels=[1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"arr_0": SAMPLES.astype(np.float32)}, "must be uint8"),
        ({"arr_0": SAMPLES[..., :1]}, "must be uint8"),
        ({"arr_0": SAMPLES[:0]}, "none of them 0"),
        ({"mu": np.zeros(3)}, "holds no samples"),
        ({"arr_0": np.array([{}, {}], object)}, "holds objects"),
        ({"arr_0": np.asfortranarray(SAMPLES)}, "columns first"),
    ],
)
def test_what_are_no_samples(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays, allow_pickle=True)
    with pytest.raises(DataError, match=words):
        SampleFile(tmp_path / "x.npz")


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        SampleFile(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        read_header(tmp_path / "x.npz", "arr_0")
    many = np.concatenate([SAMPLES] * 20)
    write_samples(tmp_path / "y.npz", iter(many), 100)
    with zipfile.ZipFile(tmp_path / "y.npz") as archive:
        start = archive.getinfo("arr_0.npy").header_offset
    data = bytearray((tmp_path / "y.npz").read_bytes())
    data[start + 30_000] ^= 1
    (tmp_path / "y.npz").write_bytes(data)
    with pytest.raises(EvaluationError, match="nobody knows at which of its 100 samples"):
        SampleFile(tmp_path / "y.npz").read(99)
    np.savez_compressed(tmp_path / "z.npz", arr_0=np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3), np.uint8))
    data = bytearray((tmp_path / "z.npz").read_bytes())
    data[40_000:40_200] = bytes(200)
    (tmp_path / "z.npz").write_bytes(data)
    with pytest.raises((DataError, EvaluationError), match="damaged"):
        SampleFile(tmp_path / "z.npz").read(8)


def test_samples_go_through_the_protocol(tmp_path: Path) -> None:
    write_samples(tmp_path / "x.npz", iter(SAMPLES), 5)
    samples = open_samples((str(tmp_path / "x.npz"),), Kind.PICTURES, Protocol(crop=8), first=3)
    assert len(samples) == 3
    assert samples.name(2) == "x.npz[2]"
    assert np.array_equal(samples.read(1), SAMPLES[1:2, 2:10, 1:9])
    with pytest.raises(DataError, match="given alone"):
        open_samples((str(tmp_path / "x.npz"), "photos"), Kind.PICTURES, Protocol())
    with pytest.raises(DataError, match="only be read in order"):
        open_samples(("pipe:cat x.tar",), Kind.PICTURES, Protocol())
