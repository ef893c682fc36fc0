"""Bulk runs: 20,000 small pictures, 1 % of them corrupt, by one worker, by two, and by two that are killed ten times.

Takes five minutes, most of which Ray takes to start, so it is printed only when named: `python -m benchmarks bulk`.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import Row
from bsq.bulk.encoding import Note
from bsq.bulk.plan import Plan
from bsq.bulk.run import Request, Summary, tokenize
from bsq.bulk.settings import TokenizeSettings
from bsq.bulk.spread import Cluster
from bsq.codec.shelf import named_model

PICTURES, SIDE, EVERY, KILLS, SHARD = 20_000, 32, 100, 10, 250
MODEL = "biscuit-s"
MIB = 2**20


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "in")
        measured = {}
        for workers in (1, 2):
            measured[workers] = once(folder / "in", folder / f"out{workers}", workers)
            rate, peak, watch = measured[workers].rate, measured[workers].peak, measured[workers].watch
            yield Row(f"{workers} worker(s), {PICTURES:,} pictures of {SIDE} pixels", f"{rate:.0f} pictures/s")
            yield Row("  from start to index, with Ray", f"{watch.seconds:.1f} s")
            yield Row("  most memory (PSS)", f"worker {peak.worker / MIB:.0f}, all {peak.whole / MIB:.0f} MiB")
        one, two = measured[1], measured[2]
        ratio = two.rate / one.rate
        yield Row(f"two workers against one, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}", f"{ratio:.2f} ×")
        same = hashes(folder / "out1") == hashes(folder / "out2")
        yield Row("same files by SHA-256", str(len(hashes(folder / "out1"))), "all", same)
        yield killed(folder / "in", folder / "out3", hashes(folder / "out1"))
        faults, wanted = one.summary.faults, PICTURES // EVERY
        yield Row("corrupt inputs named", str(faults), str(wanted), faults == wanted)
        kept = one.summary.index.rows
        yield Row("rows", f"{kept:,}", f"{PICTURES - wanted:,}", kept == PICTURES - wanted)
        size = one.summary
        yield Row("bytes a picture in a shard", f"{size.bytes / kept:.0f}, of them codes {size.packed / kept:.0f}")


def write_pictures(folder: Path) -> None:
    """Waves and noise as JPEG; every hundredth file is cut off."""
    across = np.arange(SIDE) / SIDE
    for number in range(PICTURES):
        chance = np.random.default_rng(number)
        down, right, phase = chance.random((3, 1, 1, 3)) * 8
        waves = 128 + 100 * np.sin(down * across[:, None, None] + right * across[None, :, None] + phase)
        pixels = (waves + chance.normal(0, 8, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        path = folder / f"{number % 20:02d}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue() if number % EVERY else buffer.getvalue()[:300])


@dataclass
class Watch:
    """When shards were done. Implements `bsq.bulk.run.Listener`."""

    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    done: list[tuple[float, int]] = field(default_factory=list)

    def listed(self, inputs: int) -> None: ...

    def begins(self, plan: Plan, done: int, inputs: int) -> None: ...

    def wrote(self, note: Note) -> None:
        self.done.append((time.perf_counter(), note.inputs))


@dataclass
class Peak:
    """Most memory at any moment, in bytes: of one worker, and of all processes below this one together."""

    worker: int = 0
    whole: int = 0


@dataclass(frozen=True)
class Measured:
    summary: Summary
    watch: Watch
    peak: Peak

    @property
    def rate(self) -> float:
        """Pictures a second between the first and the last shard: without what Ray takes to start."""
        (first, _), *rest = self.watch.done
        return sum(inputs for _, inputs in rest) / (rest[-1][0] - first)


def once(source: Path, place: Path, workers: int) -> Measured:
    settings = TokenizeSettings.model_validate({"shard_size": SHARD, "views": {"size": SIDE}})
    watch = Watch()
    with measuring() as peak, Cluster(workers=workers) as cluster:
        summary = tokenize(Request((str(source),), str(place), settings), named_model(MODEL), cluster, watch)
        watch.seconds = time.perf_counter() - watch.began
    return Measured(summary, watch, peak)


@contextmanager
def measuring() -> Iterator[Peak]:
    peak, stop = Peak(), threading.Event()

    def look() -> None:
        while not stop.wait(1.0):
            sizes = {process: memory(process) for process in below(os.getpid())}
            peak.whole = max(peak.whole, sum(sizes.values()))
            workers = [size for process, size in sizes.items() if b"ray::MapWorker" in command_of(process)]
            peak.worker = max([peak.worker, *workers])

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def below(process: int) -> Iterator[int]:
    """It and all that it started, directly or not."""
    yield process
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            yield from below(child)


def memory(process: int) -> int:
    """Bytes, what is shared counted in parts (PSS); 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def command_of(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def killed(source: Path, place: Path, wanted: dict[str, str]) -> Row:
    """The command, killed ten times at random, alone or with all that it started, then left to finish."""
    chance, last, times = random.Random(0), 0, 0
    arguments = [str(source), "-o", str(place), "--model", MODEL, "--device", "cpu", "--workers", "2"]
    command = [
        sys.executable,
        "-m",
        "bsq.cli.main",
        "tokenize",
        *arguments,
        "--size",
        str(SIDE),
        "--shard-size",
        str(SHARD),
    ]
    while True:
        run = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        if times == KILLS:
            run.wait()
            break
        while len(notes := list((place / "done").glob("*.json"))) <= last and run.poll() is None:
            time.sleep(0.05)
        time.sleep(chance.random())
        if run.poll() is not None:
            break  # finished before it could be killed as often
        os.kill(run.pid, signal.SIGKILL) if times % 2 else os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        times, last = times + 1, len(notes)
    same = hashes(place) == wanted
    return Row("killed at random and resumed", f"{times} times, files {'the same' if same else 'DIFFER'}", "10", same)


def hashes(place: Path) -> dict[str, str]:
    files = [path for path in place.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
