"""`bsq train`, from the outside: recipes are checked, runs leave a model that encodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import bsq
from bsq.cli.main import app
from bsq.data.pictures import save_picture


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    for seed in range(4):
        picture = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        save_picture(f"pictures/{seed}.png", picture)
    transformer = {"width": 32, "depth": 1, "head_width": 16}
    content = {
        "model": {"patch": 8, "quantizer": {"kind": "bsq", "bits": 8}, "encoder": transformer, "decoder": transformer},
        "data": {"source": "pictures", "crop": 16, "workers": 0},
        "pictures": 4,
        "batch": 2,
        "precision": "fp32",
        "threads": 1,
        "writers": [],
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(content))
    return "recipe.yaml"


def test_a_run_leaves_a_model(recipe: str) -> None:
    done = CliRunner().invoke(app, ["train", recipe, "-o", "run"])
    assert done.exit_code == 0, done.stderr
    assert "finished after 4 pictures; the model is in run/model" in done.stderr
    assert len(bsq.load("run/model").radices) == 8
    again = CliRunner().invoke(app, ["train", recipe, "-o", "run"])
    assert again.exit_code == 8
    assert "--resume" in again.stderr


def test_a_dry_run_prints_the_whole_recipe_and_what_it_takes(recipe: str) -> None:
    done = CliRunner().invoke(app, ["train", recipe, "model.quantizer.bits=12", "--dry-run"])
    assert done.exit_code == 0, done.stderr
    whole = yaml.safe_load(done.stdout)
    assert whole["model"]["quantizer"]["bits"] == 12
    assert "clip" in whole
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        "parameters",
        "FLOPs/picture",
        "memory",
        "steps",
        "whole",
    ]
    assert "2 (4 pictures)" in done.stderr
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["recipe.yaml"], 2, "name the run's folder"),
        (["missing.yaml", "-o", "run"], 2, "missing.yaml"),
        (["recipe.yaml", "model.nonsense=1", "-o", "run"], 2, "model.nonsense"),
        (["recipe.yaml", "batch", "-o", "run"], 2, "an override reads like"),
        (["recipe.yaml", "data.source=nowhere", "-o", "run"], 7, "nowhere"),
        (["recipe.yaml", "-o", "run", "--resume"], 8, "resume"),
    ],
)
def test_bad_requests(recipe: str, arguments: list[str], code: int, words: str) -> None:
    done = CliRunner().invoke(app, ["train", *arguments])
    assert done.exit_code == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
