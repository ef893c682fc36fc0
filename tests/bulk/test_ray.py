"""On Ray: the same bytes as in one process, whoever is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bulk_runs import Listening, hashes, run, write_folder

from bsq.bulk import spread
from bsq.bulk.run import Request, tokenize
from bsq.bulk.settings import TokenizeSettings
from bsq.bulk.spread import Cluster
from bsq.errors import DataError, MediaError, SettingsError
from bsq.tokenizer import Tokenizer

KILLS = 10


def test_two_workers_write_what_one_process_writes(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    """Then, on the same cluster: a place that cannot be written, and GPUs that are not there."""
    source = write_folder(tmp_path / "in", 20, corrupt=(7,))
    listener = Listening()
    with Cluster(workers=2) as cluster:
        there = run(source, tmp_path / "ray", tiny_tokenizer, listener, cluster)
        here = run(source, tmp_path / "here", tiny_tokenizer)
        assert hashes(tmp_path / "ray") == hashes(tmp_path / "here")
        assert there == here
        assert sorted(note.number for note in listener.notes) == [0, 1, 2, 3, 4]
        assert [fault.key for fault in there.first_faults] == ["odd/00007.png"]
        work = spread_out(tmp_path)
        with pytest.raises(MediaError, match="the disk is full"):
            list(cluster.spread(work, [1]))
        cluster.device = "cuda"
        with pytest.raises(SettingsError, match="has no GPUs"):
            list(cluster.spread(work, [1]))


@dataclass(frozen=True)
class Failing:
    """Work that a full disk ends."""

    def open(self) -> Callable[[int], int]:
        def fail(item: int) -> int:
            raise MediaError("cannot write out: the disk is full")

        return fail


def spread_out(folder: Path) -> Failing:
    by_value()
    return Failing()


def by_value() -> None:
    """This file is no module that workers could import."""
    ray = spread.import_ray()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.mark.parametrize(("address", "words"), [("127.0.0.1:1", "refused"), ("nonsense", "HOST:PORT")])
def test_a_cluster_that_is_not_there(address: str, words: str) -> None:
    with Cluster(address=address) as cluster, pytest.raises(DataError, match=words):
        list(cluster.spread(Failing(), [1]))


@dataclass(frozen=True)
class Witnessed:
    """The work, and a mark for each item begun, named after the node it was begun on."""

    work: Any
    folder: Path

    def open(self) -> Callable[[Any], Any]:
        import ray

        do, node = self.work.open(), ray.get_runtime_context().get_node_id()

        def witnessed(line: Any) -> Any:
            (self.folder / f"{node}-{line.number}").touch()
            time.sleep(0.3)
            return do(line)

        return witnessed


@dataclass(frozen=True)
class Witnesses:
    """Workers whose work is witnessed."""

    cluster: Cluster
    folder: Path

    def spread(self, work: Any, items: Sequence[Any]) -> Generator[Any, None, None]:
        yield from self.cluster.spread(Witnessed(work, self.folder), items)


@pytest.mark.slow
def test_a_node_killed_midway_loses_nothing(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    """Two nodes of one CPU each, each with processes of its own; the second is killed while it is at a shard."""
    spread.import_ray()
    from ray.cluster_utils import Cluster as Nodes

    by_value()
    source = write_folder(tmp_path / "in", 400, corrupt=(5, 105, 205, 305))
    run(source, tmp_path / "whole", tiny_tokenizer, shard_size=10)
    marks = tmp_path / "marks"
    marks.mkdir()
    settings = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, **settings})
    victim = nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    begun = lambda node: [path for path in marks.iterdir() if path.name.startswith(node)]  # noqa: E731

    class Killing(Listening):
        def wrote(self, note: Any) -> None:
            super().wrote(note)
            if victim is not None and victim in nodes.worker_nodes and len(begun(victim.node_id)) >= 3:
                nodes.remove_node(victim, allow_graceful=False)

    listener = Killing()
    try:
        with Cluster(address=nodes.address, workers=2) as cluster:
            request = Request(
                (str(source),),
                str(tmp_path / "out"),
                TokenizeSettings.model_validate({"shard_size": 10, "views": {"size": 16}}),
            )
            summary = tokenize(request, tiny_tokenizer, Witnesses(cluster, marks), listener)
    finally:
        nodes.shutdown()
    lost = len(begun(victim.node_id))
    assert victim not in nodes.worker_nodes
    assert 3 <= lost < 40, "the second node did some of the work"
    assert len(list(marks.iterdir())) > 40, "what it was at was begun again"
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")
    assert (summary.inputs, summary.faults, summary.index.rows) == (400, 4, 396)


@dataclass(frozen=True)
class Sharing:
    """Work that tells which GPU it was given, and who does it."""

    def open(self) -> Callable[[int], tuple[int, tuple[str, ...]]]:
        import ray

        gpus = tuple(map(str, ray.get_gpu_ids()))

        def told(item: int) -> tuple[int, tuple[str, ...]]:
            time.sleep(0.5)
            return os.getpid(), gpus

        return told


@pytest.mark.slow
def test_workers_share_gpus() -> None:
    """Two CPUs and a GPU, as far as Ray knows: nothing is computed on it."""
    spread.import_ray()
    from ray.cluster_utils import Cluster as Nodes

    by_value()
    head = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args=head)
    try:
        with Cluster(address=nodes.address, device="cuda", per_gpu=4) as cluster:
            told = list(cluster.spread(Sharing(), range(12)))
    finally:
        nodes.shutdown()
    assert len({process for process, _ in told}) == 2
    assert {gpus for _, gpus in told} == {("0",)}


@pytest.mark.slow
def test_killed_ten_times_at_random_and_resumed(tmp_path: Path, tiny_tokenizer: Tokenizer, tiny_model: Path) -> None:
    """Without warning: the command alone, or all its processes at once."""
    source, place = write_folder(tmp_path / "in", 1200, corrupt=tuple(range(50, 1200, 100))), tmp_path / "out"
    run(source, tmp_path / "whole", tiny_tokenizer, shard_size=3)
    chance, last = random.Random(0), 0
    for number in range(KILLS):
        command = start(source, place, tiny_model)
        wanted = last + chance.randint(1, 20)
        while len(notes := list((place / "done").glob("*.json"))) < wanted:
            assert command.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
        last = len(notes)
        time.sleep(chance.random() * 0.2)
        os.kill(command.pid, signal.SIGKILL) if number % 2 else os.killpg(command.pid, signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL
    command = start(source, place, tiny_model)
    assert command.wait() == 1  # some inputs are corrupt
    assert hashes(place) == hashes(tmp_path / "whole")


def start(source: Path, place: Path, model: Path) -> subprocess.Popen[bytes]:
    arguments = ["tokenize", str(source), "-o", str(place), "--model", str(model), "--device", "cpu", "--workers", "2"]
    command = [sys.executable, "-m", "bsq.cli.main", *arguments, "--size", "16", "--shard-size", "3"]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
