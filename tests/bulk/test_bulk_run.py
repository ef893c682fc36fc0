"""Runs in this process: what is written, what is named, and that breaking off changes nothing."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from bulk_runs import Listening, hashes, png, run, settings_of, write_folder, write_parquet, write_tar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bsq.bulk.run import Faulty, only_run
from bsq.bulk.spread import Here
from bsq.bulk.stats import measure
from bsq.bulk.views import one_view
from bsq.data.pictures import open_picture, to_pixels
from bsq.data.storage import open_store
from bsq.data.token_files import Format, TokenRow, read_shard
from bsq.data.tokens import read_index
from bsq.errors import DataError, MediaError, SettingsError
from bsq.tokenizer import Tokenizer


def rows_in(place: Any) -> list[TokenRow]:
    """All rows of a finished folder, in order."""
    store, rows = open_store(str(place)), list[TokenRow]()
    for listed in read_index(store).shards:
        with store.open(listed.name) as file:
            shard = read_shard(file, Format.of(listed.name), listed.name)
        rows += [shard[number] for number in range(len(shard))]
    return rows


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_rows_are_the_codes_of_the_pictures(tmp_path: Path, tiny_tokenizer: Tokenizer, form: str) -> None:
    source = write_folder(tmp_path / "in", 10)
    summary = run(source, tmp_path / "out", tiny_tokenizer, format=form, label="folder", bits=9)
    assert (summary.inputs, summary.faults, len(summary.index.shards)) == (10, 0, 3)
    rows = rows_in(tmp_path / "out")
    assert [row.head.key for row in rows] == [f"even/{n:05d}.png" for n in (0, 2, 4, 6, 8)] + [
        f"odd/{n:05d}.png" for n in (1, 3, 5, 7, 9)
    ]
    for row in rows:
        picture = open_picture(source / row.head.key)
        pixels = to_pixels(one_view(picture, row.head.key, 0, settings_of().views))
        assert row.codes == tiny_tokenizer.encode(pixels, bits=9)
        assert row.head.label == Path(row.head.key).parent.name
        assert (row.head.height, row.head.width, row.head.rows, row.head.columns) == (16, 16, 2, 2)
    assert summary.index.meaning.code_hash == tiny_tokenizer.code_hash
    assert summary.index.meaning.radices == (2,) * 9


def test_tars_and_parquet_give_what_files_give(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    """Read in parts, in order, compressed or not: codes, hashes of the inputs and labels are the same."""
    sources = {
        "files": write_folder(tmp_path / "files", 11),
        "tar": write_tar(tmp_path / "a.tar", range(11)),
        "packed": write_tar(tmp_path / "b.tgz", range(11), "w:gz"),
        "parquet": write_parquet(tmp_path / "c.parquet", range(11), group=3),
    }
    labels = {"files": None, "tar": "cls", "packed": "cls", "parquet": "class"}
    seen: dict[str, dict[str, Any]] = {}
    for name, source in sources.items():
        run(source, tmp_path / "out" / name, tiny_tokenizer, label=labels[name])
        rows = rows_in(tmp_path / "out" / name)
        seen[name] = {row.head.source_sha256: (row.codes.pack(), row.head.label) for row in rows}
        assert len(rows) == len(seen[name]) == 11
    assert seen["tar"] == seen["packed"] == seen["parquet"]
    assert {key: codes for key, (codes, _) in seen["files"].items()} == {k: c for k, (c, _) in seen["tar"].items()}
    keys = [row.head.key for row in rows_in(tmp_path / "out" / "parquet")]
    assert keys == [f"c.parquet:{number}" for number in range(11)]


def test_whole_pictures_of_many_sizes(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    for number, size in enumerate([(16, 16), (16, 16), (20, 40), (9, 70), (16, 16)]):
        path = tmp_path / "in" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(number, size))
    run(tmp_path / "in", tmp_path / "whole", tiny_tokenizer, views={})
    assert [(row.head.height, row.head.width) for row in rows_in(tmp_path / "whole")] == [
        (16, 16),
        (16, 16),
        (20, 40),
        (9, 70),
        (16, 16),
    ]
    run(tmp_path / "in", tmp_path / "scaled", tiny_tokenizer, views={"size": 16, "crop": "none"})
    assert [(row.head.height, row.head.width) for row in rows_in(tmp_path / "scaled")][2:4] == [(16, 32), (16, 124)]


def test_views_follow_from_seed_key_and_number(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    source = write_folder(tmp_path / "in", 3)
    many = {"size": 16, "views": 4, "zoom": 0.6, "flip": 0.5}
    run(source, tmp_path / "a", tiny_tokenizer, views=many)
    run(source, tmp_path / "b", tiny_tokenizer, views=many, shard_size=1)
    first, second = rows_in(tmp_path / "a"), rows_in(tmp_path / "b")
    assert [row.head.view for row in first] == [0, 1, 2, 3] * 3
    assert [row.codes.pack() for row in first] == [row.codes.pack() for row in second]
    assert len({row.codes.pack() for row in first}) == 12
    run(source, tmp_path / "c", tiny_tokenizer, views={**many, "seed": 1})
    third = rows_in(tmp_path / "c")
    same = [a.codes == b.codes for a, b in zip(first, third, strict=True)]
    assert same == [row.head.view == 0 for row in first]


def test_bits_do_not_depend_on_how_pictures_are_grouped(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    """Shards and batches of other sizes change where rows stand, not what they say."""
    source = write_folder(tmp_path / "in", 9)
    seen = []
    for number, (shard_size, batch) in enumerate([(4, 8), (9, 1), (5, 3), (2, 64)]):
        run(source, tmp_path / str(number), tiny_tokenizer, shard_size=shard_size, batch=batch)
        seen.append([row.codes.pack() for row in rows_in(tmp_path / str(number))])
    assert seen[0] == seen[1] == seen[2] == seen[3]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> tuple[Path, dict[str, str]]:
    """A source of 13 pictures, one corrupt, and the hashes of a run that nothing broke off."""
    folder = tmp_path_factory.mktemp("bulk")
    run(write_folder(folder / "in", 13, corrupt=(5,)), folder / "whole", tiny_tokenizer, shard_size=2)
    return folder, hashes(folder / "whole")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(1, 2), max_size=3), lost=st.sets(st.sampled_from(["shard", "note"])), data=st.data())
def test_broken_off_anywhere_and_resumed(
    finished: tuple[Path, dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
    tiny_tokenizer: Tokenizer,
    stops: list[int],
    lost: set[str],
    data: st.DataObject,
) -> None:
    folder, whole = finished
    place = tmp_path_factory.mktemp("resumed") / "out"
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run(folder / "in", place, tiny_tokenizer, Listening(stop), shard_size=2)
        assert not (place / "index.json").exists()
    written = sorted(place.glob("shard-*"))
    for what in lost if written else ():  # as after a crash of the machine
        victim = data.draw(st.sampled_from(written))
        if what == "shard":
            victim.unlink(missing_ok=True)
        else:
            (place / "done" / f"{victim.stem.removeprefix('shard-')}.json").unlink(missing_ok=True)
    listener = Listening()
    summary = run(folder / "in", place, tiny_tokenizer, listener, shard_size=2)
    assert hashes(place) == whole
    assert (summary.inputs, summary.faults) == (13, 1)
    assert listener.done + len(listener.notes) == 7
    if stops:
        assert listener.listings[-1] == 13


def test_a_finished_folder_is_left_as_it_is(finished: tuple[Path, dict[str, str]], tiny_tokenizer: Tokenizer) -> None:
    folder, whole = finished
    listener = Listening()
    run(folder / "in", folder / "whole", tiny_tokenizer, listener, shard_size=2)
    assert listener.notes == []
    assert hashes(folder / "whole") == whole


def test_a_damaged_note_is_mended_by_the_next_run(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    source, place = write_folder(tmp_path / "in", 6), tmp_path / "out"
    run(source, place, tiny_tokenizer)
    whole = hashes(place)
    (place / "done" / "00001.json").write_text('{"number": 1, "na')
    with pytest.raises(DataError, match="the note on shard 1 was damaged; start again"):
        run(source, place, tiny_tokenizer)
    run(source, place, tiny_tokenizer)
    assert hashes(place) == whole


def test_drafts_of_a_killed_run_are_swept_away_and_two_runs_are_kept_apart(
    tmp_path: Path, tiny_tokenizer: Tokenizer
) -> None:
    source, place = write_folder(tmp_path / "in", 2), tmp_path / "out"
    place.mkdir()
    (place / ".bsq-0123456789ab.part").write_bytes(b"half a shard")
    with only_run(open_store(str(place))), pytest.raises(SettingsError, match="another run is writing"):
        run(source, place, tiny_tokenizer)
    run(source, place, tiny_tokenizer)
    assert not list(place.rglob("*.part"))


def test_corrupt_inputs_are_named_and_none_is_lost(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    source = write_folder(tmp_path / "in", 200, corrupt=(3, 100))
    (source / "even" / "00004.png").write_bytes(b"")
    (source / "even" / "00006.png").unlink()
    (source / "even" / "00006.png").symlink_to("gone")
    whole = png(7)
    (source / "odd" / "00007.png").write_bytes(whole[: len(whole) // 2])
    summary = run(source, tmp_path / "out", tiny_tokenizer, shard_size=50)
    told = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert [(fault["key"], fault["reason"]) for fault in told] == [
        ("even/00004.png", "the picture is empty, 0 bytes"),
        ("even/00006.png", "no such file"),
        ("even/00100.png", told[2]["reason"]),
        ("odd/00003.png", told[3]["reason"]),
        ("odd/00007.png", told[4]["reason"]),
    ]
    assert all("damaged" in fault["reason"] or "not a picture" in fault["reason"] for fault in told[2:])
    assert (summary.inputs, summary.faults, summary.index.rows) == (200, 5, 195)
    keys = {row.head.key for row in rows_in(tmp_path / "out")} | {fault["key"] for fault in told}
    assert len(keys) == 200


def test_failed_inputs_can_be_tried_again(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    """Where a file system failed for a while; the result is as if it never had."""
    source = write_folder(tmp_path / "in", 6)
    run(source, tmp_path / "whole", tiny_tokenizer)
    victim = source / "odd" / "00001.png"
    kept = victim.read_bytes()
    victim.write_bytes(kept[:-40] + bytes(40))
    run(source, tmp_path / "out", tiny_tokenizer)
    victim.write_bytes(kept)
    listener = Listening()
    run(source, tmp_path / "out", tiny_tokenizer, listener, faulty=Faulty.RETRY)
    assert len(listener.notes) == 1
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


@pytest.mark.parametrize("packing", ["tar", "tgz", "parquet"])
def test_a_container_that_breaks_off_gives_what_it_has(tmp_path: Path, tiny_tokenizer: Tokenizer, packing: str) -> None:
    if packing == "parquet":
        path = write_parquet(tmp_path / "a.parquet", range(20))
    else:
        path = write_tar(tmp_path / f"a.{packing}", range(20), "w:gz" if packing == "tgz" else "w")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    write_folder(tmp_path / "in", 2)
    summary = run([path, tmp_path / "in"], tmp_path / "out", tiny_tokenizer)
    (fault,) = summary.first_faults
    assert fault.source == str(path)
    found = [row for row in rows_in(tmp_path / "out") if row.head.key.startswith("a.")]
    assert f"after {len(found)} inputs" in fault.reason
    assert len(found) == 0 if packing == "parquet" else 5 < len(found) < 15
    assert summary.index.rows == len(found) + 2


def test_all_inputs_corrupt(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    source = write_folder(tmp_path / "in", 3, corrupt=(0, 1, 2))
    summary = run(source, tmp_path / "out", tiny_tokenizer)
    assert (summary.index.rows, summary.faults) == (0, 3)
    with pytest.raises(DataError, match="holds no tokens"):
        measure(summary, str(tmp_path / "out"), Here())


def test_addresses_in_and_out(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    """Object stores by the example of fsspec's memory, and file://; the shards are those of the local run."""
    write_folder(tmp_path / "in", 9, corrupt=(2,))
    write_tar(tmp_path / "in" / "x.tar", range(20, 25))
    write_parquet(tmp_path / "in" / "y.parquet", range(30, 36))
    run(tmp_path / "in", tmp_path / "out", tiny_tokenizer)
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.put(f"{tmp_path}/in/", "/bucket/in/", recursive=True)
    first = run("memory://bucket/in", "memory://bucket/out", tiny_tokenizer, Listening())
    again = run("memory://bucket/in", "memory://bucket/out", tiny_tokenizer, Listening())
    assert again == first
    there = {row.head.source_sha256: row.codes.pack() for row in rows_in("memory://bucket/out")}
    here = {row.head.source_sha256: row.codes.pack() for row in rows_in(tmp_path / "out")}
    assert there == here
    assert len(there) == 8 + 5 + 6
    assert [fault.key for fault in first.first_faults] == ["even/00002.png"]
    run("memory://bucket/in/even/*.png", "memory://bucket/some", tiny_tokenizer)
    assert len(rows_in("memory://bucket/some")) == 4
    run(f"file://{tmp_path}/in", f"file://{tmp_path}/filed", tiny_tokenizer)
    assert hashes(tmp_path / "filed").keys() == hashes(tmp_path / "out").keys()
    for source in ("memory://bucket/nothing", "memory://bucket/in/*.tif"):
        with pytest.raises(DataError, match="no "):
            run(source, "memory://bucket/never", tiny_tokenizer)
    with pytest.raises(DataError, match="nonsense"):
        run("nonsense://bucket", tmp_path / "never", tiny_tokenizer)


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(
    tmp_path: Path, tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, place = write_folder(tmp_path / "in", 12), tmp_path / "out"
    real, room = os.fsync, 9

    def fsync(file: int) -> None:
        nonlocal room
        room -= 1
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(MediaError, match="the disk is full"):
        run(source, place, tiny_tokenizer)
    monkeypatch.undo()
    assert not list(place.rglob("*.part"))
    run(source, place, tiny_tokenizer)
    run(source, tmp_path / "whole", tiny_tokenizer)
    assert hashes(place) == hashes(tmp_path / "whole")


def test_statistics_count_what_the_shards_hold(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    source = write_folder(tmp_path / "in", 10)
    summary = run(source, tmp_path / "out", tiny_tokenizer)
    stats = measure(summary, str(tmp_path / "out"), Here())
    rows = rows_in(tmp_path / "out")
    digits = torch.cat([row.codes.digits.reshape(-1, 12) for row in rows])
    assert stats.tokens == len(digits) == 40
    assert np.allclose(stats.shares_of_ones, digits.float().mean(0))
    assert stats.codes_used == len({tuple(code) for code in digits.tolist()})
    assert stats.packed_bytes == sum(len(row.codes.pack()) for row in rows) == 40 * 12 // 8
    assert stats.shards_bytes == sum(path.stat().st_size for path in (tmp_path / "out").glob("shard-*"))
    assert stats.inputs_bytes == sum(path.stat().st_size for path in source.rglob("*.png"))
    assert stats.bits_per_pixel == 12 / 64
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["rows"] == 10


def test_a_model_without_codes_or_with_fewer_bits_is_refused(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    source = write_folder(tmp_path / "in", 1)
    with pytest.raises(SettingsError, match="12 digits, bits=13 asks for more"):
        run(source, tmp_path / "out", tiny_tokenizer, bits=13)
    assert not (tmp_path / "out" / "plan.json").exists()


@pytest.mark.parametrize("cut", range(-3 * 512, 512, 256))
def test_a_tar_cut_anywhere_around_a_member_is_no_shorter_tar(
    tmp_path: Path, tiny_tokenizer: Tokenizer, cut: int
) -> None:
    """Python's own reader takes one that is cut between members for whole."""
    path = write_tar(tmp_path / "a.tar", range(6))
    with tarfile.open(path) as tar:
        start = tar.getmembers()[6].offset
    path.write_bytes(path.read_bytes()[: start + cut])
    summary = run(path, tmp_path / "out", tiny_tokenizer, label="cls")
    assert [fault.source for fault in summary.first_faults] == [str(path)]
    assert summary.index.rows in (2, 3)


def test_tokens_are_not_written_among_their_own_sources(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    source = write_folder(tmp_path / "in", 2)
    with pytest.raises(SettingsError, match="lies inside"):
        run(source, source / "tokens", tiny_tokenizer)
    for found in ("*", "**", "**/*", "tok*"):
        with pytest.raises(SettingsError, match="lies inside"):
            run(source / found, source / "tokens-1", tiny_tokenizer)
    with pytest.raises(SettingsError, match="lies inside"):
        run("memory://own/", "memory://own/tokens", tiny_tokenizer)
    assert run(source / "*/*.png", source / "tokens", tiny_tokenizer).index.rows == 2


class Elsewhere:
    """Workers on another machine, whose folder of the same name is another one."""

    def spread(self, work: Any, items: Any) -> Any:
        yield from Here().spread(
            dataclasses.replace(work, place=f"{work.place}-there", tokenizer=work.tokenizer), items
        )


def test_shards_on_other_disks_are_missed(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    source = write_folder(tmp_path / "in", 6)
    run(source, tmp_path / "out-there", tiny_tokenizer)
    with pytest.raises(DataError, match="2 shards were written where this machine does not see them"):
        run(source, tmp_path / "out", tiny_tokenizer, workers=Elsewhere())


def test_names_without_folders_and_links_that_lead_back(
    tmp_path: Path, tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "in", 3)
    (source / "odd" / "back").symlink_to(source)
    (tmp_path / "linked").symlink_to(source / "even")
    monkeypatch.chdir(source / "odd")
    run(["00001.png", "..", "..", tmp_path / "linked"], tmp_path / "out", tiny_tokenizer, label="folder")
    told = [(row.head.key, row.head.label) for row in rows_in(tmp_path / "out")]
    assert told == [
        ("00001.png", "odd"),
        ("even/00000.png", "even"),
        ("even/00002.png", "even"),
        ("odd/00001.png", "odd"),
        ("00000.png", "linked"),
        ("00002.png", "linked"),
    ]
