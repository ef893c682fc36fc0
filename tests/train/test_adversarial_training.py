"""Training against a discriminator: both sides move, every setting acts, and resuming is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import losses, tiny
from safetensors.torch import load_file

from bsq.train import End, Start, run
from bsq.train.checkpoints import checkpoints
from bsq.train.recipe import Recipe
from bsq.train.trainer import Trainer

DISCRIMINATOR = {"kind": "patch", "width": 4, "layers": 2}


def adversarial(source: Path, **changes: Any) -> Recipe:
    settings = {"kind": "adversarial", "discriminator": DISCRIMINATOR, "r1": {"every": 3}} | changes
    return tiny(source, loss={"adversarial": settings})


def test_both_sides_are_logged_and_resuming_is_exact(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    recipe = adversarial(pictures)
    run(recipe, whole)
    names = {name for line in losses(whole) for name in line}
    assert {"generator", "generator_weight", "discriminator", "real_logit", "fake_logit", "r1"} <= names

    with monkeypatch.context() as patch:
        take = Trainer.train_step
        patch.setattr(Trainer, "train_step", lambda self, b: die() if self.step == 10 else take(self, b))
        with pytest.raises(KeyboardInterrupt):
            run(recipe, stopped)
    assert run(recipe, stopped, Start.RESUME).end is End.FINISHED
    assert losses(stopped) == losses(whole)
    mine, theirs = (load_file(checkpoints(out / "checkpoints")[-1]) for out in (stopped, whole))
    assert any(name.startswith("discriminator_optimizer.") for name in mine)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def die() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "hinge"},
        {"weight": {"kind": "fixed", "value": 0.5}},
        {"weight": {"kind": "adaptive"}},
        {"r1": None},
        {"start_step": 6},
        {"discriminator": {**DISCRIMINATOR, "width": 8}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_setting_changes_the_run(pictures: Path, tmp_path: Path, change: dict[str, Any], plain: Path) -> None:
    run(adversarial(pictures, **change), tmp_path)
    assert losses(tmp_path) != losses(plain)


@pytest.fixture(scope="module")
def plain(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain")
    run(adversarial(pictures), out)
    return out


def test_the_discriminator_waits_for_its_start(pictures: Path, tmp_path: Path) -> None:
    run(adversarial(pictures, start_step=6), tmp_path)
    lines = losses(tmp_path)
    assert ["discriminator" in line for line in lines] == [False] * 3 + [True] * 3
