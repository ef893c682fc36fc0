"""Recipes and pictures small enough for tests: a run of a few steps takes a second."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bsq.train import Start, run
from bsq.train.checkpoints import checkpoints
from bsq.train.generator_recipe import GeneratorRecipe
from bsq.train.recipe import Recipe
from bsq.train.trainer import Trainer

TRANSFORMER = {"width": 16, "depth": 1, "head_width": 8}
MODEL = {
    "patch": 8,
    "quantizer": {"kind": "bsq", "bits": 8},
    "encoder": TRANSFORMER,
    "decoder": TRANSFORMER,
}


def write_pictures(folder: Path, count: int = 10, size: tuple[int, int] = (40, 48)) -> Path:
    """Smooth pictures that differ; `folder` again."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        small = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")
    return folder


GENERATOR = {
    "radices": [2] * 8,
    "group_digits": 4,
    "classes": 2,
    "grid": [1, 4, 4],
    "width": 32,
    "depth": 1,
    "head_width": 16,
    "norm": "pre",
}
NAMES = ("even", "odd")


def write_labelled(folder: Path) -> Path:
    """a.tar of ten pictures of two classes by turns, and classes.txt; `folder` again."""
    write_pictures(folder / "pictures")
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number, path in enumerate(sorted((folder / "pictures").iterdir())):
            for name, data in ((path.name, path.read_bytes()), (f"{path.stem}.cls", str(number % 2).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return folder


def tiny_generator(data: dict[str, Any], tokenizer: Path, **changes: Any) -> GeneratorRecipe:
    """12 steps of 4 codes."""
    content: dict[str, Any] = {
        "kind": "generator",
        "tokenizer": str(tokenizer),
        "model": GENERATOR,
        "data": data,
        "optimizer": {"kind": "muon"},
        "pictures": 48,
        "batch": 4,
        "precision": "fp32",
        "log_every": 8,
        "checkpoint_every": 16,
        "samples": {"every": 24, "count": 3, "passes": 2, "sampler": {"steps": 2}},
        "threads": 1,
        "writers": [],
    }
    return GeneratorRecipe.model_validate(content | changes)


def tiny(source: Path, **changes: Any) -> Recipe:
    """12 steps of 4 pictures in float32, nested, with Muon, a checkpoint every 4 steps."""
    content: dict[str, Any] = {
        "model": MODEL,
        "data": {"source": [str(source)], "crop": 32, "workers": 0, "flip": 0.5, "zoom": [1.0, 1.2]},
        "nested": {"choices": [4, 8]},
        "optimizer": {"kind": "muon"},
        "schedule": {"warm_up": 16},
        "pictures": 48,
        "batch": 4,
        "precision": "fp32",
        "log_every": 8,
        "checkpoint_every": 16,
        "samples": {"every": 24, "count": 2},
        "threads": 1,
        "writers": [],
    }
    return Recipe.model_validate(content | changes)


def losses(out: Path) -> list[dict[str, Any]]:
    """The training lines of a run's log, without what the clock says."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    timing = ("pictures_per_second", "data_wait")
    return [{k: v for k, v in line.items() if k not in timing} for line in lines if line["event"] == "train"]


def assert_resumes_exactly(recipe: Recipe, whole: Path, stopped: Path) -> dict[str, torch.Tensor]:
    """Runs `recipe` into `stopped`, dies in its tenth step, resumes, and must end as the run in `whole` did. Returns
    the tensors of the last checkpoint.
    """
    with pytest.MonkeyPatch.context() as patch:
        take = Trainer.train_step
        patch.setattr(Trainer, "train_step", lambda self, b: die() if self.step == 10 else take(self, b))
        with pytest.raises(KeyboardInterrupt):
            run(recipe, stopped)
    run(recipe, stopped, Start.RESUME)
    assert losses(stopped) == losses(whole)
    mine, theirs = (load_file(checkpoints(out / "checkpoints")[-1]) for out in (stopped, whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    return mine


def die() -> None:
    raise KeyboardInterrupt
