"""Feature networks of LPIPS as plain layers. What enters: normalised RGB. What leaves: features after each stage.

Layers are numbered as in torchvision's `features`, so its weights load by name: SqueezeNet 1.1 (arXiv:1602.07360),
AlexNet in its one-column form (arXiv:1404.5997), VGG16 without batch norm (arXiv:1409.1556).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Fire(nn.Module):
    """Squeeze to few channels, expand by 1×1 and 3×3 convolutions side by side."""

    def __init__(self, width: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        squeezed = self.squeeze(hidden).relu()
        return torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], 1).relu()


class Backbone(nn.Sequential):
    """Layers, and after which of them features are read."""

    def __init__(self, layers: list[nn.Module], taps: tuple[int, ...], widths: tuple[int, ...], min_side: int) -> None:
        super().__init__(*layers)
        self.taps = taps
        self.widths = widths
        self.min_side = min_side

    def features(self, pictures: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → one (B, width, h, w) a tap."""
        found = []
        hidden = pictures
        for number, layer in enumerate(self):
            hidden = layer(hidden)
            if number in self.taps:
                found.append(hidden)
        return found


def squeezenet() -> Backbone:
    """Features of SqueezeNet 1.1, read after its first ReLU and after the last Fire of each stage from there on."""
    layers = [
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    ]
    return Backbone(layers, (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512), min_side=17)


def alexnet() -> Backbone:
    """Features of AlexNet, read after each ReLU."""
    layers = [
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]
    return Backbone(layers, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256), min_side=31)


def vgg16() -> Backbone:
    """Features of VGG16, read after the last ReLU before each pooling."""
    layers: list[nn.Module] = []
    taps: list[int] = []
    inside = 3
    stages = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    for width, depth in stages:
        if taps:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(depth):
            layers += [nn.Conv2d(inside, width, 3, padding=1), nn.ReLU()]
            inside = width
        taps.append(len(layers) - 1)
    return Backbone(layers, tuple(taps), tuple(width for width, _ in stages), min_side=16)
