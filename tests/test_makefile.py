"""The Makefile's stamps: an install that breaks off is done again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
PIP = """#!/bin/sh
case "$*" in *pip*) [ ! -e broken ] || exit 1; echo pip "$*" >> log ;; esac
"""


def test_a_broken_install_leaves_no_stamp(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in ("python", "ruff", "mypy"):
        (tmp_path / ".venv/bin" / name).write_text(PIP)
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    (tmp_path / ".venv/.made").touch()

    def make(goal: str) -> bool:
        return subprocess.run(["make", goal], cwd=tmp_path, capture_output=True).returncode == 0

    def installs() -> int:
        return len((tmp_path / "log").read_text().splitlines())

    assert make("demo")
    (tmp_path / "broken").touch()
    assert not make("lint")
    assert not make("demo")
    (tmp_path / "broken").unlink()
    assert make("lint")
    assert make("demo")
    assert installs() == 2
