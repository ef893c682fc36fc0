"""Inception-V3 as Fréchet distances use it. What enters: prepared RGB. What leaves: pooled, spatial features, classes.

The network of the TensorFlow graph of 2015-12-05 (arXiv:1512.00567), with the weights that pytorch-fid converted. It
differs from torchvision's: average pooling leaves padding out, the last block pools by maximum, and there are 1008
classes, whose bias published inception scores leave out. Tensors have torchvision's names, so the file loads as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from bsq.errors import CheckpointError
from bsq.frozen import files

SIDE = 299
POOLED, CLASSES = 2048, 1008
SPATIAL_CHANNELS = 7  # of 17 × 17 places: 2023 numbers, about as many as pooled ones (ADM, arXiv:2105.05233)

WITHOUT = "To go on without it, use SqueezeNet's features, which come with bsq; their distances are not comparable."
INCEPTION = files.WeightFile(
    name="pt_inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    use="FID",
    without=WITHOUT,
)


@dataclass(frozen=True, eq=False)
class InceptionOutput:
    pooled: Tensor  # (B, 2048)
    spatial: Tensor  # (B, 2023), row, column, channel, as ADM stores them
    logits: Tensor  # (B, 1008), without bias


class Inception(nn.Module):
    """Random weights, whose features mean nothing, until `load_inception` fills them."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = Mixed5(192, 32)
        self.Mixed_5c = Mixed5(256, 64)
        self.Mixed_5d = Mixed5(288, 64)
        self.Mixed_6a = Shrink6(288)
        self.Mixed_6b = Mixed6(768, 128)
        self.Mixed_6c = Mixed6(768, 160)
        self.Mixed_6d = Mixed6(768, 160)
        self.Mixed_6e = Mixed6(768, 192)
        self.Mixed_7a = Shrink7(768)
        self.Mixed_7b = Mixed7(1280, _average)
        self.Mixed_7c = Mixed7(2048, _maximum)
        self.fc = nn.Linear(POOLED, CLASSES)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Inception:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> InceptionOutput:
        """Float (B, 3, 299, 299), about −1 … 1."""
        hidden = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pictures)))
        hidden = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(hidden, 3, 2)))
        hidden = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(hidden, 3, 2))))
        hidden = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(hidden)))
        spatial = self.Mixed_6d.branch1x1(hidden)[:, :SPATIAL_CHANNELS]  # TensorFlow's mixed_6/conv
        hidden = self.Mixed_6e(self.Mixed_6d(hidden))
        hidden = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(hidden)))
        pooled = hidden.mean((2, 3))
        logits = F.linear(pooled, self.fc.weight)
        return InceptionOutput(pooled, spatial.permute(0, 2, 3, 1).flatten(1), logits)


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outside, eps=0.001)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(hidden)))


class Mixed5(nn.Module):
    """35 × 35 places."""

    def __init__(self, inside: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inside, 64, 1)
        self.branch5x5_1 = Convolution(inside, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Convolution(inside, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, padding=1)
        self.branch_pool = Convolution(inside, pooled, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(hidden))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(hidden)))
        return torch.cat([self.branch1x1(hidden), five, three, self.branch_pool(_average(hidden))], 1)


class Shrink6(nn.Module):
    """35 × 35 → 17 × 17 places."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(inside, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(inside, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, hidden: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(hidden)))
        return torch.cat([self.branch3x3(hidden), double, F.max_pool2d(hidden, 3, 2)], 1)


class Mixed6(nn.Module):
    """17 × 17 places."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        wide, tall = ((1, 7), (0, 3)), ((7, 1), (3, 0))
        self.branch1x1 = Convolution(inside, 192, 1)
        self.branch7x7_1 = Convolution(inside, width, 1)
        self.branch7x7_2 = Convolution(width, width, wide[0], padding=wide[1])
        self.branch7x7_3 = Convolution(width, 192, tall[0], padding=tall[1])
        self.branch7x7dbl_1 = Convolution(inside, width, 1)
        self.branch7x7dbl_2 = Convolution(width, width, tall[0], padding=tall[1])
        self.branch7x7dbl_3 = Convolution(width, width, wide[0], padding=wide[1])
        self.branch7x7dbl_4 = Convolution(width, width, tall[0], padding=tall[1])
        self.branch7x7dbl_5 = Convolution(width, 192, wide[0], padding=wide[1])
        self.branch_pool = Convolution(inside, 192, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(hidden)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(hidden)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(hidden), seven, double, self.branch_pool(_average(hidden))], 1)


class Shrink7(nn.Module):
    """17 × 17 → 8 × 8 places."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(inside, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(inside, 192, 1)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, hidden: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(hidden))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(hidden))))
        return torch.cat([three, seven, F.max_pool2d(hidden, 3, 2)], 1)


class Mixed7(nn.Module):
    """8 × 8 places."""

    def __init__(self, inside: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        wide, tall = ((1, 3), (0, 1)), ((3, 1), (1, 0))
        self.branch1x1 = Convolution(inside, 320, 1)
        self.branch3x3_1 = Convolution(inside, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, wide[0], padding=wide[1])
        self.branch3x3_2b = Convolution(384, 384, tall[0], padding=tall[1])
        self.branch3x3dbl_1 = Convolution(inside, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Convolution(384, 384, wide[0], padding=wide[1])
        self.branch3x3dbl_3b = Convolution(384, 384, tall[0], padding=tall[1])
        self.branch_pool = Convolution(inside, 192, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        three = self.branch3x3_1(hidden)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(hidden))
        parts = [self.branch1x1(hidden), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([*parts, self.branch_pool(self.pool(hidden))], 1)


def load_inception(weights: Path | str | None = None) -> tuple[Inception, str]:
    """The network, and the SHA-256 of the file it was filled from.

    `weights`: pytorch-fid's file or a copy of it as .safetensors; None: the published file, from the user's folder, the
    cache or a checked download. Raises CheckpointError when the file is missing, is another one, or does not fit.
    """
    path = files.find(INCEPTION) if weights is None else Path(weights)
    if not path.is_file():
        raise CheckpointError(f"no file {path}; leave `weights` out to use the published {INCEPTION.name}")
    model = Inception()
    wanted, found = model.state_dict(), _read(path)
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked"):
            found.setdefault(name, tensor)
    misfits = [name for name, tensor in wanted.items() if name not in found or found[name].shape != tensor.shape]
    if misfits:
        raise CheckpointError(
            f"{path} does not fit the Inception network of FID: {len(misfits)} of {len(wanted)} tensors are missing or "
            f"of another size, the first is {misfits[0]} {tuple(wanted[misfits[0]].shape)}"
        )
    model.load_state_dict({name: found[name] for name in wanted})
    return model, files.sha256(path)


def _average(hidden: Tensor) -> Tensor:
    return F.avg_pool2d(hidden, 3, 1, 1, count_include_pad=False)


def _maximum(hidden: Tensor) -> Tensor:
    return F.max_pool2d(hidden, 3, 1, 1)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))  # tensors only, no code is run
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as a file of tensors: {error}") from error
