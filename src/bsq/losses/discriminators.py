"""Networks that tell pictures from reconstructions. What enters: pixels in [−1, 1]. What leaves: logits, > 0 for real.

Every operation is plain PyTorch that can be differentiated twice, as the R1 penalty needs. `torch.compile` cannot
differentiate twice: leave discriminators uncompiled.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from bsq.errors import SettingsError, ShapeError
from bsq.settings import Settings

SLOPE = 0.2
BLUR = (1.0, 3.0, 3.0, 1.0)


class EqualizedConv(nn.Module):
    """Convolution with N(0, 1) weights that are scaled by 1/√fan-in at run time (equalized learning rate).

    Works on pictures (two axes) and clips (three). Along the axes in `halved` (−1 is width) the input is first blurred
    and every second sample is kept, so that nothing aliases (arXiv:1912.04958); other axes keep their length.
    """

    def __init__(
        self, inside: int, outside: int, size: int, axes: int, halved: tuple[int, ...] = (), bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outside, inside, *[size] * axes))
        self.bias = nn.Parameter(torch.zeros(outside)) if bias else None
        self.scale = 1 / math.sqrt(inside * size**axes)
        self.halved = halved
        positions = range(-axes, 0)
        # a 1×1 kernel commutes with the subsampling, which is then done while blurring
        self.blur_padding, self.blur_stride = (1, 2) if size == 1 else (size // 2 + 1, 1)
        self.stride = tuple(2 if axis in halved and size > 1 else 1 for axis in positions)
        self.padding = tuple(0 if axis in halved else size // 2 for axis in positions)

    def forward(self, hidden: Tensor) -> Tensor:
        for axis in self.halved:
            hidden = blur(hidden, axis, self.blur_padding, self.blur_stride)
        convolve = F.conv2d if len(self.stride) == 2 else F.conv3d
        if convolve is F.conv2d or hidden.device.type != "cpu":
            return convolve(hidden, self.weight * self.scale, self.bias, self.stride, self.padding)
        # The CPU's gradient of a bfloat16 conv3d's weight is partly memory that nobody wrote to (torch 2.13, oneDNN; 16
        # channels and 2 frames or more): numbers up to 1e30 now and then, and other wrong ones often.
        with torch.autocast("cpu", enabled=False):
            hidden = hidden.to(self.weight.dtype)
            return convolve(hidden, self.weight * self.scale, self.bias, self.stride, self.padding)


class EqualizedLinear(nn.Module):
    """Linear layer with equalized learning rate."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outside, inside))
        self.bias = nn.Parameter(torch.zeros(outside))
        self.scale = 1 / math.sqrt(inside)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.weight * self.scale, self.bias)


def blur(hidden: Tensor, axis: int, padding: int, stride: int) -> Tensor:
    """Filters one axis with 1 3 3 1, zero-padded on both sides; length n becomes (n + 2·padding − 4) // stride + 1."""
    rows = F.pad(hidden.movedim(axis, -1), (padding, padding))
    end = (rows.shape[-1] - len(BLUR)) // stride * stride + 1
    parts = [rows[..., i : i + end : stride] * (tap / sum(BLUR)) for i, tap in enumerate(BLUR)]
    return (parts[0] + parts[1] + parts[2] + parts[3]).movedim(-1, axis)


