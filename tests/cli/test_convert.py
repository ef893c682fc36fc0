"""`bsq convert`, from the outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bsq.cli.main import app


def test_bad_requests(tmp_path: Path, tiny_model: Path) -> None:
    missing = CliRunner().invoke(app, ["convert", str(tmp_path / "no.pt"), str(tmp_path / "new")])
    assert missing.exit_code == 6
    assert "no such file" in missing.stderr
    (tmp_path / "text.pt").write_text("no checkpoint")
    unreadable = CliRunner().invoke(app, ["convert", str(tmp_path / "text.pt"), str(tmp_path / "new")])
    assert unreadable.exit_code == 6
    assert not (tmp_path / "new").exists()
    taken = CliRunner().invoke(app, ["convert", str(tmp_path / "text.pt"), str(tiny_model)])
    assert taken.exit_code == 6
    assert "-f replaces it" in taken.stderr
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/config.json").write_text("{}")
    foreign = CliRunner().invoke(app, ["convert", str(tmp_path / "text.pt"), str(tmp_path / "theirs")])
    assert foreign.exit_code == 6
    assert "holds a model already (config.json)" in foreign.stderr


@pytest.mark.parametrize("option", [["--weights", "best"], ["--time", "sideways"], ["--heads", "0"]])
def test_unknown_choices(option: list[str]) -> None:
    assert CliRunner().invoke(app, ["convert", "a.pt", "b", *option]).exit_code == 2
