"""Steps within the backward pass: the weights of ordinary ones, no gradients left; what they cannot be used with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from runs import assert_resumes_exactly, losses, tiny
from safetensors.torch import load_file
from torch import Tensor, nn

from bsq.errors import SettingsError, TrainingError
from bsq.tokenizer import Tokenizer
from bsq.train import run, stepping
from bsq.train.checkpoints import checkpoints
from bsq.train.optimizers import AdamWSettings, MuonSettings, build_optimizers
from bsq.train.plan import plan_run
from bsq.train.stepping import AfterBackward, InBackward, choose_stepping

OPTIMIZERS = {"adamw": AdamWSettings(learning_rate=1e-2), "muon": MuonSettings(learning_rate=1e-2)}


class Net(nn.Module):
    """Two hidden matrices, one of which is used twice, and a weight that is not used at all."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.head = nn.Linear(8, 2)
        self.idle = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks[1](self.blocks[0](self.blocks[1](x)).tanh()))


def net() -> Net:
    return Net()


@pytest.fixture(params=[1, 50, 2**23])
def portion(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(stepping, "PORTION", request.param)
    return int(request.param)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_weights_and_norm_are_those_of_ordinary_steps(kind: str, portion: int) -> None:
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    one, other = net(), net()
    plain, optimizers = (build_optimizers(OPTIMIZERS[kind], model) for model in (one, other))
    ordinary, moving = AfterBackward(one.parameters(), plain, None), InBackward(other.parameters(), optimizers)
    for _ in range(3):
        one(x).square().mean().backward()
        norm = ordinary.finish()
        other(x).square().mean().backward()
        assert moving.finish() == pytest.approx(norm, rel=1e-5)
        assert all(parameter.grad is None for parameter in other.parameters())
        for mine, wanted in zip(other.parameters(), one.parameters(), strict=True):
            assert torch.equal(mine, wanted)


def test_few_gradients_are_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "PORTION", 1)
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(6)))
    InBackward(model.parameters(), build_optimizers(AdamWSettings(), model))
    there: list[int] = []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda _: there.append(sum(weight.grad is not None for weight in model.parameters()))
        )
    model(torch.ones(2, 4)).sum().backward()
    assert len(there) == 12
    assert max(there) <= 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradients_that_are_no_numbers_move_nothing(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "PORTION", 1)
    model = net()
    moving = InBackward(model.parameters(), build_optimizers(AdamWSettings(learning_rate=1e-2), model))
    before = [parameter.clone() for parameter in model.parameters()]
    (model(torch.ones(2, 8)).sum() * bad).backward()
    assert not math.isfinite(moving.finish())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    model(torch.ones(2, 8)).sum().backward()
    assert math.isfinite(moving.finish())
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "bf16, computed again": {"precision": "bf16", "recompute": True},
    "muon": {"optimizer": {"kind": "muon"}},
    "a judge of adaptive weight": {
        "loss": {
            "adversarial": {
                "kind": "adversarial",
                "discriminator": {"kind": "patch", "width": 4, "layers": 1},
                "weight": {"kind": "adaptive"},
            }
        }
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_gives_the_weights_of_an_ordinary_one(
    name: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "PORTION", 1)
    tensors, norms = [], []
    for flag in (False, True):
        out = tmp_path / str(flag)
        run(tiny(pictures, clip=None, step_in_backward=flag, **CHANGES[name]), out)
        tensors.append(load_file(checkpoints(out / "checkpoints")[-1]))
        norms.append([line["gradient_norm"] for line in losses(out)])
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_it_resumes_exactly(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "PORTION", 100)
    recipe = tiny(pictures, clip=None, step_in_backward=True)
    run(recipe, tmp_path / "whole")
    assert_resumes_exactly(recipe, tmp_path / "whole", tmp_path / "stopped")


def test_bad_steps_end_a_run(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "PORTION", 1)
    optimizer = {"kind": "adamw", "learning_rate": 1e30}
    with pytest.raises(TrainingError, match="gave no numbers"):
        run(tiny(pictures, clip=None, step_in_backward=True, optimizer=optimizer, most_bad_steps=2), tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "needs clip=null"),
        ({"clip": None, "micro_batch": 2}, "micro_batch=2 is not the batch"),
        ({"clip": None, "optimizer": {"kind": "schedule_free"}, "schedule": {"floor": 1.0}}, "counts its steps"),
    ],
)
def test_what_it_cannot_be_used_with_is_said(changes: dict[str, Any], words: str, pictures: Path) -> None:
    with pytest.raises(ValueError, match=words):
        tiny(pictures, step_in_backward=True, **changes)


def test_processes_that_share_gradients_refuse_it(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    with pytest.raises(SettingsError, match="before 2 processes"):
        choose_stepping(tiny(pictures, clip=None, step_in_backward=True), net(), [], Accelerator(cpu=True))


def test_weights_of_other_portions_move_where_one_gradient_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "PORTION", 1)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    before = [parameter.clone() for parameter in model.parameters()]
    moving = InBackward(model.parameters(), build_optimizers(AdamWSettings(learning_rate=1e-2), model))
    model[0].weight.register_hook(lambda gradient: gradient * math.nan)
    model(torch.ones(2, 4)).sum().backward()
    assert math.isnan(moving.finish())
    moved = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert moved == [False, True, True, True]


def test_a_plan_counts_the_gradients_that_wait(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "PORTION", 1_000)
    plain, moving = (plan_run(tiny(pictures, clip=None, step_in_backward=flag)) for flag in (False, True))
    largest = max(p.numel() for p in Tokenizer(tiny(pictures).model).parameters())
    assert plain.state_bytes - moving.state_bytes == 4 * (plain.parameters - 1_000 - largest)
