"""`bsq tokenize`, from the outside."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bsq.cli.main import app
from bsq.data import TokenDataset
from bsq.data.pictures import save_picture


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(7):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 28, 3), dtype=np.uint8)
        save_picture(f"in/{('cat', 'dog')[number % 2]}/{number}.png", pixels)
    Path("taken").write_text("a file")
    return tmp_path


def tokenize(model: Path, *arguments: str) -> Result:
    given = ["tokenize", *arguments, "--model", str(model), "--device", "cpu"]
    return CliRunner().invoke(app, given if "--workers" in arguments else [*given, "--workers", "0"])


def test_a_folder_becomes_tokens_that_training_reads(pictures: Path, tiny_model: Path) -> None:
    asked = ("in", "-o", "out", "--size", "16", "--label", "folder", "--shard-size", "3", "--bits", "8")
    done = tokenize(tiny_model, *asked, "--stats")
    assert done.exit_code == 0, done.stderr
    assert "out holds 7 rows of 7 pictures in 3 shards" in done.stderr
    assert "8 bits a token" in done.stderr
    assert json.loads(Path("out/stats.json").read_text())["tokens"] == 28
    (batch,) = TokenDataset("out", classes=["cat", "dog"]).batches(7, 0, 7)
    assert batch.codes.shape == (7, 1, 2, 2, 8)
    assert sorted(batch.labels.tolist()) == [0, 0, 0, 0, 1, 1, 1]
    again = tokenize(tiny_model, *asked)
    assert again.exit_code == 0
    assert "3 of 3 shards are written already" in again.stderr


def test_failures_are_named_and_counted(pictures: Path, tiny_model: Path) -> None:
    Path("in/cat/0.png").write_bytes(b"nothing")
    done = tokenize(tiny_model, "in", "-o", "out", "--format", "webdataset")
    assert done.exit_code == 1
    assert "failed: in/cat/0.png: the picture is not a picture" in done.stderr
    assert "1 of 7 inputs failed; out/errors.jsonl names each" in done.stderr
    assert len(TokenDataset("out")) == 6
    Path("in/cat/0.png").write_bytes(b"PNG ing"[:7])
    assert tokenize(tiny_model, "in", "-o", "out", "--format", "webdataset", "--retry").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere", "-o", "out"], 7, "no file or folder nowhere"),
        (["in", "-o", "out", "--views", "2"], 2, "give their size"),
        (["in", "-o", "out", "--flip", "0.5"], 2, "ask for views=2"),
        (["in", "-o", "out", "--frames", "4"], 2, "are for videos"),
        (["in", "-o", "out", "--label", "cls"], 7, "can be labelled by 'cls'"),
        (["in", "-o", "out", "--bits", "99"], 2, "12 digits"),
        (["in", "-o", "out", "--workers", "-1"], 2, "give 1 or more"),
        (["in", "-o", "out", "--workers", "0", "--ray-address", "auto"], 2, "give 1 or more"),
        (["in", "-o", "taken"], 7, "not a folder"),
        (["in", "-o", "nonsense://x"], 7, "nonsense"),
        (["in", "-o", "out", "--videos"], 7, "holds no videos"),
    ],
)
def test_bad_requests(pictures: Path, tiny_model: Path, arguments: list[str], code: int, words: str) -> None:
    done = tokenize(tiny_model, *arguments)
    assert done.exit_code == code, done.stderr
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("library", "arguments"), [("ray", ["--workers", "1"]), ("fsspec", ["-o", "s3://bucket/out"])])
def test_without_the_libraries(
    pictures: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, library: str, arguments: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    done = tokenize(tiny_model, "in", "-o", "out", *arguments)
    assert done.exit_code == 4, done.stderr
    assert "pip install 'bsq[bulk]'" in done.stderr


def test_without_pyarrow_tars_are_written_all_the_same(
    pictures: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert tokenize(tiny_model, "in", "-o", "tars", "--format", "webdataset").exit_code == 0
    done = tokenize(tiny_model, "in", "-o", "out")
    assert (done.exit_code, "needs pyarrow" in done.stderr) == (4, True)


def test_an_interrupt_leaves_what_is_written(pictures: Path, tiny_model: Path) -> None:
    for number in range(300):
        os.link("in/cat/0.png", f"in/cat/more-{number}.png")
    command = [sys.executable, "-m", "bsq.cli.main", "tokenize", "in", "-o", "out", "--model", str(tiny_model)]
    command += ["--size", "256", "--shard-size", "2", "--workers", "0", "--batch", "2"]
    done = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=restore_interrupts)
    deadline = time.monotonic() + 60
    while not finished() and time.monotonic() < deadline:
        time.sleep(0.02)
    done.send_signal(signal.SIGINT)
    _, said = done.communicate(timeout=60)
    assert done.returncode == 130, said
    assert "the same command goes on from there" in said
    assert 1 <= len(finished()) < 153
    assert not list(Path("out").rglob("*.part"))


def finished() -> list[Path]:
    """Marks of shards that are done, not those that are being written."""
    return [path for path in Path("out/done").glob("*") if path.suffix != ".part"]


def restore_interrupts() -> None:
    """A shell's background starts processes that ignore them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_videos_become_rows_of_frames(pictures: Path, tiny_model: Path) -> None:
    av: Any = importlib.import_module("av")
    for number, count in enumerate((11, 5)):
        with av.open(f"{number}.mkv", "w") as container:
            stream: Any = container.add_stream("ffv1", rate=10)
            stream.height, stream.width, stream.pix_fmt = 40, 48, "bgr0"
            for moment in range(count):
                pixels = np.random.default_rng(moment).integers(0, 256, (40, 48, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
    Path("list.txt").write_text("0.mkv\n1.mkv\nin/cat/0.png\n")
    done = tokenize(
        tiny_model, "list.txt", "-o", "out", "--videos", "--size", "16", "--frames", "4", "--max-frames", "9"
    )
    assert done.exit_code == 1
    assert "failed: in/cat/0.png" in done.stderr
    tokens = TokenDataset("out")
    heads = sorted(
        (sample.head.key, sample.head.start, sample.head.frames) for sample in map(tokens.__getitem__, range(5))
    )
    assert heads == [("0.mkv", 0, 4), ("0.mkv", 4, 4), ("0.mkv", 8, 1), ("1.mkv", 0, 4), ("1.mkv", 4, 1)]
    slow = tokenize(tiny_model, "0.mkv", "-o", "slow", "--videos", "--size", "16", "--frames", "4", "--frame-rate", "5")
    assert slow.exit_code == 0, slow.stderr
    assert sum(TokenDataset("slow")[n].head.frames for n in range(len(TokenDataset("slow")))) == 6
