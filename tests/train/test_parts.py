"""Schedules, averages, optimizers, objective: each setting of theirs changes what it says."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from torch import nn

from bsq.errors import MissingDependencyError, SettingsError
from bsq.tokenizer import Tokenizer
from bsq.train.ema import Ema, EmaSettings
from bsq.train.objective import LossSettings, NestedSettings, TokenizerObjective, draw_kept
from bsq.train.optimizers import AdamWSettings, MuonSettings, ScheduleFreeSettings, build_optimizers, set_learning_rate
from bsq.train.parallel import choose_parallel
from bsq.train.schedule import RampSettings, ScheduleSettings, learning_rate_factor, ramped


def test_schedule_of_the_paper() -> None:
    # Warm-up over 5 K steps of 256 from 0.1, cosine to one half at 1 M steps (PAPER: training recipe).
    paper = ScheduleSettings(warm_up=5_000 * 256, start=0.1, floor=0.5, horizon=1_000_000 * 256)
    factors = {
        step: learning_rate_factor(paper, step * 256, 10**12) for step in (0, 2_500, 5_000, 502_500, 10**6, 2 * 10**6)
    }
    expected = {0: 0.1, 2_500: 0.55, 5_000: 1.0, 502_500: 0.75, 10**6: 0.5, 2 * 10**6: 0.5}
    assert factors == pytest.approx(expected)


def test_the_horizon_is_the_end_unless_given() -> None:
    assert learning_rate_factor(ScheduleSettings(floor=0.1), 1_000, 1_000) == pytest.approx(0.1)
    assert learning_rate_factor(ScheduleSettings(floor=0.1, horizon=500), 500, 1_000) == pytest.approx(0.1)


def test_ramp() -> None:
    settings = RampSettings(weight=0.1, start=0.3, ramp=100)
    assert [ramped(settings, seen) for seen in (0, 50, 100, 1_000)] == pytest.approx([0.3, 0.2, 0.1, 0.1])
    assert ramped(RampSettings(weight=0.1, start=0.3), 0) == 0.1


def test_average_follows_its_decay() -> None:
    model = nn.Linear(2, 2)
    slow, fast = Ema(model, EmaSettings(decay=0.9)), Ema(model, EmaSettings(decay=0.5))
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    for ema in (slow, fast):
        ema.update(model, step=10_000)
    assert torch.allclose(slow.model.weight, before + 0.1)
    assert torch.allclose(fast.model.weight, before + 0.5)
    slow.update(model, step=0)
    assert torch.allclose(slow.model.weight, before + 0.91), "the first steps forget the start"


def test_average_starts_late_and_takes_every_third() -> None:
    model, seen = nn.Linear(1, 1), []
    ema = Ema(model, EmaSettings(decay=0.5, every=3, start=80), batch=16)  # from step 5 on
    for step in range(9):
        nn.init.constant_(model.weight, step)
        ema.update(model, step)
        seen.append(ema.model.weight.item())
    assert seen[:6] == pytest.approx([0, 1, 2, 3, 4, 5 - 0.1]), "the model itself, then a tenth of what it was"
    assert seen[6:] == pytest.approx([4.9, 4.9, 8 - (8 - 4.9) * 0.125])


def test_the_average_has_the_current_buffers() -> None:
    model = nn.BatchNorm1d(3)
    ema = Ema(model, EmaSettings())
    model(torch.randn(8, 3))
    ema.update(model, 5)
    assert torch.equal(ema.model.running_mean, model.running_mean)  # type: ignore[arg-type]


def test_muon_takes_the_matrices_of_blocks_and_nothing_else(tiny_tokenizer: Tokenizer) -> None:
    settings = MuonSettings(learning_rate=0.1, rest=AdamWSettings(learning_rate=0.2))
    hidden, rest = build_optimizers(settings, tiny_tokenizer)
    ours = {id(p) for group in hidden.param_groups for p in group["params"]}
    theirs = {id(p) for group in rest.param_groups for p in group["params"]}
    assert not ours & theirs
    assert ours | theirs == {id(p) for p in tiny_tokenizer.parameters()}
    names = {name for name, p in tiny_tokenizer.named_parameters() if id(p) in ours}
    assert names == {
        f"{half}.body.blocks.0.{part}.weight"
        for half in ("encoder", "decoder")
        for part in ("attention.qkv", "attention.out", "mlp.up", "mlp.down")
    }
    set_learning_rate([hidden, rest], 0.5)
    assert {group["lr"] for group in hidden.param_groups} == {0.05}
    assert {group["lr"] for group in rest.param_groups} == {0.1}


def test_settings_reach_the_optimizers(tiny_tokenizer: Tokenizer) -> None:
    settings = AdamWSettings(learning_rate=0.3, betas=(0.5, 0.6), epsilon=1e-3, weight_decay=0.2)
    (adamw,) = build_optimizers(settings, tiny_tokenizer)
    matrices, vectors = adamw.param_groups
    assert (matrices["lr"], matrices["betas"], matrices["eps"], matrices["weight_decay"]) == (
        0.3,
        (0.5, 0.6),
        1e-3,
        0.2,
    )
    assert vectors["weight_decay"] == 0
    (muon, _) = build_optimizers(MuonSettings(momentum=0.8, weight_decay=0.3), tiny_tokenizer)
    assert (muon.param_groups[0]["momentum"], muon.param_groups[0]["weight_decay"]) == (0.8, 0.3)


def test_schedule_free_descends_at_a_steady_rate(tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("schedulefree")
    torch.manual_seed(0)
    target, model = torch.randn(8), nn.Linear(1, 8)
    optimizers = build_optimizers(ScheduleFreeSettings(learning_rate=0.1, weight_decay=0.0), model)
    for _ in range(200):
        (model(torch.ones(1)) - target + 0.3 * torch.randn(8)).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert (model(torch.ones(1)) - target).abs().max() < 0.15, "noise is averaged away without a falling rate"
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(MissingDependencyError, match=r"bsq\[train\]"):
        build_optimizers(ScheduleFreeSettings(), tiny_tokenizer)


def test_muon_needs_a_newer_torch(tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(MissingDependencyError, match=r"2\.9"):
        build_optimizers(MuonSettings(), tiny_tokenizer)


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_a_launcher_with_a_way_of_its_own_is_refused(kind: str) -> None:
    with pytest.raises(SettingsError, match=f"asks for {kind}; .* parallel=fsdp"):
        choose_parallel("ddp", SimpleNamespace(distributed_type=DistributedType[kind]))  # type: ignore[arg-type]


def test_kept_digits_depend_on_position_and_seed_alone() -> None:
    settings = NestedSettings(choices=(2, 4, 8))
    whole = draw_kept(settings, 0, torch.arange(300))
    assert torch.equal(whole[100:103], draw_kept(settings, 0, torch.arange(100, 103)))
    assert not torch.equal(whole, draw_kept(settings, 1, torch.arange(300)))
    assert all(70 < int((whole == k).sum()) < 130 for k in settings.choices)


@pytest.mark.parametrize("term", ["entropy", "commitment", "codebook", "kl"])
def test_each_weight_weighs_its_term(tiny_tokenizer: Tokenizer, term: str) -> None:
    pixels = torch.rand(2, 3, 1, 16, 16) * 2 - 1
    again = tiny_tokenizer(pixels)
    # Quantizers have some of the terms only; here all of them have a value.
    values = {
        name: torch.tensor(float(i + 1), requires_grad=True)
        for i, name in enumerate(("entropy", "commitment", "codebook", "kl"))
    }
    terms = dataclasses.replace(again.quantized.terms, **values)
    again = dataclasses.replace(again, quantized=dataclasses.replace(again.quantized, terms=terms))
    none = {"entropy": {"weight": 0.0, "start": 0.0}, "commitment": 0.0, "codebook": 0.0, "kl": 0.0}
    weighed = none | {term: {"weight": 0.5} if term == "entropy" else 0.5}
    losses = [
        TokenizerObjective(LossSettings.model_validate(settings))(again, pixels, seen=0).loss
        for settings in (none, weighed)
    ]
    assert float((losses[1] - losses[0]).detach()) == pytest.approx(0.5 * float(values[term].detach()), abs=1e-5)
