"""Where a result came about: the commit of a checkout, and none of a package that merely lies in one."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bsq.evaluate.provenance import commit_of, provenance


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    sources, installed = tmp_path / "src", tmp_path / ".venv"
    for folder in (sources, installed):
        folder.mkdir()
        (folder / "__init__.py").write_text("")
    assert commit_of(sources) is None
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "src")
    git(tmp_path, "commit", "-qm", "first")
    first = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert commit_of(sources) == first
    assert commit_of(installed) is None
    (sources / "__init__.py").write_text("changed = True\n")
    assert commit_of(sources) == f"{first}+changes"
    monkeypatch.setenv("PATH", "")
    assert commit_of(sources) is None


def test_words() -> None:
    found = provenance()
    assert found.date.endswith("+00:00")
    assert found.processors >= 1
    assert f"Measured on {found.date[:10]} with " in found.words()
    told = replace(found, commit="abc", processor="P", processors=2, accelerator="a card", machine="M").words()
    assert told == f"Measured on {found.date[:10]} with commit abc, on M (P, 2 processors, a card)."
