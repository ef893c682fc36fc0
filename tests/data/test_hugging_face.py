"""Data sets of the library `datasets`, made here: stored and streamed, pictures and videos."""

from __future__ import annotations

from pathlib import Path

import pytest
from shades import png

from bsq.data.hub import HuggingFaceSettings, Rows, open_rows
from bsq.data.loader import Data, DataSettings, Share, load_batches, open_dataset
from bsq.errors import DataError, MissingDependencyError

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """parquet/: a file for `load_dataset`; disk/: what `save_to_disk` writes; pictures/: an image folder."""
    path = tmp_path_factory.mktemp("hub")
    cells = [{"bytes": png(10 * n), "path": None} for n in range(6)]
    table = datasets.Dataset.from_dict(
        {"photo": cells, "raw": [png(10 * n) for n in range(6)], "label": list(range(6))}
    ).cast_column("photo", datasets.Image())
    (path / "parquet").mkdir()
    table.to_parquet(str(path / "parquet" / "train.parquet"))
    table.save_to_disk(str(path / "disk"))
    (path / "pictures" / "train").mkdir(parents=True)
    for n in range(6):
        (path / "pictures" / "train" / f"{n}.png").write_bytes(png(10 * n))
    return path


@pytest.fixture(autouse=True)
def caches_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def opened(path: Path, column: str, **changes: object) -> Data:
    source = {"kind": "hugging_face", "path": str(path), "column": column, **changes}
    return open_dataset(DataSettings.model_validate({"source": source, "crop": 8, "shuffle": 3}), 0)


def shades(data: Data, first: int, last: int, workers: int = 0) -> list[int]:
    batches = load_batches(data, Share(batch=3, micro=3), first, last, workers)
    return [int(pixels[0, 0, 0, 0]) for batch in batches for pixels in batch.stored]


@pytest.mark.parametrize(
    ("name", "column"), [("parquet", "photo"), ("parquet", "raw"), ("disk", "photo"), ("pictures", "image")]
)
@pytest.mark.parametrize("streaming", [False, True])
def test_every_picture_once_an_epoch_and_resumed_anywhere(
    folder: Path, name: str, column: str, streaming: bool
) -> None:
    data = opened(folder / name, column, streaming=streaming)
    seen = shades(data, 0, 18)
    assert [sorted(seen[start : start + 6]) for start in (0, 6, 12)] == [[0, 10, 20, 30, 40, 50]] * 3
    assert seen[:6] != seen[6:12]
    assert shades(opened(folder / name, column, streaming=streaming), 9, 18) == seen[9:]


def test_workers_change_nothing(folder: Path) -> None:
    assert shades(opened(folder / "disk", "photo"), 0, 12, 1) == shades(opened(folder / "disk", "photo"), 0, 12)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot open the data set"):
        opened(tmp_path / "nothing", "image")
    with pytest.raises(DataError, match="cannot open the data set"):
        opened(folder / "parquet", "photo", split="test")
    with pytest.raises(DataError, match="there are photo, raw, label"):
        opened(folder / "parquet", "image")
    with pytest.raises(DataError, match="no pictures or videos in a column 'label'; it is Value"):
        opened(folder / "parquet", "label")


def test_empty_cells_are_named_and_replaced() -> None:
    rows = Rows([{"a": None}, {"a": {"bytes": png(10), "path": None}}], "a", "made/train")
    assert rows[1].read() == png(10)
    with pytest.raises(DataError, match=r"made/train\[0\] is empty"):
        rows[0].read()
    assert [row.name for row in rows[:]] == ["made/train[0]", "made/train[1]"]


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"bsq\[hub\]"):
        open_rows(HuggingFaceSettings(path="x"))
