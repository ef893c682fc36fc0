"""The commands of docs/training.md for several processes, as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import losses, tiny
from test_processes import assert_same_losses, free_port, train

from bsq.errors import SettingsError
from bsq.train import parallel, write_recipe

DOCS = Path(__file__).parent.parent.parent / "docs" / "training.md"
ONE_CPU = {"ACCELERATE_USE_CPU": "true"}  # nothing tells processes to share it that have nothing else
HERE = {"recipes/biscuit-s.yaml": "recipe.yaml", "runs/mine": "run", "8": "2"}


def documented(launcher: str) -> list[str]:
    """The words of the command that begins with `launcher`, with a recipe, folder and number of processes of ours."""
    found = re.search(rf"^{launcher} .*$", DOCS.read_text(), re.MULTILINE)
    assert found, f"{DOCS} has no line that begins with {launcher}"
    return [HERE.get(word, word) for word in shlex.split(found[0]) if not word.startswith("data.source")]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["accelerate launch", "torchrun"])
def test_a_launcher_of_the_docs(pictures: Path, tmp_path: Path, launcher: str) -> None:
    recipe = tiny(pictures)
    (tmp_path / "recipe.yaml").write_text(write_recipe(recipe))
    program, *words = documented(launcher)
    if program == "accelerate":
        words[1:1] = ["--cpu", "--main_process_port", str(free_port())]
    done = subprocess.run(
        [str(Path(sys.executable).parent / program), *words],
        cwd=tmp_path,
        env={**os.environ, **(ONE_CPU if torch.accelerator.is_available() else {}), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("finished after 48 pictures") == 1
    train(recipe, tmp_path / "one", 1)
    assert_same_losses(losses(tmp_path / "one"), losses(tmp_path / "run"))


@pytest.mark.parametrize("there", [True, False])
def test_processes_without_an_accelerator_ask_for_each_other(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    asked: list[bool] = []

    def accelerator(cpu: bool, **others: object) -> SimpleNamespace:
        asked.append(cpu)
        return SimpleNamespace(num_processes=2)

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: there)
    monkeypatch.setattr(parallel, "Accelerator", accelerator)
    parallel.join_processes()
    assert asked == [not there]


def test_processes_that_stay_alone_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(parallel, "Accelerator", lambda **_: SimpleNamespace(num_processes=1, device="mps"))
    with pytest.raises(SettingsError, match="2 processes, which cannot work together on mps"):
        parallel.join_processes()
