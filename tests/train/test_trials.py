"""examples/trials.py: trials of equal computation, in stages and from cosines; a finished one is not run again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from safetensors.torch import load_file

from bsq.layers.patches import patchify
from bsq.tokenizer import Tokenizer

EXAMPLES = Path(__file__).parents[2] / "examples"
HALF = "model.{}={{width: 32, depth: 1, head_width: 32}}"
TRIALS = {
    "base": str(EXAMPLES.parent / "recipes" / "tiny.yaml"),
    "rates": [6, 18],
    "common": [HALF.format("encoder"), HALF.format("decoder"), "data.crop=32", "data.workers=0", "batch=8"],
    "trials": {
        "base": [],
        "crops that grow": [["data.crop=16", "schedule.floor=1.0"], []],
        "cosines": ["begin=cosines"],
        "components": ["begin=components"],
    },
}


@pytest.fixture(scope="module")
def beginnings(example: Callable[[str], ModuleType]) -> ModuleType:
    return example("beginnings")


def attempt(trials: dict[str, object], pictures: Path, out: Path) -> subprocess.CompletedProcess[str]:
    out.mkdir(exist_ok=True)
    (out / "trials.yaml").write_text(yaml.safe_dump(trials, sort_keys=False))
    data = ["--data", pictures, "--evaluation", pictures, "--pictures", "2", "--crops", "64"]
    command = [sys.executable, EXAMPLES / "trials.py", out / "trials.yaml", *data, "-o", out]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_stages_share_the_computation_and_go_on_from_one_another(pictures: Path, tmp_path: Path) -> None:
    done = attempt(TRIALS, pictures, tmp_path)
    assert done.returncode == 0, done.stderr
    outcomes = {
        name: json.loads((tmp_path / name / "outcome.json").read_text()) for name in ("base", "crops-that-grow")
    }
    assert outcomes["base"]["pictures"] == 64
    assert outcomes["crops-that-grow"]["pictures"] == 4 * 32 + 32  # half the computation on a quarter of the pixels
    first, second = (tmp_path / "crops-that-grow" / f"run-{stage}" for stage in (0, 1))
    assert yaml.safe_load((second / "recipe.yaml").read_text())["initial"] == str(first / "model")
    for basis in ("cosines", "components"):
        recipe = yaml.safe_load((tmp_path / basis / "run-0" / "recipe.yaml").read_text())
        assert recipe["initial"] == str(tmp_path / basis / "begin")
    first, second = (load_file(tmp_path / basis / "begin" / "model.safetensors") for basis in ("cosines", "components"))
    assert not torch.allclose(first["encoder.embed.weight"], second["encoder.embed.weight"], atol=1e-3)
    when = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/outcome.json")}
    assert attempt(TRIALS, pictures, tmp_path).returncode == 0
    assert when == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/outcome.json")}


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("both", ["batch=8", ["batch=4"]], "not of both"),
        ("long", ["pictures=4"], "cannot be chosen"),
        ("warm", [[], ["schedule.warm_up=4"]], "cannot be chosen"),
        ("also warm", ["schedule={warm_up: 4}"], "cannot be chosen"),
        ("late", [[], ["begin=cosines"]], "first stage"),
        ("twice", ["begin=cosines", "begin=components"], "one of"),
        ("..", [], "no name for a trial"),
    ],
)
def test_a_trial_that_cannot_be_is_refused(
    name: str, changes: list, words: str, pictures: Path, tmp_path: Path
) -> None:
    done = attempt({**TRIALS, "trials": {name: changes}}, pictures, tmp_path)
    assert done.returncode == 1
    assert words in done.stderr


def test_a_folder_of_something_else_is_left_alone(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").write_bytes(b"precious")
    done = attempt({**TRIALS, "trials": {"base": []}}, pictures, tmp_path)
    assert done.returncode == 1
    assert "something else" in done.stderr
    assert (tmp_path / "base" / "model.safetensors").read_bytes() == b"precious"


def test_the_first_product_is_a_cosine_transform(beginnings: ModuleType, tiny_tokenizer: Tokenizer) -> None:
    basis = beginnings.cosines(8)
    assert torch.allclose(basis @ basis.T, torch.eye(192), atol=1e-5)
    settings = tiny_tokenizer.settings
    norms = [tiny_tokenizer.encoder.embed.weight.norm(), tiny_tokenizer.decoder.to_patches[-1].weight.norm()]
    fresh = Tokenizer(settings)
    fresh.load_state_dict(tiny_tokenizer.state_dict())
    beginnings.begin_with(fresh, beginnings.cosines(fresh.patch))
    flat = patchify(torch.full((1, 3, 1, fresh.patch, fresh.patch), 0.5), fresh.patch)
    coefficients = fresh.encoder.embed(flat).flatten().detach().abs()
    assert coefficients.argmax() == 0
    assert coefficients[1 : 3 * fresh.patch**2].max() < 1e-5 * coefficients[0], "a grey patch is its brightness alone"
    again = [fresh.encoder.embed.weight.norm(), fresh.decoder.to_patches[-1].weight.norm()]
    assert torch.allclose(torch.stack(again), torch.stack(norms), rtol=1e-3)


def test_a_decoder_wider_than_the_encoder_has_even_cosines(beginnings: ModuleType, tiny_tokenizer: Tokenizer) -> None:
    given = tiny_tokenizer.settings
    sides = {"encoder": {"width": 32, "head_width": 32}, "decoder": {"width": 96, "head_width": 32}}
    wide = {side: getattr(given, side).model_copy(update=change) for side, change in sides.items()}
    model = Tokenizer(given.model_copy(update=wide))
    beginnings.begin_with(model, beginnings.cosines(model.patch))
    norms = model.decoder.to_patches[-1].weight.detach().norm(dim=0)[: 3 * model.patch**2]
    assert torch.allclose(norms, norms[:1].expand_as(norms))


def test_components_are_those_of_most_variance(beginnings: ModuleType) -> None:
    crops = torch.rand(4, 1, 1, 16, 16).expand(4, 3, 1, 16, 16) * 0.1 + torch.rand(4, 1, 1, 1, 1)
    basis = beginnings.components(crops, 4)
    assert torch.allclose(basis @ basis.T, torch.eye(48), atol=1e-5)
    patches = patchify(crops, 4).reshape(-1, 48)
    spread = (patches @ basis.T).var(0)
    assert (spread.diff() <= 1e-7).all()
    assert spread[16:].max() < 1e-6  # grey pictures have no more
