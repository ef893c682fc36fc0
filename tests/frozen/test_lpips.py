import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bsq.errors import CheckpointError, NumericsError, SettingsError, ShapeError
from bsq.frozen import Lpips, files, load_lpips, lpips
from bsq.frozen.backbones import alexnet, squeezenet, vgg16

FIXED_VALUE = 0.1492840  # LPIPS-squeeze of `fixed_pair` by the lpips package 0.1.4 (0.14928395) and by this one


def fixed_pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A pair of 64×64 pictures that is the same on every machine: waves, and the same waves shifted and quantized."""
    row = torch.arange(64, dtype=torch.float64)
    phase = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)[:, None, None]
    waves = torch.sin(row[None, :, None] / 5 + phase) * torch.cos(row[None, None, :] / 7 - phase)
    reference = waves[None]
    pixels = torch.round(waves.roll(1, -1) * 4)[None] / 4
    return pixels.float(), reference.float()


def test_squeeze_gives_the_stored_value() -> None:
    model = load_lpips("squeeze")
    assert model.distance(*fixed_pair()).item() == pytest.approx(FIXED_VALUE, rel=1e-4)
    assert model.distance(*reversed(fixed_pair())).item() == pytest.approx(FIXED_VALUE, rel=1e-4)


def test_layers_are_those_of_torchvision() -> None:
    assert sum(p.numel() for p in squeezenet().parameters()) == 722_496
    assert sum(p.numel() for p in alexnet().parameters()) == 2_469_696
    assert sum(p.numel() for p in vgg16().parameters()) == 14_714_688
    assert vgg16().taps == (3, 8, 15, 22, 29)
    assert vgg16()[28].weight.shape == (512, 512, 3, 3)


@pytest.mark.parametrize("network", ["squeeze", "alex", "vgg"])
def test_smallest_pictures(network: lpips.LpipsNetwork) -> None:
    model = Lpips(network)
    side = model.backbone.min_side
    assert model(torch.rand(1, 3, side, side), torch.rand(1, 3, side, side)).shape == (1,)
    with pytest.raises(ShapeError, match="sides of at least"):
        model(torch.rand(1, 3, side - 1, side), torch.rand(1, 3, side - 1, side))
    with pytest.raises((RuntimeError, ZeroDivisionError)):
        model.backbone.features(torch.rand(1, 3, side - 1, side))


def test_a_measure_does_not_depend_on_batch_and_order() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels, reference = (torch.rand(5, 3, 40, 48, generator=generator) * 2 - 1 for _ in range(2))
    model = load_lpips("squeeze")
    whole = model.distance(pixels, reference)
    order = [3, 0, 4, 1, 2]
    assert torch.equal(model.distance(pixels[order], reference[order]), whole[order])
    assert torch.allclose(model(pixels, reference), whole, rtol=1e-4)
    clip, clip_reference = (x.transpose(0, 1)[None] for x in (pixels, reference))
    assert torch.equal(model.distance(clip, clip_reference), whole)


def test_equal_and_black_pictures_have_finite_gradients() -> None:
    model = load_lpips("squeeze")
    pixels = torch.zeros(1, 3, 32, 32, requires_grad=True)
    distance = model(pixels, torch.zeros(1, 3, 32, 32))
    distance.sum().backward()
    assert distance.item() == 0
    assert pixels.grad is not None
    assert bool(pixels.grad.isfinite().all())


def test_stays_frozen() -> None:
    model = load_lpips("squeeze").train()
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_bad_pictures() -> None:
    model = Lpips("squeeze")
    with pytest.raises(ShapeError, match="differ in size"):
        model.distance(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 40))
    with pytest.raises(ShapeError, match="empty"):
        model.distance(torch.zeros(0, 3, 32, 32), torch.zeros(0, 3, 32, 32))
    with pytest.raises(NumericsError, match="NaN"):
        model.distance(torch.full((1, 3, 32, 32), math.nan), torch.zeros(1, 3, 32, 32))
    with pytest.raises(SettingsError, match="squeeze, alex, vgg"):
        load_lpips("resnet")  # type: ignore[arg-type]


def test_torchvision_and_lpips_names_load_alike(tmp_path: Path) -> None:
    """Random AlexNet weights under three layouts; values of such a network are not comparable with anything."""
    backbone = alexnet().state_dict()
    torchvision = {f"features.{name}": value for name, value in backbone.items()}
    torchvision["classifier.1.weight"] = torch.zeros(4, 4)
    torch.save(torchvision, tmp_path / "torchvision.pth")
    save_file({f"module.backbone.{name}": value for name, value in backbone.items()}, tmp_path / "ours.safetensors")
    slices = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
    theirs = {f"net.slice{slices[int(name.split('.')[0])]}.{name}": value for name, value in backbone.items()}
    torch.save(theirs, tmp_path / "lpips.pth")
    pair = fixed_pair()
    values = [
        load_lpips("alex", tmp_path / name).distance(*pair).item()
        for name in ("torchvision.pth", "ours.safetensors", "lpips.pth")
    ]
    assert values[0] == values[1] == values[2] > 0


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(3)}, tmp_path / "small.safetensors")
    with pytest.raises(CheckpointError, match="do not fit LPIPS-alex"):
        load_lpips("alex", tmp_path / "small.safetensors")
    (tmp_path / "text.pth").write_text("not tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_lpips("alex", tmp_path / "text.pth")
    with pytest.raises(CheckpointError, match="no file"):
        load_lpips("vgg", tmp_path / "absent.pth")


def test_missing_backbone_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError) as caught:
        load_lpips("vgg")
    message = str(caught.value)
    for words in ("vgg16-397923af.pth", "https://download.pytorch.org", str(tmp_path), "BSQ_WEIGHTS", "kind: none"):
        assert words in message


@pytest.mark.parametrize("network", ["squeeze", "alex", "vgg"])
def test_packaged_files_are_whole(network: str) -> None:
    assert files.find(lpips.HEADS[network]).parent == files.PACKAGED
