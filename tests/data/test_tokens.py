"""The reader of tokens: each row once over all processes and workers, in an order that resumes."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bsq.codes import Codes
from bsq.data import TokenDataset
from bsq.data.storage import open_store
from bsq.data.token_files import Format, Meaning, RowHead, TokenRow, read_shard, writing_shard
from bsq.data.tokens import INDEX_FILE, Epoch, Index, IndexedShard, share_of
from bsq.errors import DataError, SettingsError, ShapeError

MEANING = Meaning(model="", code_hash="00" * 32, patch=8, radices=(2, 2, 2, 5))


def row(number: int, side: int = 2) -> TokenRow:
    generator = torch.Generator().manual_seed(number)
    digits = torch.randint(0, 2, (1, 1, side, side, 4), generator=generator)
    head = RowHead(
        key=str(number),
        source=f"in/{number}.png",
        source_sha256=f"{number:064x}",
        view=0,
        start=0,
        label=("cat", "dog", None)[number % 3],
        height=8 * side,
        width=8 * side,
        frames=1,
        rows=side,
        columns=side,
    )
    return TokenRow(head, Codes(digits, MEANING.radices))


def write(folder: Path, sizes: list[int], kind: Format = Format.PARQUET, side: int = 2) -> Path:
    """Shards of so many rows each, numbered on."""
    store, number, listed = open_store(str(folder)), 0, []
    for shard, size in enumerate(sizes):
        name = f"shard-{shard:05d}{kind.value}"
        with store.drafting(name) as file, writing_shard(file, kind, MEANING) as writer:
            for _ in range(size):
                writer.add(row(number, side if number else 2))
                number += 1
        listed.append(IndexedShard(name=name, rows=size, sha256=""))
    index = Index(meaning=MEANING, rows=number, shards=tuple(listed))
    store.write(INDEX_FILE, index.model_dump_json().encode())
    return folder


@pytest.mark.parametrize("kind", list(Format))
def test_shards_are_read_as_they_were_written(tmp_path: Path, kind: Format) -> None:
    write(tmp_path, [0, 3], kind)
    name = f"shard-00001{kind.value}"
    with open(tmp_path / name, "rb") as file:
        shard = read_shard(file, kind, name)
    assert shard.meaning == MEANING
    assert [shard[n].head for n in range(len(shard))] == [row(n).head for n in range(3)]
    assert all(shard[n].codes == row(n).codes for n in range(3))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 3])
    with open(tmp_path / name, "rb") as file, pytest.raises(DataError, match=f"{name} is no shard of tokens"):
        read_shard(file, kind, name)


def test_other_readers_read_the_tars(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    write(tmp_path, [3], Format.WEBDATASET)
    samples = list(webdataset.WebDataset(str(tmp_path / "shard-00000.tar"), shardshuffle=False).decode())
    assert [sorted(set(sample) - {"__url__", "__local_path__"}) for sample in samples[:1]] == [
        ["__key__", "bits", "json"]
    ]
    assert [sample["json"]["key"] for sample in samples] == ["0", "1", "2"]
    assert [bytes(sample["bits"]) for sample in samples] == [row(n).codes.pack() for n in range(3)]


@given(
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) > 0),
    ranks=st.integers(1, 5),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
)
def test_processes_share_an_epoch_without_overlap_or_loss(sizes: list[int], ranks: int, seed: int, epoch: int) -> None:
    shards = tuple(IndexedShard(name="", rows=size, sha256="") for size in sizes)
    index = Index(meaning=MEANING, rows=sum(sizes), shards=shards)
    seen: Counter[tuple[int, int]] = Counter()
    for rank in range(ranks):
        runs = Epoch.of(index, seed, epoch, rank, ranks).runs
        first, last = share_of(index.rows, rank, ranks)
        assert sum(run.rows for run in runs) == last - first
        assert last - first in (index.rows // ranks, index.rows // ranks + 1)
        seen.update((run.shard, run.first + n) for run in runs for n in range(run.rows))
    assert seen == Counter((shard, n) for shard, size in enumerate(sizes) for n in range(size))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 6), min_size=1, max_size=6), ranks=st.integers(1, 3), mix=st.integers(1, 4))
def test_each_row_is_seen_once_an_epoch(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], ranks: int, mix: int
) -> None:
    sizes = [*sizes, 3]
    folder = write(tmp_path_factory.mktemp("tokens"), sizes)
    for epoch in range(2):
        seen: Counter[str] = Counter()
        for rank in range(ranks):
            tokens = TokenDataset(str(folder), seed=1, rank=rank, ranks=ranks, mix=mix)
            for place in range(len(tokens)):
                sample = tokens[epoch * len(tokens) + place]
                assert torch.equal(sample.digits, row(int(sample.head.key)).codes.digits[0])
                seen[sample.head.key] += 1
        assert seen == Counter(str(number) for number in range(sum(sizes)))


def keys(tokens: TokenDataset, first: int, last: int, workers: int = 0, batch: int = 4) -> list[str]:
    return [head.key for b in tokens.batches(batch, first, last, workers) for head in b.heads]


def test_order_follows_from_seed_and_epoch_and_resumes_anywhere(tmp_path: Path) -> None:
    folder = str(write(tmp_path, [5, 4, 7, 4]))
    whole = keys(TokenDataset(folder, mix=2), 0, 40)
    assert sorted(whole[:20]) == sorted(whole[20:]) == sorted(map(str, range(20)))
    assert whole[:20] != whole[20:]
    assert keys(TokenDataset(folder, mix=2), 16, 40) == whole[16:]
    assert keys(TokenDataset(folder, mix=2, seed=1), 0, 20) != whole[:20]
    assert keys(TokenDataset(folder, mix=2), 0, 40, workers=2) == whole
    within = {int(key) for key in whole[:9]}
    assert within not in ({*range(5)}, {*range(9)}), "shards come in an order of their own"
    neighbours = [int(a) + 1 == int(b) for a, b in pairwise(whole)]
    assert sum(neighbours) < 15, "rows are mixed"


def test_a_worker_keeps_only_the_shards_that_are_mixed(tmp_path: Path) -> None:
    tokens = TokenDataset(str(write(tmp_path, [2] * 12)), mix=3)
    for position in range(24):
        assert tokens[position].position == position
        assert len(tokens._open) <= 4


def test_labels_are_numbers_of_classes(tmp_path: Path) -> None:
    folder = str(write(tmp_path, [6]))
    (batch,) = TokenDataset(folder, classes=["dog", "cat"]).batches(6, 0, 6)
    assert [(int(head.key) % 3, label) for head, label in zip(batch.heads, batch.labels.tolist(), strict=True)] == [
        (int(head.key) % 3, {0: 1, 1: 0, 2: -1}[int(head.key) % 3]) for head in batch.heads
    ]
    assert batch.codes.shape == (6, 1, 2, 2, 4)
    assert batch.codes.radices == MEANING.radices
    with pytest.raises(DataError, match="none of the classes"):
        keys(TokenDataset(folder, classes=["dog"]), 0, 6, batch=6)


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no index.json"):
        TokenDataset(str(tmp_path))
    folder = write(tmp_path / "set", [2, 2])
    with pytest.raises(DataError, match="too few for 5 processes"):
        TokenDataset(str(folder), ranks=5)
    with pytest.raises(SettingsError, match="rank must be"):
        TokenDataset(str(folder), rank=2, ranks=2)
    (folder / "shard-00001.parquet").write_bytes((folder / "shard-00000.parquet").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"shard-00001.parquet is no shard"):
        keys(TokenDataset(str(folder)), 0, 4)
    (folder / "shard-00001.parquet").unlink()
    with pytest.raises(DataError, match="no such file"):
        keys(TokenDataset(str(folder)), 0, 4)
    (folder / INDEX_FILE).write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        TokenDataset(str(folder))


def test_rows_of_different_grids_make_no_batch(tmp_path: Path) -> None:
    tokens = TokenDataset(str(write(tmp_path, [4], side=3)))
    assert len(keys(tokens, 0, 4, batch=1)) == 4
    with pytest.raises(ShapeError, match="make no batch"):
        keys(tokens, 0, 4)


def test_the_page_names_every_column() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "scale.md").read_text()
    table = page.partition("| column | type | meaning |")[2].partition("\n\n")[0]
    named = {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", "|".join(line.split("|")[:2]))}
    assert named == {*RowHead.model_fields, "digits"}
