"""The plan: every input in exactly one shard, in an order that only the sources decide."""

from __future__ import annotations

from pathlib import Path

import pytest
from bulk_runs import png, run, settings_of, write_folder, write_parquet, write_tar
from hypothesis import given
from hypothesis import strategies as st

from bsq.bulk.listing import File, expand_range, list_units
from bsq.bulk.pieces import PIECES, ContainerPiece, FilesPiece, ParquetPiece, TarPiece, count_of
from bsq.bulk.plan import shards_of
from bsq.data.storage import open_store
from bsq.errors import DataError, SettingsError
from bsq.tokenizer import Tokenizer

FILES = st.builds(File, st.sampled_from(["a", "b"]), st.just(""), st.integers(0, 9))
CONTAINERS = st.builds(
    TarPiece, address=st.just("x.tar"), key=st.just("x.tar"), size=st.just(1), count=st.none() | st.integers(0, 30)
)


@given(st.lists(FILES | CONTAINERS, max_size=30), st.integers(1, 9))
def test_shards_hold_each_input_once_and_in_order(units: list[File | ContainerPiece], size: int) -> None:
    units = [
        File(unit.root, str(number), unit.size)
        if isinstance(unit, File)
        else unit.model_copy(update={"address": str(number)})
        for number, unit in enumerate(units)
    ]
    wanted: list[tuple[str, int]] = []
    for unit in units:
        if isinstance(unit, File):
            wanted.append((unit.name, 0))
        else:
            wanted += [(unit.address, row) for row in range(-1 if unit.count is None else 0, unit.count or 0)]
    shards = list(shards_of(units, size))
    found: list[tuple[str, int]] = []
    for pieces in shards:
        assert PIECES.validate_json(PIECES.dump_json(pieces)) == pieces
        count = count_of(pieces)
        assert len(pieces) == 1 if count is None else 1 <= count <= size
        for piece in pieces:
            if isinstance(piece, FilesPiece):
                found += [(name, 0) for name, _ in piece.files]
            elif piece.count is None:
                found.append((piece.address, -1))
            else:
                found += [(piece.address, row) for row in range(piece.first, piece.first + piece.count)]
    assert found == wanted


def test_only_the_last_shard_before_an_uncounted_input_is_short() -> None:
    uncounted = TarPiece(address="x.tgz", key="x.tgz", size=1)
    units = [*(File("a", str(n), 1) for n in range(7)), uncounted, *(File("a", str(n), 1) for n in range(4))]
    assert [count_of(pieces) for pieces in shards_of(units, 3)] == [3, 3, 1, None, 3, 1]


def test_listing_finds_all_kinds_sorted(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", 3)
    write_tar(tmp_path / "in" / "b.tar", range(2))
    write_parquet(tmp_path / "in" / "a.parquet", range(5))
    (tmp_path / "in" / ".hidden.png").write_bytes(png(0))
    (tmp_path / "in" / "notes.doc").write_text("no picture")
    units = list(list_units([str(tmp_path / "in")], settings_of()))
    assert [unit.key if isinstance(unit, ContainerPiece) else unit.name for unit in units] == [
        "a.parquet",
        "b.tar",
        "even/00000.png",
        "even/00002.png",
        "odd/00001.png",
    ]
    assert isinstance(units[0], ParquetPiece)
    assert [unit.count for unit in units[:2] if isinstance(unit, ContainerPiece)] == [5, 2]


def test_globs_ranges_and_lists(tmp_path: Path) -> None:
    write_folder(tmp_path, 4)
    assert list(expand_range("a-{08..10}.tar")) == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert len(list(expand_range("{0..2}/{00..03}"))) == 12

    def names(source: str) -> list[str]:
        units = list_units([str(tmp_path / source)], settings_of())
        return [Path(unit.address).name for unit in units]

    assert names("even/*.png") == names("**/*[02].png") == ["00000.png", "00002.png"]
    assert names("odd/0000{1..3..}.png"[:4] + "0000[13].png") == ["00001.png", "00003.png"]
    listed = [str(tmp_path / "odd/00003.png"), "# a remark", "", str(tmp_path / "gone.png")]
    (tmp_path / "some.txt").write_text("\n".join(listed))
    assert names("some.txt") == ["00003.png", "gone.png"]


@pytest.mark.parametrize(
    ("source", "words"),
    [("nowhere", "no file or folder"), ("empty", "holds no pictures"), ("*.tif", "no file or folder")],
)
def test_sources_that_hold_nothing(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=words):
        list(list_units([str(tmp_path / source)], settings_of()))


def test_a_column_that_is_not_there_is_refused_before_any_work(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", range(2))
    with pytest.raises(DataError, match="no column 'pixels', but image, class"):
        list(list_units([str(path)], settings_of(column="pixels")))
    with pytest.raises(DataError, match="no column 'name'"):
        list(list_units([str(path)], settings_of(label="name")))


def test_a_folder_of_another_plan_is_refused(tmp_path: Path, tiny_tokenizer: Tokenizer, other_tokenizer) -> None:
    source, place = write_folder(tmp_path / "in", 6), tmp_path / "out"
    run(source, place, tiny_tokenizer)
    before = open_store(str(place)).read("plan.json")
    with pytest.raises(SettingsError, match=r"settings.views.size was 16, is 24"):
        run(source, place, tiny_tokenizer, views={"size": 24})
    with pytest.raises(SettingsError, match=r"meaning.code_hash was"):
        run(source, place, other_tokenizer)
    (source / "odd" / "00007.png").write_bytes(png(7))
    with pytest.raises(SettingsError, match="other inputs: 6 then, 7 now"):
        run(source, place, tiny_tokenizer)
    (source / "odd" / "00007.png").unlink()
    (source / "odd" / "00001.png").write_bytes(png(1, (30, 30)))
    with pytest.raises(SettingsError, match="as many, but of other folders, names or sizes"):
        run(source, place, tiny_tokenizer)
    assert open_store(str(place)).read("plan.json") == before


def test_a_damaged_plan_is_named(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    source, place = write_folder(tmp_path / "in", 2), tmp_path / "out"
    run(source, place, tiny_tokenizer)
    (place / "plan.json").write_text("{}")
    with pytest.raises(DataError, match=r"plan.json is damaged"):
        run(source, place, tiny_tokenizer)
