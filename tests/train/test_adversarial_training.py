"""Training against a discriminator: both sides move, every setting acts, and resuming is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import assert_resumes_exactly, losses, tiny

from bsq.train import run
from bsq.train.recipe import Recipe

DISCRIMINATOR = {"kind": "patch", "width": 4, "layers": 2}


def adversarial(source: Path, **changes: Any) -> Recipe:
    settings = {"kind": "adversarial", "discriminator": DISCRIMINATOR, "r1": {"every": 3}} | changes
    return tiny(source, loss={"adversarial": settings})


def test_both_sides_are_logged_and_resuming_is_exact(pictures: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    recipe = adversarial(pictures)
    run(recipe, whole)
    names = {name for line in losses(whole) for name in line}
    assert {"generator", "generator_weight", "discriminator", "real_logit", "fake_logit", "r1"} <= names

    tensors = assert_resumes_exactly(recipe, whole, tmp_path / "stopped")
    assert any(name.startswith("discriminator_optimizer.") for name in tensors)


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
