from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file

from bsq.errors import CheckpointError
from bsq.frozen.backbones import alexnet
from bsq.losses.perceptual import (
    LpipsLoss,
    LpipsSettings,
    NoPerceptualSettings,
    PerceptualSettings,
    perceptual_loss,
)


def test_lpips_as_a_loss() -> None:
    loss = perceptual_loss(LpipsSettings())
    reference = torch.rand(2, 3, 32, 40) * 2 - 1
    pixels = (reference + 0.2 * torch.randn_like(reference)).requires_grad_()
    value = loss(pixels, reference)
    value.backward()
    assert loss.weight == 0.1
    assert value.dtype == torch.float32
    assert isinstance(loss, LpipsLoss)
    assert value.item() == pytest.approx(loss.lpips.distance(pixels, reference).mean().item(), rel=1e-4)
    with torch.no_grad():
        assert loss(pixels - 0.5 * pixels.grad / pixels.grad.norm(), reference) < value


def test_in_bfloat16() -> None:
    loss = perceptual_loss(LpipsSettings())
    reference = torch.rand(1, 3, 2, 32, 32) * 2 - 1
    pixels = (reference + 0.2 * torch.randn_like(reference)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(pixels, reference)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(pixels, reference).item(), rel=0.05)
    assert bool(pixels.grad.isfinite().all())


def test_without() -> None:
    loss = perceptual_loss(NoPerceptualSettings())
    assert loss(torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)).item() == 0
    assert loss.weight == 0


def test_settings_count(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(
        {f"features.{name}": value for name, value in alexnet().state_dict().items()}, tmp_path / "alex.safetensors"
    )
    loss = perceptual_loss(LpipsSettings(network="alex", weights_file=tmp_path / "alex.safetensors", weight=0.5))
    assert isinstance(loss, LpipsLoss)
    assert (loss.lpips.network, loss.weight) == ("alex", 0.5)
    with pytest.raises(CheckpointError, match="no file"):
        perceptual_loss(LpipsSettings(weights_file=tmp_path / "absent"))


def test_kinds_are_told_apart() -> None:
    adapter = TypeAdapter(PerceptualSettings)
    assert adapter.validate_python({"kind": "none"}) == NoPerceptualSettings()
    assert adapter.validate_python({"kind": "lpips", "network": "vgg"}).network == "vgg"
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "lpips", "network": "resnet"})
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "none", "weight": 1})
