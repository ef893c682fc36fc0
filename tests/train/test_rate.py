"""Rate-aware training: what is counted are the bits of a file, gradients reach the code, resuming is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from pydantic import ValidationError
from runs import MODEL, assert_resumes_exactly, losses, tiny
from safetensors.torch import load_file
from torch import Tensor

import bsq
from bsq.codes import Codes
from bsq.data.loader import Batch
from bsq.data.stored import find_pictures
from bsq.prior.freeze import load_prior
from bsq.prior.lengths import digit_lengths
from bsq.quantizers import BSQ, LFQ, BsqSettings, FsqSettings, LfqSettings, build_quantizer
from bsq.train import Start, run
from bsq.train.adversary import Skipped
from bsq.train.rate import CodeRate, RateSettings
from bsq.train.recipe import Recipe
from bsq.train.trainer import Trainer

BITS = 8
SMALL = {"layer_digits": 3, "passes": (3, 2), "width": 16, "blocks": 1, "chain_width": 16}


def rate_aware(source: Path, **changes: Any) -> Recipe:
    return tiny(source, loss={"rate": {"weight": 0.01, **SMALL}}, **changes)


def counter(frames: int = 1, kind: type[BsqSettings | LfqSettings] = BsqSettings) -> tuple[CodeRate, BSQ | LFQ]:
    torch.manual_seed(0)
    quantizer = build_quantizer(kind(bits=BITS))
    assert isinstance(quantizer, BSQ | LFQ)
    rate = CodeRate(RateSettings(**SMALL), quantizer, frames)  # type: ignore[arg-type]
    for parameter in rate.prior.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return rate, quantizer


@pytest.mark.parametrize("kept", [BITS, 5, 3, 2])
def test_the_estimate_is_the_length_of_a_file_on_average(kept: int) -> None:
    rate, quantizer = counter()
    latent = torch.randn(1, 1, 6, 7, BITS)
    quantized = quantizer(latent.expand(64, -1, -1, -1, -1), torch.full((64,), kept))
    draw = np.random.default_rng(0)
    with torch.no_grad():
        samples = torch.cat([rate(quantized, torch.full((64,), kept), 1.0, draw) for _ in range(12)])
    file = Codes(quantized.digits[:1, ..., :kept], (2,) * kept)
    wanted = digit_lengths(rate.prior, file).sum() / 42
    error = float(samples.std()) / len(samples) ** 0.5
    assert float(samples.mean()) == pytest.approx(wanted, abs=4 * error + 1e-3)
    assert error < 0.05 * wanted


@pytest.mark.parametrize("kind", [BsqSettings, LfqSettings])
def test_a_step_against_the_gradient_makes_codes_cheaper(kind: type[BsqSettings | LfqSettings]) -> None:
    rate, quantizer = counter(kind=kind)
    latent = torch.randn(2, 1, 8, 8, BITS)

    def cost(at: Tensor) -> Tensor:
        return torch.stack([rate(quantizer(at), None, 1.0, np.random.default_rng(seed)).mean() for seed in range(16)])

    before = float(cost(latent).mean().detach())
    for _ in range(30):
        latent = latent.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cost(latent).mean(), latent)
        latent = latent - 20 * gradient
    assert float(cost(latent).mean().detach()) < 0.9 * before


def test_the_weight_reaches_the_code_and_not_the_prior() -> None:
    rate, quantizer = counter()
    gradients = []
    for weight in (1.0, 0.25):
        latent = torch.randn(2, 1, 4, 4, BITS, generator=torch.Generator().manual_seed(1)).requires_grad_()
        rate.zero_grad()
        rate(quantizer(latent), None, weight, np.random.default_rng(0)).mean().backward()
        assert latent.grad is not None
        assert rate.prior.window.weight.grad is not None
        gradients.append((latent.grad, rate.prior.window.weight.grad.clone()))
    torch.testing.assert_close(gradients[1][0], 0.25 * gradients[0][0])
    torch.testing.assert_close(gradients[1][1], gradients[0][1])


def test_digits_that_are_not_kept_cost_nothing_and_learn_nothing() -> None:
    rate, quantizer = counter()
    latent = torch.randn(2, 1, 4, 4, BITS, requires_grad=True)
    quantized = quantizer(latent, torch.tensor([2, 8]))
    (gradient,) = torch.autograd.grad(
        rate(quantized, torch.tensor([2, 8]), 1.0, np.random.default_rng(0))[0], quantized.quantized
    )
    assert gradient[0, ..., :2].abs().sum() > 0
    assert not gradient[0, ..., 2:].any()
    assert not gradient[1].any()


def test_a_frame_is_expected_from_the_one_before() -> None:
    rate, quantizer = counter(frames=2)
    latent = torch.randn(1, 3, 4, 4, BITS, requires_grad=True)
    quantized = quantizer(latent)
    (gradient,) = torch.autograd.grad(rate(quantized, None, 1.0, np.random.default_rng(0)).sum(), quantized.quantized)
    assert all(gradient[0, t].any() for t in range(3))


def test_a_run_counts_writes_its_prior_and_resumes_exactly(pictures: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    recipe = rate_aware(pictures)
    run(recipe, whole)
    assert all(0 < line["rate"] < 16 and {"rate@4", "rate@8"} <= line.keys() for line in losses(whole))

    tensors = assert_resumes_exactly(recipe, whole, tmp_path / "stopped")
    assert any(name.startswith("rate_optimizer1.") for name in tensors)

    exact = load_prior(whole / "model")
    assert exact.settings.radices == (2,) * BITS
    photo = find_pictures([pictures])[0].read()
    data = bsq.compress(photo, whole / "model", prior=exact)
    assert bsq.decompress(data, whole / "model", priors=[exact]).shape == (40, 48, 3)


def test_the_weight_changes_the_codes_and_zero_only_counts(pictures: Path, tmp_path: Path) -> None:
    ends = {}
    for name, loss in {"none": {}, "zero": {"weight": 0.0}, "some": {"weight": 0.05}}.items():
        rate = {"rate": {**SMALL, **loss}} if loss else {}
        run(tiny(pictures, loss=rate), tmp_path / name)
        ends[name] = load_file(tmp_path / name / "model" / "model.safetensors")
    assert all(torch.equal(ends["none"][key], ends["zero"][key]) for key in ends["none"])
    assert any(not torch.equal(ends["none"][key], ends["some"][key]) for key in ends["none"])


def test_a_skipped_step_leaves_the_prior_as_it_is(pictures: Path) -> None:
    trainer = Trainer(rate_aware(pictures), Accelerator(cpu=True))
    before = {name: tensor.clone() for name, tensor in trainer.rate.tensors().items()}
    batch = Batch(torch.zeros(4, 3, 1, 32, 32, dtype=torch.uint8), torch.arange(4), ())
    for parameter in trainer.tokenizer.decoder.parameters():
        parameter.data.fill_(torch.nan)
    assert isinstance(trainer.train_step([batch]), Skipped)
    after = trainer.rate.tensors()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_prior_that_cannot_be_written_does_not_cost_the_model(pictures: Path, tmp_path: Path) -> None:
    recipe = tiny(pictures, loss={"rate": {**SMALL, "learning_rate": 1e8, "rounded": 1.0}})
    with pytest.warns(UserWarning, match="cannot be written"):
        run(recipe, tmp_path / "run")
    assert bsq.load(str(tmp_path / "run" / "model")).radices == (2,) * BITS
    assert not (tmp_path / "run" / "model" / "prior.json").exists()


@pytest.mark.parametrize(
    ("wrong", "name"), [({"window": 4}, "window"), ({"width": 7}, "width"), ({"passes": ()}, "passes")]
)
def test_a_prior_that_cannot_be_is_named(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError, match=f"loss.rate.{name}"):
        tiny(Path("nowhere"), loss={"rate": SMALL | wrong})


def test_a_run_begun_without_the_rate_goes_on_without_it(pictures: Path, tmp_path: Path) -> None:
    run(tiny(pictures, pictures=16), tmp_path / "run")
    with pytest.raises(bsq.errors.SettingsError, match="rate"):
        run(rate_aware(pictures), tmp_path / "run", Start.RESUME)
    assert run(tiny(pictures), tmp_path / "run", Start.RESUME).pictures == 48


def test_other_digits_are_refused() -> None:
    model = MODEL | {"quantizer": {"kind": "fsq", "levels": [5, 5]}}
    with pytest.raises(ValidationError, match="binary digits"):
        tiny(Path("nowhere"), model=model, nested=None, loss={"rate": {}})
    with pytest.raises(bsq.errors.SettingsError, match="binary digits"):
        CodeRate(RateSettings(), build_quantizer(FsqSettings(levels=(5, 5))), 1)
