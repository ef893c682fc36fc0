"""`compile`: the same losses from a compiled tokenizer, with a discriminator that stays as it is."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from runs import losses, tiny

from bsq.losses.adversarial import squared_gradient
from bsq.losses.discriminators import PatchSettings, build_discriminator
from bsq.train import End, Start, run
from bsq.train.checkpoints import checkpoints

DISCRIMINATOR = {"kind": "patch", "width": 4, "layers": 2, "norm": "none"}
GAN = {"adversarial": {"kind": "adversarial", "discriminator": DISCRIMINATOR, "r1": {"every": 2}}}


def assert_compiled_is_plain(pictures: Path, out: Path, **changes: object) -> None:
    """Losses of both ways are close, and a run goes on from the other's checkpoint."""
    recipe = tiny(pictures, loss=GAN, pictures=16, keep_checkpoints=9, checkpoint_every=8, **changes)
    run(recipe, out / "plain")
    assert run(recipe.model_copy(update={"compile": "default"}), out / "compiled").end is End.FINISHED
    for plain, compiled in zip(losses(out / "plain"), losses(out / "compiled"), strict=True):
        assert plain.keys() == compiled.keys()
        for name in ("loss", "generator", "discriminator", "gradient_norm"):
            assert compiled[name] == pytest.approx(plain[name], rel=1e-3)
        assert compiled.get("r1") == pytest.approx(plain.get("r1"), rel=1e-2)
    checkpoints(out / "compiled" / "checkpoints")[-1].unlink()
    assert run(recipe, out / "compiled", Start.RESUME).steps == recipe.steps


def test_captured_graphs_learn_the_same(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiler behind them."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    recipe = tiny(pictures, pictures=8, nested=None, log_every=4)
    run(recipe, tmp_path / "plain")
    run(recipe.model_copy(update={"compile": "default"}), tmp_path / "compiled")
    for plain, compiled in zip(losses(tmp_path / "plain"), losses(tmp_path / "compiled"), strict=True):
        assert compiled["loss"] == pytest.approx(plain["loss"], rel=1e-5)


@pytest.mark.slow
def test_differentiated_graphs_learn_the_same(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    assert_compiled_is_plain(pictures, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_compiled_code_learns_the_same(pictures: Path, tmp_path: Path, recompute: bool) -> None:
    torch.compiler.reset()
    assert_compiled_is_plain(pictures, tmp_path, recompute=recompute)


def test_why_discriminators_are_not_compiled() -> None:
    """When this fails, `torch.compile` differentiates twice, and `Adversary` may hand it the network."""
    network = torch.compile(build_discriminator(PatchSettings(width=4, layers=1)), backend="aot_eager")
    pixels = torch.rand(2, 3, 1, 8, 8, requires_grad=True)
    with pytest.raises(RuntimeError, match="double backward"):
        squared_gradient(network(pixels), pixels).backward()


@pytest.mark.parametrize("enabled", [False, True])
def test_the_penalty_is_differentiated_twice_in_bfloat16_too(enabled: bool) -> None:
    torch.manual_seed(0)
    network = build_discriminator(PatchSettings(width=8, layers=2, norm="none"))
    pixels = torch.rand(2, 3, 1, 16, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        penalty = squared_gradient(network(pixels), pixels)
    penalty.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert penalty.dtype == torch.float32
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
