"""Several processes do what one does with the same global batch, whichever way they share the model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import losses, tiny
from safetensors.torch import load_file

import bsq
from bsq.train import write_recipe
from bsq.train.checkpoints import checkpoints
from bsq.train.recipe import Recipe

SCRIPT = """
import sys
from bsq.train import Start, load_recipe, run
run(load_recipe(sys.argv[1]), sys.argv[2], Start(sys.argv[3]))
"""
DISCRIMINATOR = {"kind": "patch", "width": 4, "layers": 2, "norm": "none"}  # batch norm differs between processes
PATCH = {"kind": "adversarial", "discriminator": DISCRIMINATOR, "r1": {"every": 3}}
SAME = ("loss", "reconstruction", "entropy", "psnr", "psnr@4", "gradient_norm")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def train(recipe: Recipe, out: Path, processes: int, start: str = "fresh") -> None:
    """`processes` of them, as `torchrun` would start them."""
    out.mkdir(exist_ok=True)
    path = out / "given.yaml"
    path.write_text(write_recipe(recipe))
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(path), str(out), start],
            env={**os.environ, **(shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {})},
            stderr=subprocess.PIPE,
        )
        for rank in range(processes)
    ]
    for process in started:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said.decode()


def assert_same_losses(one: list[dict[str, Any]], two: list[dict[str, Any]], names: tuple[str, ...] = SAME) -> None:
    assert len(one) == len(two) == 6
    for mine, theirs in zip(one, two, strict=True):
        assert mine.keys() == theirs.keys()
        for name in names:
            if name in mine:
                assert theirs[name] == pytest.approx(mine[name], rel=2e-3, abs=2e-5), (name, mine["step"])


def newest(out: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(out / "checkpoints")[-1])


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("adversarial", [{"kind": "none"}, PATCH, PATCH | {"weight": {"kind": "adaptive"}}])
def test_two_processes_are_one(pictures: Path, tmp_path: Path, adversarial: dict[str, object], parallel: str) -> None:
    loss = {"entropy": {"weight": 0.1, "start": 0.1}, "adversarial": adversarial}
    recipe = tiny(pictures, loss=loss, parallel=parallel)
    train(recipe, tmp_path / "one", 1)
    train(recipe, tmp_path / "two", 2)
    assert_same_losses(losses(tmp_path / "one"), losses(tmp_path / "two"))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_accumulate_as_one_does(pictures: Path, tmp_path: Path, parallel: str) -> None:
    """Two parts a process: gradients meet with the second. The entropy of the average code sees one part at a time."""
    recipe = tiny(pictures, parallel=parallel, batch=8, loss={"entropy": {"weight": 0, "start": 0}}, log_every=8)
    train(recipe.model_copy(update={"pictures": 48}), tmp_path / "one", 1)
    train(recipe.model_copy(update={"pictures": 48, "micro_batch": 2}), tmp_path / "two", 2)
    names = tuple(name for name in SAME if name != "entropy")
    assert_same_losses(losses(tmp_path / "one"), losses(tmp_path / "two"), names)


@pytest.mark.slow
@pytest.mark.parametrize("adversarial", [{"kind": "none"}, PATCH])
def test_a_shared_model_resumes_exactly(pictures: Path, tmp_path: Path, adversarial: dict[str, object]) -> None:
    recipe = tiny(pictures, parallel="fsdp", loss={"adversarial": adversarial}, keep_checkpoints=9)
    whole, again = tmp_path / "whole", tmp_path / "again"
    train(recipe, whole, 2)
    train(recipe, again, 2)
    for late in checkpoints(again / "checkpoints")[-2:]:
        late.unlink()
    train(recipe, again, 2, "resume")
    assert losses(again) == losses(whole)
    assert_equal_tensors(newest(again), newest(whole))
    averaged = bsq.load(str(again / "model")).state_dict()
    assert_equal_tensors(averaged, {name: newest(again)[f"ema.{name}"] for name in averaged})


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_any_number_of_processes(pictures: Path, tmp_path: Path) -> None:
    recipe = tiny(pictures, parallel="fsdp", loss={"adversarial": PATCH}, keep_checkpoints=9)
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    train(recipe, shared, 2)
    train(recipe, alone, 2)
    for late in checkpoints(alone / "checkpoints")[-2:]:
        late.unlink()
    train(recipe.model_copy(update={"parallel": "ddp"}), alone, 1, "resume")
    assert_same_losses(losses(shared), losses(alone))
    assert {name: tensor.shape for name, tensor in newest(alone).items()} == {
        name: tensor.shape for name, tensor in newest(shared).items()
    }


def assert_equal_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
