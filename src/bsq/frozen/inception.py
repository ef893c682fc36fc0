"""The Inception-V3 of the Fréchet distance. What enters: pixels. What leaves: pooled and spatial features, logits.

This is the network of TensorFlow's `inception-2015-12-05` graph as pytorch-fid rebuilt it, not torchvision's: average
pools inside branches leave the padding out, the last block pools by maximum, and there are 1008 classes. Tensors are
named as in `pt_inception-2015-12-05-6726825d.pth`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from bsq.errors import CheckpointError, SettingsError, ShapeError
from bsq.frozen import files

SIDE = 299
SPATIAL_CHANNELS = 7  # of 192, as in guided-diffusion's evaluation
PUBLISHED = files.WeightFile(
    name="pt_inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    use="The Fréchet distance in Inception features",
    without="To go on without it, measure in SqueezeNet features, whose values are not comparable with published ones.",
)

Resize = Literal["pytorch-fid", "tensorflow"]


@dataclass(frozen=True, eq=False)
class InceptionFeatures:
    """Of B pictures, all float32."""

    pooled: Tensor  # (B, 2048), the mean over 8×8 places of the last block
    spatial: Tensor  # (B, 17·17·7): first 7 channels of Mixed_6d's 1×1 branch, row by row, channels last
    logits: Tensor  # (B, 1008), without the bias of the last layer, as inception scores use them


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, inside: int, out: int, kernel: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.bn(self.conv(hidden)).relu()


def _mean_pool(hidden: Tensor) -> Tensor:
    return functional.avg_pool2d(hidden, 3, 1, 1, count_include_pad=False)


def _max_pool(hidden: Tensor) -> Tensor:
    return functional.max_pool2d(hidden, 3, 1, 1)


def _shrink(hidden: Tensor) -> Tensor:
    return functional.max_pool2d(hidden, 3, 2)


class BlockA(nn.Module):
    """35×35: 1×1, 5×5, twice 3×3 and pooled branches side by side."""

    def __init__(self, inside: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inside, 64, 1)
        self.branch5x5_1 = Convolution(inside, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Convolution(inside, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, padding=1)
        self.branch_pool = Convolution(inside, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        fives = self.branch5x5_2(self.branch5x5_1(x))
        threes = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), fives, threes, self.branch_pool(_mean_pool(x))], 1)


class BlockB(nn.Module):
    """35×35 → 17×17."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(inside, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(inside, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        threes = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), threes, _shrink(x)], 1)


class BlockC(nn.Module):
    """17×17: 7×7 convolutions as rows and columns of seven."""

    def __init__(self, width: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = Convolution(768, 192, 1)
        self.branch7x7_1 = Convolution(768, width, 1)
        self.branch7x7_2 = Convolution(width, width, row, padding=(0, 3))
        self.branch7x7_3 = Convolution(width, 192, column, padding=(3, 0))
        self.branch7x7dbl_1 = Convolution(768, width, 1)
        self.branch7x7dbl_2 = Convolution(width, width, column, padding=(3, 0))
        self.branch7x7dbl_3 = Convolution(width, width, row, padding=(0, 3))
        self.branch7x7dbl_4 = Convolution(width, width, column, padding=(3, 0))
        self.branch7x7dbl_5 = Convolution(width, 192, row, padding=(0, 3))
        self.branch_pool = Convolution(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(_mean_pool(x))], 1)


