"""examples/bundle.py: what a run trained goes where the package ships it, unless it is of other codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from bsq.checkpoint import load
from bsq.tokenizer import Tokenizer


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch, example: Callable[[str], ModuleType], tmp_path: Path) -> ModuleType:
    """The script, for a package whose models lie in a folder of the test."""
    monkeypatch.setattr(sys.modules["bsq.checkpoint.load"], "MODELS", tmp_path / "models")
    return example("bundle")


def run_of(tokenizer: Tokenizer, folder: Path) -> Path:
    """The folder of a run that trained it."""
    tokenizer.save_pretrained(folder / "model")
    (folder / "log.jsonl").write_text("{}\n")
    return folder


def test_a_model_and_a_decoder_of_its_codes(bundle: ModuleType, tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    run = run_of(tiny_tokenizer, tmp_path / "run")
    made = bundle.bundle("model", run, "tiny")
    assert made == tmp_path / "models" / "tiny" / "model.safetensors"
    assert (made.parent / "training.jsonl").is_file()
    halved = run_of(load("tiny"), tmp_path / "halved")
    assert bundle.bundle("decoder:eye", halved, "tiny").is_file()
    assert load("tiny:eye").code_hash == load("tiny").code_hash


def test_a_decoder_of_other_codes_replaces_nothing(
    bundle: ModuleType, tiny_tokenizer: Tokenizer, other_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    bundle.bundle("model", run_of(tiny_tokenizer, tmp_path / "run"), "tiny")
    kept = bundle.bundle("decoder:eye", run_of(load("tiny"), tmp_path / "halved"), "tiny")
    before = kept.read_bytes()
    with pytest.raises(SystemExit, match="other codes"):
        bundle.bundle("decoder:eye", run_of(other_tokenizer, tmp_path / "other"), "tiny")
    assert kept.read_bytes() == before
