"""DALL·E's discrete VAE. What enters: pictures in 0 … 1. What leaves: one of 8192 codes for every 8×8 pixels, and back.

Ramesh et al. 2021 (arXiv:2102.12092), in the released code's layout and names, so that its tensors load strictly:
"blocks.group_1.block_1.res_path.conv_1.w". Sizes are arguments only so that tests can make small ones.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 0.1  # pixels are squeezed into ε … 1 − ε, since the released loss has poles at both ends
GROUPS, BLOCKS = 4, 2
STRIDE = 8


class Conv(nn.Module):
    """A convolution that keeps the size; its tensors are called w and b."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(outputs, inputs, side, side) * (inputs * side**2) ** -0.5)
        self.b = nn.Parameter(torch.zeros(outputs))
        self.padding = (side - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.w, self.b, padding=self.padding)


class ResidualBlock(nn.Module):
    """x (or its 1×1 convolution) + four convolutions of these sides / layers²."""

    def __init__(self, inputs: int, outputs: int, sides: tuple[int, int, int, int]) -> None:
        super().__init__()
        inner = outputs // 4
        widths = [(inputs, inner), (inner, inner), (inner, inner), (inner, outputs)]
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for number, ((width, wider), side) in enumerate(zip(widths, sides, strict=True), 1):
            parts[f"relu_{number}"] = nn.ReLU()
            parts[f"conv_{number}"] = Conv(width, wider, side)
        self.id_path = nn.Identity() if inputs == outputs else Conv(inputs, outputs, 1)
        self.res_path = nn.Sequential(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.id_path(x) + self.res_path(x) / (GROUPS * BLOCKS) ** 2


class DalleEncoder(nn.Module):
    """Pixels (B, 3, H, W) in ε … 1 − ε → logits (B, vocabulary, H / 8, W / 8)."""

    def __init__(self, width: int = 256, vocabulary: int = 8192) -> None:
        super().__init__()
        widths = (width, width, 2 * width, 4 * width, 8 * width)
        parts: OrderedDict[str, nn.Module] = OrderedDict(input=Conv(3, width, 7))
        for number in range(GROUPS):
            end = ("pool", nn.MaxPool2d(2)) if number < GROUPS - 1 else None
            parts[f"group_{number + 1}"] = _group(widths[number], widths[number + 1], (3, 3, 3, 1), end)
        parts["output"] = nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=Conv(8 * width, vocabulary, 1)))
        self.blocks = nn.Sequential(parts)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.blocks(pixels)


class DalleDecoder(nn.Module):
    """One-hot codes (B, vocabulary, h, w) → (B, 6, 8h, 8w): means and scales of a logit-Laplace distribution."""

    def __init__(self, width: int = 256, vocabulary: int = 8192, entry: int = 128) -> None:
        super().__init__()
        widths = (entry, 8 * width, 4 * width, 2 * width, width)
        parts: OrderedDict[str, nn.Module] = OrderedDict(input=Conv(vocabulary, entry, 1))
        for number in range(GROUPS):
            end = ("upsample", nn.Upsample(scale_factor=2, mode="nearest")) if number < GROUPS - 1 else None
            parts[f"group_{number + 1}"] = _group(widths[number], widths[number + 1], (1, 3, 3, 3), end)
        parts["output"] = nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=Conv(width, 6, 1)))
        self.blocks = nn.Sequential(parts)

    def forward(self, codes: Tensor) -> Tensor:
        return self.blocks(codes)


class DalleVae(nn.Module):
    """Both, with the mapping of pixels that the released notebook uses."""

    def __init__(self, encoder: DalleEncoder, decoder: DalleDecoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.vocabulary = decoder.get_parameter("blocks.input.w").shape[1]

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in 0 … 1, sides multiples of 8 → codes int64 (B, H / 8, W / 8)."""
        return self.encoder(pictures * (1 - 2 * EPSILON) + EPSILON).argmax(1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Mirror of `encode`."""
        chosen = F.one_hot(codes, self.vocabulary).permute(0, 3, 1, 2).float()
        means = torch.sigmoid(self.decoder(chosen)[:, :3])
        return ((means - EPSILON) / (1 - 2 * EPSILON)).clamp(0, 1)


def _group(
    inputs: int, outputs: int, sides: tuple[int, int, int, int], end: tuple[str, nn.Module] | None
) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(BLOCKS):
        parts[f"block_{number + 1}"] = ResidualBlock(inputs if number == 0 else outputs, outputs, sides)
    if end is not None:
        parts[end[0]] = end[1]
    return nn.Sequential(parts)
