"""`bsq info`: facts about streams, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import bsq
from bsq.cli.main import app


@pytest.fixture
def stream(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.chdir(tmp_path)
    data = bsq.compress(np.zeros((24, 41, 3), np.uint8), tiny_model, bits=5)
    Path("a.bsq").write_bytes(data)
    return data


def test_for_people(stream: bytes) -> None:
    done = CliRunner().invoke(app, ["info", "a.bsq"])
    assert done.exit_code == 0
    assert "41 × 24 pixels" in done.stdout
    assert "1 × 3 × 6 tokens, the first 5 of 12 digits, patch 8" in done.stdout
    assert f"{len(stream)} bytes" in done.stdout


def test_as_json(stream: bytes, tiny_model: Path) -> None:
    done = CliRunner().invoke(app, ["info", "--json", "a.bsq"])
    facts = json.loads(done.stdout)
    assert facts["file"] == "a.bsq"
    assert (facts["width"], facts["height"], facts["frames"], facts["kind"]) == (41, 24, 1, "picture")
    assert (facts["kept_digits"], facts["all_digits"], facts["grid"]) == (5, 12, [1, 3, 6])
    assert facts["bytes"] == len(stream)
    assert facts["bits_per_pixel"] == pytest.approx(8 * len(stream) / (24 * 41))
    parts = ("header_bytes", "payload_bytes", "framing_bytes", "closing_bytes")
    assert sum(facts[part] for part in parts) == len(stream)
    assert facts["model_hash"] == bsq.load(tiny_model).code_hash[:16]
    assert facts["trouble"] is None


def test_from_a_pipe(stream: bytes) -> None:
    done = CliRunner().invoke(app, ["info", "-", "--json"], input=stream)
    assert json.loads(done.stdout)["file"] == "standard input"


def test_many_and_folders(stream: bytes) -> None:
    Path("more").mkdir()
    Path("more/b.bsq").write_bytes(stream)
    done = CliRunner().invoke(app, ["info", "--json", "a.bsq", "more"])
    assert done.exit_code == 0
    assert [facts["file"] for facts in json.loads(done.stdout)] == ["a.bsq", "more/b.bsq"]


def test_a_truncated_stream_is_described_and_fails(stream: bytes) -> None:
    Path("a.bsq").write_bytes(stream[:-1])
    done = CliRunner().invoke(app, ["info", "a.bsq"])
    assert done.exit_code == 15
    assert "41 × 24 pixels" in done.stdout
    assert "cut short" in done.stderr
    assert "a.bsq: " in done.stderr


def test_some_of_many_fail(stream: bytes) -> None:
    Path("b.bsq").write_bytes(b"something else")
    Path("c.bsq").write_bytes(stream[:-1])
    done = CliRunner().invoke(app, ["info", "a.bsq", "b.bsq", "c.bsq", "missing.bsq"])
    assert done.exit_code == 1
    assert "failed: b.bsq: not a .bsq stream" in done.stderr
    assert "failed: cannot read missing.bsq: no such file" in done.stderr
    assert "3 of 4 files are not sound" in done.stderr