def leaky(hidden: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance of its input."""
    return F.leaky_relu(hidden, SLOPE) * math.sqrt(2)


class ResidualBlock(nn.Module):
    """Two 3-wide convolutions beside a 1-wide one, both halving the axes in `halved`."""

    def __init__(self, inside: int, outside: int, axes: int, halved: tuple[int, ...]) -> None:
        super().__init__()
        self.first = EqualizedConv(inside, inside, 3, axes)
        self.second = EqualizedConv(inside, outside, 3, axes, halved)
        self.skip = EqualizedConv(inside, outside, 1, axes, halved, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        main = leaky(self.second(leaky(self.first(hidden))))
        return (main + self.skip(hidden)) * math.sqrt(0.5)


class MinibatchDeviation(nn.Module):
    """Appends one channel: the standard deviation of the features over a group of pictures, averaged.

    The group is the largest divisor of the batch that is at most `group`. At least float32 whatever autocast says.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, hidden: Tensor) -> Tensor:
        batch = len(hidden)
        group = next(size for size in range(min(self.group, batch), 0, -1) if batch % size == 0)
        precise = torch.promote_types(hidden.dtype, torch.float32)
        grouped = hidden.to(precise).reshape(group, batch // group, -1)
        variance = (grouped - grouped.mean(0)).square().mean(0)
        deviation = (variance + 1e-8).sqrt().mean(1).repeat(group)
        channel = deviation.to(hidden.dtype).view(batch, *[1] * (hidden.ndim - 1))
        return torch.cat([hidden, channel.expand(batch, 1, *hidden.shape[2:])], 1)


class StyleGan2Settings(Settings):
    """StyleGAN2's residual discriminator for square pictures; clips are judged frame by frame."""

    kind: Literal["stylegan2"] = "stylegan2"
    resolution: PositiveInt = 256  # side of the pictures, a power of two from 8
    channel_base: PositiveInt = 32768  # channels at side s are base / s, at most channel_max
    channel_max: PositiveInt = 512
    minibatch_group: PositiveInt = 4

    @field_validator("resolution")
    @classmethod
    def _resolution(cls, side: int) -> int:
        return _power_of_two(side, 8)


class ClipStyleGan2Settings(StyleGan2Settings):
    """The same with 3-D convolutions for clips; time is halved with space until one frame is left."""

    kind: Literal["stylegan2_clip"] = "stylegan2_clip"  # type: ignore[assignment]
    resolution: PositiveInt = 128
    frames: PositiveInt = 16  # a power of two

    @field_validator("frames")
    @classmethod
    def _frames(cls, frames: int) -> int:
        return _power_of_two(frames, 1)


class StyleGan2Discriminator(nn.Module):
    """Residual blocks down to 4×4, minibatch deviation, a convolution, two linear layers (arXiv:1912.04958)."""

    def __init__(self, settings: StyleGan2Settings) -> None:
        super().__init__()
        self.settings = settings
        frames = settings.frames if isinstance(settings, ClipStyleGan2Settings) else None
        axes = 2 if frames is None else 3
        side = settings.resolution
        width = _width(settings, side)
        self.from_rgb = EqualizedConv(3, width, 1, axes)
        self.blocks = nn.ModuleList()
        while side > 4:
            side //= 2
            halved: tuple[int, ...] = (-1, -2)
            if frames is not None and frames > 1:
                frames //= 2
                halved = (-1, -2, -3)
            self.blocks.append(ResidualBlock(width, _width(settings, side), axes, halved))
            width = _width(settings, side)
        self.deviation = MinibatchDeviation(settings.minibatch_group)
        self.last_conv = EqualizedConv(width + 1, width, 3, axes)
        self.hidden = EqualizedLinear(width * side**2 * (frames or 1), width)
        self.logit = EqualizedLinear(width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) → logits (B,); (B, 3, T, H, W) → (B·T,) frame by frame, or (B,) for the 3-D variant."""
        hidden = leaky(self.from_rgb(self._inputs(pixels)))
        for block in self.blocks:
            hidden = block(hidden)
        hidden = leaky(self.last_conv(self.deviation(hidden)))
        return self.logit(leaky(self.hidden(hidden.flatten(1)))).squeeze(1)

    def _inputs(self, pixels: Tensor) -> Tensor:
        side = self.settings.resolution
        match self.settings:
            case ClipStyleGan2Settings(frames=frames):
                wanted: tuple[int, ...] = (3, frames, side, side)
            case _:
                pixels, wanted = _frames_apart(pixels), (3, side, side)
        if tuple(pixels.shape[1:]) != wanted:
            raise ShapeError(f"the discriminator takes pixels (B, {str(wanted)[1:]}, got {tuple(pixels.shape)}")
        return pixels


class PatchSettings(Settings):
    """PatchGAN (arXiv:1611.07004) as in VQGAN; one logit for each patch of 70 pixels at three layers.

    Batch norm takes the statistics of each process alone; with several processes `none` is exact.
    """

    kind: Literal["patch"] = "patch"
    width: PositiveInt = 64
    layers: PositiveInt = 3  # halvings after the first
    norm: Literal["batch", "none"] = "batch"

    @property
    def min_side(self) -> int:
        """The shortest side that leaves a logit."""
        return 3 * 2**self.layers


class PatchDiscriminator(nn.Module):
    """Fully convolutional: pictures of any size; clips are judged frame by frame."""

    def __init__(self, settings: PatchSettings) -> None:
        super().__init__()
        self.min_side = settings.min_side
        inside = settings.width
        layers: list[nn.Module] = [nn.Conv2d(3, inside, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for number in range(1, settings.layers + 1):
            outside = settings.width * min(2**number, 8)
            stride = 1 if number == settings.layers else 2
            layers += [
                nn.Conv2d(inside, outside, 4, stride, 1, bias=settings.norm == "none"),
                *([nn.BatchNorm2d(outside)] if settings.norm == "batch" else []),
                nn.LeakyReLU(SLOPE),
            ]
            inside = outside
        self.layers = nn.Sequential(*layers, nn.Conv2d(inside, 1, 4, 1, 1))
        self.apply(_initialize_patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) or (B, 3, T, H, W) → logits (B·T, 1, h, w)."""
        pictures = _frames_apart(pixels)
        if min(pictures.shape[-2:]) < self.min_side:
            raise ShapeError(f"the discriminator takes sides of at least {self.min_side}, got {tuple(pixels.shape)}")
        return self.layers(pictures)


AnyDiscriminator = StyleGan2Settings | ClipStyleGan2Settings | PatchSettings
DiscriminatorSettings = Annotated[AnyDiscriminator, Field(discriminator="kind")]


def build_discriminator(settings: AnyDiscriminator) -> nn.Module:
    """The network that `settings` describe, with random weights."""
    match settings:
        case StyleGan2Settings():
            return StyleGan2Discriminator(settings)
        case PatchSettings():
            return PatchDiscriminator(settings)
        case _:
            raise SettingsError(f"no discriminator for {settings!r}")


def _frames_apart(pixels: Tensor) -> Tensor:
    if pixels.ndim not in (4, 5) or pixels.shape[1] != 3 or 0 in pixels.shape:
        raise ShapeError(f"expected pixels (B, 3, H, W) or (B, 3, T, H, W), got {tuple(pixels.shape)}")
    return pixels.transpose(1, 2).flatten(0, 1) if pixels.ndim == 5 else pixels


def _width(settings: StyleGan2Settings, side: int) -> int:
    return min(max(settings.channel_base // side, 1), settings.channel_max)


def _power_of_two(value: int, least: int) -> int:
    if value < least or value & (value - 1):
        raise ValueError(f"must be a power of two from {least}, got {value}")
    return value


def _initialize_patch(layer: nn.Module) -> None:
    match layer:
        case nn.Conv2d():
            nn.init.normal_(layer.weight, 0, 0.02)
        case nn.BatchNorm2d():
            nn.init.normal_(layer.weight, 1, 0.02)
        case _:
            pass
