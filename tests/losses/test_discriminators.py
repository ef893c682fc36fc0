import math

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from bsq.errors import ShapeError
from bsq.losses.discriminators import (
    ClipStyleGan2Settings,
    EqualizedConv,
    MinibatchDeviation,
    PatchSettings,
    StyleGan2Settings,
    blur,
    build_discriminator,
)

SMALL = StyleGan2Settings(resolution=16, channel_base=128, channel_max=16)
SMALL_CLIP = ClipStyleGan2Settings(resolution=16, frames=4, channel_base=128, channel_max=16)


def test_published_sizes() -> None:
    """Parameters of the StyleGAN2 residual discriminator at 256 px with channel base 32768: 28,864,129 as published."""
    with torch.device("meta"):
        network = build_discriminator(StyleGan2Settings())
    assert sum(p.numel() for p in network.parameters()) == 28_864_129


def test_blur_is_a_convolution_with_1_3_3_1() -> None:
    pixels = torch.randn(2, 3, 9, 12, dtype=torch.float64)
    taps = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 8
    for padding, stride in ((2, 1), (1, 2)):
        kernel = taps.view(1, 1, 1, 4).expand(3, 1, 1, 4)
        wanted = F.conv2d(pixels, kernel, stride=(1, stride), padding=(0, padding), groups=3)
        assert torch.allclose(blur(pixels, -1, padding, stride), wanted)
        wanted = F.conv2d(pixels, kernel.transpose(2, 3), stride=(stride, 1), padding=(padding, 0), groups=3)
        assert torch.allclose(blur(pixels, -2, padding, stride), wanted)


@pytest.mark.parametrize("size", [1, 3])
def test_a_halving_convolution_keeps_constants_and_places(size: int) -> None:
    """With a kernel of ones a ramp stays a ramp of twice the slope, away from the borders, and moves by no sample."""
    layer = EqualizedConv(1, 1, size, axes=2, halved=(-1, -2))
    layer.weight.data.fill_(1 / size**2)
    layer.scale = 1.0
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    halved = layer(ramp)[0, 0]
    assert halved.shape == (8, 8)
    assert torch.allclose(halved[3, 2:6], 2 * torch.arange(2.0, 6) + 0.5)
    assert torch.allclose(layer(ramp.transpose(2, 3))[0, 0, 3, 3], halved[3, 3])  # sums may run in another order


def test_weights_are_equalized() -> None:
    layer = EqualizedConv(64, 64, 3, axes=2)
    outputs = layer(torch.randn(2, 64, 16, 16))[:, :, 1:-1, 1:-1]
    assert layer.weight.std().item() == pytest.approx(1, abs=0.02)
    assert outputs.std().item() == pytest.approx(1, abs=0.1)


def test_minibatch_deviation() -> None:
    features = torch.randn(8, 3, 4, 4)
    channel = MinibatchDeviation(4)(features)[:, 3]
    for first in range(2):
        members = features[first::2]
        expected = members.var(0, unbiased=False).add(1e-8).sqrt().mean()
        assert torch.allclose(channel[first::2], expected.expand(4, 4, 4), atol=1e-6)
    assert MinibatchDeviation(4)(features[:7]).shape == (7, 4, 4, 4)


@pytest.mark.parametrize(
    ("settings", "shape", "logits"),
    [
        (SMALL, (3, 3, 16, 16), (3,)),
        (SMALL, (2, 3, 5, 16, 16), (10,)),
        (SMALL_CLIP, (3, 3, 4, 16, 16), (3,)),
        (PatchSettings(width=4), (2, 3, 40, 32), (2, 1, 3, 2)),
        (PatchSettings(width=4, layers=1, norm="none"), (1, 3, 2, 8, 6), (2, 1, 2, 1)),
    ],
)
def test_shapes_and_gradients_to_every_weight(settings: PatchSettings, shape: tuple, logits: tuple) -> None:
    network = build_discriminator(settings)
    output = network(torch.randn(shape))
    assert output.shape == logits
    output.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name


def test_every_setting_of_the_networks_counts() -> None:
    def size(settings: PatchSettings | StyleGan2Settings) -> int:
        return sum(p.numel() for p in build_discriminator(settings).parameters())

    for changed in ({"resolution": 32}, {"channel_base": 64}, {"channel_max": 8}):
        assert size(SMALL.model_copy(update=changed)) != size(SMALL)
    assert build_discriminator(SMALL.model_copy(update={"minibatch_group": 2})).deviation.group == 2
    patch = PatchSettings(width=4)
    for changed in ({"width": 8}, {"layers": 2}, {"norm": "none"}):
        assert size(patch.model_copy(update=changed)) != size(patch)
    longer = SMALL_CLIP.model_copy(update={"frames": 8})
    assert build_discriminator(longer)(torch.zeros(1, 3, 8, 16, 16)).shape == (1,)


def test_the_clip_network_sees_time() -> None:
    network = build_discriminator(SMALL_CLIP)
    clip = torch.randn(1, 3, 4, 16, 16)
    assert not math.isclose(network(clip).item(), network(clip.flip(2)).item(), rel_tol=1e-3)


def test_wrong_pixels_and_settings() -> None:
    with pytest.raises(ShapeError, match="3, 16, 16"):
        build_discriminator(SMALL)(torch.zeros(1, 3, 16, 24))
    with pytest.raises(ShapeError, match="3, 4, 16, 16"):
        build_discriminator(SMALL_CLIP)(torch.zeros(1, 3, 2, 16, 16))
    with pytest.raises(ShapeError, match="at least 24"):
        build_discriminator(PatchSettings(width=4))(torch.zeros(1, 3, 16, 32))
    with pytest.raises(ShapeError, match="expected pixels"):
        build_discriminator(PatchSettings(width=4))(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValidationError, match="power of two"):
        StyleGan2Settings(resolution=100)
    with pytest.raises(ValidationError, match="power of two"):
        ClipStyleGan2Settings(frames=6)
