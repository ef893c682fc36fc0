"""Generators by the shared loop: what a run writes, that it resumes exactly, learns, and what it refuses."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from runs import GENERATOR, losses, tiny_generator, write_labelled, write_pictures

from bsq.data.labels import labels_of, read_class_names
from bsq.data.stored import find_pictures
from bsq.errors import DataError, SettingsError, ShapeError
from bsq.generate.folder import load_generator
from bsq.train import End, GeneratorRecipe, Start, load_recipe, run
from bsq.train.checkpoints import checkpoints, load_state
from bsq.train.generator_trainer import GeneratorTrainer


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of ten pictures of two classes, and their names."""
    return write_labelled(tmp_path_factory.mktemp("labelled"))


def small(labelled: Path, tokenizer: Path, **changes: Any) -> GeneratorRecipe:
    """12 steps of 4 codes of these pictures."""
    source, names = str(labelled / "a.tar"), str(labelled / "classes.txt")
    data = {"source": [source], "class_names": names, "crop": 32, "views": 2}
    return tiny_generator(changes.pop("data", data), tokenizer, **changes)


@pytest.fixture(scope="module")
def whole(labelled: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generators") / "whole"
    assert run(small(labelled, tiny_model), out).end is End.FINISHED
    return out


def test_writes_what_a_run_writes(whole: Path, labelled: Path, tiny_model: Path) -> None:
    assert load_recipe(whole / "recipe.yaml") == small(labelled, tiny_model)
    lines = losses(whole)
    assert [line["pictures"] for line in lines] == [8, 16, 24, 32, 40, 48]
    assert {"loss", "bits_per_token", "accuracy", "gradient_norm", "learning_rate"} <= set(lines[0])
    sheets = sorted((whole / "samples").glob("*.png"))
    assert len(sheets) == 2
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (2 * 34, 2 * 34)


def test_exports_the_average_with_its_card(whole: Path, tiny_tokenizer: Any) -> None:
    made = load_generator(whole / "model")
    assert made.card.class_names == ("even", "odd")
    made.check(tiny_tokenizer)
    averaged = load_state(whole / "checkpoints").tensors
    for name, tensor in made.network.state_dict().items():
        assert torch.equal(tensor, averaged[f"ema.{name}"])


def test_resumes_exactly(
    whole: Path, labelled: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = GeneratorTrainer.train_step

    def train_step(self: GeneratorTrainer, batches: Any) -> Any:
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(GeneratorTrainer, "train_step", train_step)
        assert run(small(labelled, tiny_model), tmp_path).end is End.STOPPED
    assert run(small(labelled, tiny_model), tmp_path, Start.RESUME).end is End.FINISHED
    mine, theirs = (load_state(folder / "checkpoints") for folder in (tmp_path, whole))
    assert mine.facts == theirs.facts
    assert mine.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(mine.tensors[name], theirs.tensors[name]) for name in theirs.tensors)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")][-1] == "step-000000012.safetensors"


def test_learns(labelled: Path, tiny_model: Path, tmp_path: Path) -> None:
    lengths = {"pictures": 2400, "batch": 16, "log_every": 240, "checkpoint_every": 2400}
    quiet = {"masking": {"label_smoothing": 0.0}, "optimizer": {"kind": "adamw", "learning_rate": 5e-3}}
    sheets = {"every": 2400, "count": 2, "source": [str(labelled / "a.tar")], "sampler": {"steps": 2}}
    result = run(small(labelled, tiny_model, samples=sheets, **lengths, **quiet), tmp_path)
    lines = losses(tmp_path)
    assert lines[0]["bits_per_token"] > 6
    assert lines[-1]["bits_per_token"] < 0.9 * lines[0]["bits_per_token"]
    assert "held_out_bits_per_token" in (tmp_path / "log.jsonl").read_text()
    assert result.steps == 150


def test_a_cache_serves_the_next_run(labelled: Path, tiny_model: Path, tmp_path: Path) -> None:
    data = small(labelled, tiny_model).data.model_copy(update={"cache": str(tmp_path / "codes")})
    short = {"pictures": 8, "samples": {"every": 8, "count": 1, "sampler": {"steps": 1}}}
    first = run(small(labelled, tiny_model, data=data, **short), tmp_path / "one").last
    (cached,) = (tmp_path / "codes").iterdir()
    made = cached.stat().st_mtime_ns
    assert run(small(labelled, tiny_model, data=data, **short), tmp_path / "two").last["loss"] == first["loss"]
    assert cached.stat().st_mtime_ns == made
    cached.write_bytes(b"damaged")
    assert run(small(labelled, tiny_model, data=data, **short), tmp_path / "three").last["loss"] == first["loss"]


def test_labels_are_found(labelled: Path, tmp_path: Path) -> None:
    names = read_class_names(str(labelled / "classes.txt"))
    assert labels_of(find_pictures([str(labelled / "a.tar")]), names) == [0, 1] * 5
    write_pictures(tmp_path / "odd", 2)
    write_pictures(tmp_path / "other", 1)
    (tmp_path / "other" / "000.cls").write_text("0")
    assert labels_of(find_pictures([str(tmp_path)]), names) == [1, 1, 0]
    assert labels_of(find_pictures([str(tmp_path / "odd")]), ()) == [-1, -1]
    (tmp_path / "other" / "000.cls").write_text("7")
    with pytest.raises(DataError, match="names for 2 classes"):
        labels_of(find_pictures([str(tmp_path)]), names)
    (tmp_path / "twice.txt").write_text("a\na\n")
    with pytest.raises(DataError, match="each once"):
        read_class_names(str(tmp_path / "twice.txt"))


def test_what_does_not_fit_is_refused(
    labelled: Path, tiny_model: Path, whole: Path, other_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="does not begin with"):
        run(small(labelled, tiny_model, model=GENERATOR | {"radices": [2] * 16}), tmp_path / "a")
    with pytest.raises(ShapeError, match="grids"):
        run(small(labelled, tiny_model, model=GENERATOR | {"grid": [1, 5, 4]}), tmp_path / "b")
    with pytest.raises(SettingsError, match="2 names"):
        run(small(labelled, tiny_model, model=GENERATOR | {"classes": 3}), tmp_path / "c")
    with pytest.raises(SettingsError, match="code_hash"):
        run(small(labelled, other_model), whole, Start.RESUME)
    with pytest.raises(SettingsError, match="of other settings"):
        run(small(labelled, tiny_model, model=GENERATOR | {"depth": 2}, initial=str(whole / "model")), tmp_path / "d")
    with pytest.raises(ValueError, match="class_names"):
        small(labelled, tiny_model, data={"source": ["x"]})
