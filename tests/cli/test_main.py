"""The command as a whole: help, version, a real process, and how fast it is on its feet."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import bsq
from bsq.cli.failures import reason
from bsq.cli.main import app

BSQ = [sys.executable, "-m", "bsq.cli.main"]


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"bsq {bsq.__version__}\n"


@pytest.mark.parametrize("verb", [[], ["encode"], ["decode"], ["info"], ["train"], ["convert"], ["demo"]])
def test_help_has_examples(verb: list[str]) -> None:
    done = CliRunner().invoke(app, [*verb, "--help"])
    assert done.exit_code == 0
    assert "Example" in done.stdout
    assert " ".join(["bsq", *verb]) in done.stdout


def test_help_needs_no_heavy_library() -> None:
    script = (
        "import sys, bsq.cli.main as m\n"
        "try: m.app(['encode', '--help'])\n"
        "except SystemExit: pass\n"
        "print('HEAVY', {'torch', 'numpy', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "HEAVY set()" in done.stdout


def test_an_unknown_verb() -> None:
    done = CliRunner().invoke(app, ["frobnicate"])
    assert done.exit_code == 2
    assert "No such command" in done.stderr


def test_a_real_pipe(tiny_model: Path, photo, tmp_path: Path) -> None:
    model = ["--model", str(tiny_model)]
    encoded = subprocess.run([*BSQ, "encode", *model, "-"], input=photo("chelsea").read_bytes(), capture_output=True)
    assert encoded.returncode == 0, encoded.stderr
    assert encoded.stdout.startswith(b"\x8fbsq\r\n\x1a\n")
    (tmp_path / "a.bsq").write_bytes(encoded.stdout[:-5])
    decoded = subprocess.run([*BSQ, "decode", *model, tmp_path / "a.bsq"], capture_output=True, text=True)
    assert decoded.returncode == 15
    assert decoded.stdout == ""
    assert decoded.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.bsq"]


def test_a_reader_that_leaves(tiny_model: Path, photo, tmp_path: Path) -> None:
    model, stream = ["--model", str(tiny_model)], tmp_path / "a.bsq"
    subprocess.run([*BSQ, "encode", *model, photo("chelsea"), "-o", stream], check=True, capture_output=True)
    verbs = (
        ["--help"],
        ["train", "--help"],
        ["info", stream],
        ["info", "--json", stream],
        ["decode", *model, stream, "-o", "-"],
    )
    for arguments in verbs:
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([*BSQ, *arguments], stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert (done.returncode, done.stderr) == (141, b""), arguments


def test_a_real_interrupt(tmp_path: Path) -> None:
    # Ready when it reads: libraries that are being imported may swallow an interrupt.
    script = """
import signal, sys
import bsq.cli.main as m

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored

class Input:
    def read(self, size=-1):
        print("ready", flush=True)
        return sys.__stdin__.buffer.read(size)

class Reading:
    buffer = Input()

    def __getattr__(self, name):
        return getattr(sys.__stdin__, name)

sys.stdin = Reading()
m.app(["encode", "-", "-o", "a.bsq"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.decode().splitlines()[-1] == "interrupted"
    assert list(tmp_path.iterdir()) == []


def test_torch_without_memory_is_no_bug_of_ours() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert reason(caught.value) == "out of memory"
    assert "a bug in bsq" in reason(RuntimeError("shapes cannot be multiplied"))