class BlockD(nn.Module):
    """17×17 → 8×8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(768, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(768, 192, 1)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        sevens = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), sevens, _shrink(x)], 1)


class BlockE(nn.Module):
    """8×8: branches that end in a row and a column of three."""

    def __init__(self, inside: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        row, column = (1, 3), (3, 1)
        self.pool = pool
        self.branch1x1 = Convolution(inside, 320, 1)
        self.branch3x3_1 = Convolution(inside, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, row, padding=(0, 1))
        self.branch3x3_2b = Convolution(384, 384, column, padding=(1, 0))
        self.branch3x3dbl_1 = Convolution(inside, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Convolution(384, 384, row, padding=(0, 1))
        self.branch3x3dbl_3b = Convolution(384, 384, column, padding=(1, 0))
        self.branch_pool = Convolution(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        ends = [self.branch3x3_2a(once), self.branch3x3_2b(once)]
        ends += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)]
        return torch.cat([self.branch1x1(x), *ends, self.branch_pool(self.pool(x))], 1)


class Inception(nn.Module):
    """Random weights, whose features mean nothing; `load_inception` gives the published ones."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(128)
        self.Mixed_6c = BlockC(160)
        self.Mixed_6d = BlockC(160)
        self.Mixed_6e = BlockC(192)
        self.Mixed_7a = BlockD()
        self.Mixed_7b = BlockE(1280, _mean_pool)
        self.Mixed_7c = BlockE(2048, _max_pool)
        self.fc = nn.Linear(2048, 1008)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Inception:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> InceptionFeatures:
        """Float32 (B, 3, 299, 299) in the network's own range, as `prepare` makes them."""
        if pictures.ndim != 4 or pictures.shape[1:] != (3, SIDE, SIDE):
            raise ShapeError(f"Inception takes (B, 3, {SIDE}, {SIDE}), got {tuple(pictures.shape)}")
        hidden = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pictures)))
        hidden = _shrink(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_shrink(hidden))))
        hidden = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(hidden))))
        hidden = self.Mixed_6c(self.Mixed_6b(hidden))
        places = self.Mixed_6d.branch1x1(hidden)[:, :SPATIAL_CHANNELS]  # TensorFlow's mixed_6/conv
        hidden = self.Mixed_7a(self.Mixed_6e(self.Mixed_6d(hidden)))
        pooled = self.Mixed_7c(self.Mixed_7b(hidden)).mean((2, 3))
        return InceptionFeatures(pooled, places.permute(0, 2, 3, 1).flatten(1), pooled @ self.fc.weight.T)


def prepare(pixels: Tensor, resize: Resize) -> Tensor:
    """Pixels float32 (B, 3, H, W) in [−1, 1] at 299×299 in the range of the network.

    "pytorch-fid": bilinear, half-pixel centres (align_corners=False), no antialiasing, [−1, 1].
    "tensorflow": as the TensorFlow graph and StyleGAN's file do, whose bilinear grid has no half-pixel shift, and
    (x − 128)/128 for x in 0 … 255.
    """
    match resize:
        case "pytorch-fid":
            return functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False)
        case "tensorflow":
            return (_blend(_blend(pixels, 2), 3) * 127.5 - 0.5) / 128
        case _:
            raise SettingsError(f"no way to resize named {resize!r}; there are pytorch-fid and tensorflow")


def _blend(pixels: Tensor, axis: int) -> Tensor:
    """One axis to 299 places: place i lies at i·size/299."""
    size = pixels.shape[axis]
    places = torch.arange(SIDE, device=pixels.device, dtype=torch.float64) * (size / SIDE)
    low = places.long().clamp(max=size - 1)
    shape = [SIDE if k == axis else 1 for k in range(4)]
    share = (places - low).to(pixels.dtype).view(shape)
    before, after = pixels.index_select(axis, low), pixels.index_select(axis, (low + 1).clamp(max=size - 1))
    return before + (after - before) * share


def load_inception(weights: Path | str | None = None) -> tuple[Inception, str]:
    """The network, and the SHA-256 of the file its weights were read from.

    `weights`: a .pth or .safetensors file with the published names; None finds or downloads the published file. A file
    that bears the published name must have the published hash. Raises CheckpointError.
    """
    path = files.find(PUBLISHED) if weights is None else Path(weights)
    if not path.is_file():
        raise CheckpointError(f"no file {path}; leave the path out to use the published {PUBLISHED.name}")
    if path.name == PUBLISHED.name:
        files.check(path, PUBLISHED)
    model = Inception()
    _fill(model, _read(path), path)
    return model, files.sha256(path)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)  # tensors only, no code is run
        return {str(name): tensor for name, tensor in dict(found).items() if isinstance(tensor, Tensor)}
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as a file of tensors: {error}") from error


def _fill(model: Inception, tensors: dict[str, Tensor], path: Path) -> None:
    wanted = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    wrong = sorted(name for name, value in wanted.items() if name not in tensors or tensors[name].shape != value.shape)
    if wrong:
        raise CheckpointError(
            f"{path} does not hold the Inception of the Fréchet distance: {len(wrong)} tensors are missing or of "
            f"another size, the first is {wrong[0]} {tuple(wanted[wrong[0]].shape)}"
        )
    model.load_state_dict({name: tensors[name].float() for name in wanted}, strict=False)
