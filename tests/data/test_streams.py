"""Tars behind pipes and addresses: an order that follows from the seed, exact resuming, broken tars named."""

from __future__ import annotations

import functools
import http.server
import importlib
import io
import tarfile
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from shades import png

from bsq.data.loader import DataSettings, Share, load_batches, open_dataset
from bsq.data.stored import Kind
from bsq.data.streams import Delivery, Reading, Refused, TarStream, deliveries, is_stream, read_ahead
from bsq.errors import DataError

pytest.importorskip("webdataset")
TARS, EACH = 3, 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tars of five pictures, each a shade of its own."""
    path = tmp_path_factory.mktemp("tars")
    for number in range(TARS):
        with tarfile.open(path / f"{number:03d}.tar", "w") as tar:
            for place in range(EACH):
                for name, data in ((f"{place}.png", png(10 * (EACH * number + place))), (f"{place}.cls", b"1")):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return path


def pipes(folder: Path) -> tuple[str, ...]:
    return (f"pipe:cat {folder}/{{000..{TARS - 1:03d}}}.tar",)


def stream(folder: Path) -> TarStream:
    return TarStream(pipes(folder), Kind.PICTURES)


def names(folder: Path, count: int, **reading: int) -> list[str]:
    settings = Reading(**{"seed": 0, "shuffle": 4} | reading)
    taken = [delivery.item.name for delivery in islice(deliveries(stream(folder), settings), count)]
    return [f"{Path(name.partition(':')[2].rpartition(':')[0]).stem}:{name.rpartition(':')[2]}" for name in taken]


def test_every_epoch_has_every_sample_once_in_an_order_of_its_own(folder: Path) -> None:
    order = names(folder, 45)
    epochs = [order[:15], order[15:30], order[30:]]
    assert all(len(set(epoch)) == 15 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert names(folder, 45) == order
    assert names(folder, 45, seed=1) != order
    unshuffled = names(folder, 15, shuffle=1)
    assert [name.partition(":")[2] for name in unshuffled] == [f"{n}.png" for n in range(5)] * 3


@pytest.mark.parametrize("skip", [0, 1, 14, 15, 16, 29, 31, 160])
def test_a_run_resumes_where_it_was(folder: Path, skip: int) -> None:
    assert names(folder, 20, skip=skip) == names(folder, 180)[skip : skip + 20]


def test_processes_read_tars_of_their_own(folder: Path) -> None:
    shares = [set(names(folder, 30, process=process, processes=3)) for process in range(3)]
    assert [len(share) for share in shares] == [5, 5, 5]
    assert len(set.union(*shares)) == 15
    with pytest.raises(DataError, match="4 processes need as many tars"):
        names(folder, 1, processes=4)


def shades(data: object, share: Share, first: int, last: int, workers: int) -> list[int]:
    batches = load_batches(data, share, first, last, workers)  # type: ignore[arg-type]
    return [int(pixels[0, 0, 0, 0]) for batch in batches for pixels in batch.stored]


def open_pipes(folder: Path, **changes: object) -> object:
    settings = {"source": pipes(folder), "crop": 8, "shuffle": 6, **changes}
    return open_dataset(DataSettings.model_validate(settings), 0)


def test_batches_are_the_same_for_all_workers_and_from_any_step(folder: Path) -> None:
    data, share = open_pipes(folder), Share(batch=4, micro=2)
    whole = shades(data, share, 0, 40, workers=0)
    assert sorted(whole[:15]) == [10 * n for n in range(15)]
    assert shades(open_pipes(folder), share, 0, 40, workers=2) == whole
    assert shades(open_pipes(folder), share, 24, 40, workers=1) == whole[24:]


def test_samples_come_from_the_head_of_the_stream(folder: Path) -> None:
    data = open_dataset(DataSettings(source=pipes(folder), crop=8), 0)
    assert [crops.shape for crops in data.central(4)] == [(4, 3, 1, 8, 8)]
    assert data.describe() == "a stream of pictures"


def test_a_damaged_picture_is_named_and_another_stands_in(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (("0.png", png(10)), ("1.png", b"no picture"), ("2.png", png(30))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = open_dataset(DataSettings(source=(f"pipe:cat {tmp_path}/a.tar",), crop=8, shuffle=1), 0)
    (*batches,) = load_batches(data, Share(batch=1, micro=1), 0, 3, 0)
    assert [int(batch.stored[0, 0, 0, 0, 0]) for batch in batches] == [10, 30, 30]
    assert [[refused.name[-5:] for refused in batch.unreadable] for batch in batches] == [[], ["1.png"], []]


def refusals(taken: list[Delivery]) -> list[Refused]:
    return [refused for delivery in taken for refused in delivery.refused]


def test_broken_tars_and_commands_are_named_and_the_rest_is_read(folder: Path) -> None:
    sources = (
        f"pipe:head -c 3000 {folder}/000.tar",
        f"pipe:cat {folder}/001.tar",
        f"pipe:cat {folder}/missing.tar 2>/dev/null",
        f"pipe:cat {folder}/002.tar; exit 3",
    )
    taken = list(islice(deliveries(TarStream(sources, Kind.PICTURES), Reading(0, 1)), 40))
    broken = {refused.name for refused in refusals(taken)}
    assert broken == {sources[0], sources[2], sources[3]}
    assert len({delivery.item.name for delivery in taken}) >= 11
    assert "broke off" in refusals(taken)[0].reason


def test_what_a_failed_command_wrote_is_used_however_soon_it_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened_late(address: str) -> Any:
        pipe = gopen(address)
        time.sleep(0.3)  # the command is over by now
        return pipe

    module = importlib.import_module("webdataset.gopen")
    gopen = module.gopen
    monkeypatch.setattr(module, "gopen", opened_late)
    taken = list(TarStream([f"pipe:cat {folder}/002.tar; exit 3"], Kind.PICTURES).epoch(0, 0, 1))
    assert [type(one).__name__ for one in taken] == ["InMemory"] * EACH + ["Refused"]


@pytest.mark.parametrize("source", ["pipe:false", "pipe:echo no tar at all", "pipe:tar -cf - -T /dev/null"])
def test_streams_without_anything(source: str) -> None:
    with pytest.raises(DataError, match="nothing can be read from pipe:"):
        next(read_ahead(TarStream([source], Kind.PICTURES), Reading(0, 1)))


def test_what_streams() -> None:
    assert all(is_stream(name) for name in ("pipe:cat x", "https://a/b.tar", "HTTP://a/b.tar", "s3://b/c.tar"))
    assert not any(is_stream(name) for name in ("a.tar", "/a:b/c.tar", "C:/x.tar", "httpdocs/a.tar"))
    with pytest.raises(DataError, match="pipe:aws s3 cp"):
        TarStream(["s3://bucket/000.tar"], Kind.PICTURES)
    with pytest.raises(DataError, match="is stored"):
        open_dataset(DataSettings(source=("pictures/", "pipe:cat x.tar")), 0)


def test_closing_ends_the_thread(folder: Path) -> None:
    before = set(threading.enumerate())
    source = read_ahead(TarStream([f"pipe:cat {folder}/000.tar"], Kind.PICTURES), Reading(0, 1))
    next(source)
    (thread,) = set(threading.enumerate()) - before
    source.close()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_an_address_is_read(server: str, folder: Path) -> None:
    import shutil

    if shutil.which("curl") is None:
        pytest.skip("addresses are fetched by curl")
    data = open_dataset(DataSettings(source=(f"{server}/{{000..002}}.tar",), crop=8), 0)
    (batch,) = load_batches(data, Share(batch=15, micro=15), 0, 15, 0)
    assert torch.equal(batch.stored[:, 0, 0, 0, 0].sort().values, torch.arange(0, 150, 10, dtype=torch.uint8))
