"""`bsq export`, from the outside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bsq.cli.main import app
from bsq.tokenizer import Tokenizer


def test_a_folder_of_programs(tiny_model: Path, tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    wanted = ["export", str(tiny_model), "-o", str(tmp_path / "out"), "--size", "24x40"]
    done = CliRunner().invoke(app, wanted)
    assert done.exit_code == 0, done.stderr
    assert "encoder.pt2, decoder.pt2; pictures of 24x40, 12 digits a token" in done.stderr
    pixels = torch.rand(2, 3, 24, 40) * 2 - 1
    digits = torch.export.load(tmp_path / "out/encoder.pt2").module()(pixels)
    assert torch.equal(digits, tiny_tokenizer.encode(pixels).digits[:, 0])
    again = CliRunner().invoke(app, wanted)
    assert again.exit_code == 6
    assert "there already" in again.stderr


@pytest.mark.parametrize("wrong", ["24", "axb", "0x16"])
def test_bad_sizes(tiny_model: Path, tmp_path: Path, wrong: str) -> None:
    done = CliRunner().invoke(app, ["export", str(tiny_model), "-o", str(tmp_path / "out"), "--size", wrong])
    assert done.exit_code == 2
    assert "size" in done.stderr
    assert list(tmp_path.iterdir()) == []
