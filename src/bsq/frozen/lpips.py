"""LPIPS v0.1, a learned perceptual distance (arXiv:1801.03924). What enters: pixels, twice. What leaves: distances.

Three networks: "squeeze" lies inside the package; "alex" and "vgg" read their heads from the package and torchvision's
ImageNet weights of the backbone from a file or a checked download. Their values are not comparable with each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bsq.errors import CheckpointError, NumericsError, SettingsError, ShapeError
from bsq.frozen import backbones, files

LpipsNetwork = Literal["squeeze", "alex", "vgg"]

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10

WITHOUT = (
    "To go on without it, use the network 'squeeze', which comes with bsq, or in training turn the perceptual loss "
    "off (kind: none)."
)
HEADS = {
    "squeeze": files.WeightFile(
        name="lpips-squeeze-v0.1.safetensors",
        sha256="59799772c02cfc03dd63a3573861693612e4e090d4c422528f9077079c598d28",
        url=None,
        use="LPIPS with SqueezeNet",
        without="To go on without it, in training turn the perceptual loss off (kind: none).",
    ),
    "alex": files.WeightFile(
        name="lpips-alex-v0.1-heads.safetensors",
        sha256="c6c8f694d0960c1e03ab41731197c17e97e6fb9409acd7745c2d4679d35da1f1",
        url=None,
        use="LPIPS with AlexNet",
        without=WITHOUT,
    ),
    "vgg": files.WeightFile(
        name="lpips-vgg-v0.1-heads.safetensors",
        sha256="334c123224ba43d5d52b115a48b0cc510adc47c23e379c20f1638890272767b7",
        url=None,
        use="LPIPS with VGG16",
        without=WITHOUT,
    ),
}
BACKBONES = {
    "alex": files.WeightFile(
        name="alexnet-owt-7be5be79.pth",
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        use="LPIPS with AlexNet",
        without=WITHOUT,
    ),
    "vgg": files.WeightFile(
        name="vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        use="LPIPS with VGG16",
        without=WITHOUT,
    ),
}


class Lpips(nn.Module):
    """Distance of two pictures in the features of a frozen network; 0 for equal pictures."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: LpipsNetwork) -> None:
        """A network with random weights, whose values mean nothing; `load_lpips` gives the published one."""
        super().__init__()
        self.network = network
        self.backbone = _backbone(network)
        self.heads = nn.ParameterList([nn.Parameter(torch.rand(width)) for width in self.backbone.widths])
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Lpips:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)

    def forward(self, pixels: Tensor, reference: Tensor) -> Tensor:
        """Two float (B, 3, H, W) or (B, 3, T, H, W) in [−1, 1] → float32 (B·T,), differentiable in both.

        The backbone runs in the caller's autocast; the distances are taken in float32. Raises ShapeError.
        """
        return self._compare(*self._pictures(pixels, reference))

    def _compare(self, shown: Tensor, wanted: Tensor) -> Tensor:
        both = self.backbone.features(torch.cat([shown, wanted]))
        distance = torch.zeros(len(shown), device=shown.device)
        for features, head in zip(both, self.heads, strict=True):
            one, other = _unit_length(features.float()).chunk(2)
            weighted = (one - other).square() * head.view(1, -1, 1, 1)
            distance = distance + weighted.sum(1).mean((1, 2))
        return distance

    @torch.no_grad()
    def distance(self, pixels: Tensor, reference: Tensor) -> Tensor:
        """As a measure: float32 throughout, one picture at a time, so that no number depends on the batch it is in.

        Shapes as in `forward`. Raises NumericsError for NaN or infinity.
        """
        shown, wanted = self._pictures(pixels, reference)
        with torch.autocast(shown.device.type, enabled=False):
            pairs = zip(shown.float().split(1), wanted.float().split(1), strict=True)
            distances = torch.cat([self._compare(one, other) for one, other in pairs])
        if not bool(distances.isfinite().all()):
            raise NumericsError("LPIPS is not a number; the pictures hold NaN or infinity")
        return distances

    def _pictures(self, pixels: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        shape = tuple(pixels.shape)
        if pixels.shape != reference.shape:
            raise ShapeError(f"pictures and their references differ in size: {shape} and {tuple(reference.shape)}")
        if pixels.ndim not in (4, 5) or pixels.shape[1] != 3 or 0 in shape:
            raise ShapeError(f"expected pixels (B, 3, H, W) or (B, 3, T, H, W), none of them empty; got {shape}")
        least = self.backbone.min_side
        if min(shape[-2:]) < least:
            raise ShapeError(
                f"LPIPS-{self.network} needs sides of at least {least} pixels, got {shape[-2]}×{shape[-1]}"
            )
        if pixels.ndim == 5:
            pixels, reference = (x.transpose(1, 2).flatten(0, 1) for x in (pixels, reference))
        return (pixels - self.shift) / self.scale, (reference - self.shift) / self.scale


def load_lpips(network: LpipsNetwork = "squeeze", weights: Path | str | None = None) -> Lpips:
    """The published LPIPS v0.1 of a network.

    `weights`: a file to read instead of the published ones (.safetensors or .pth), either a whole LPIPS (`backbone.*`
    or `net.*`, `heads.*` or `lin*`) or a torchvision model (`features.*`), to which the package's heads are added.
    Raises CheckpointError when a file is missing, is another one, or does not fit.
    """
    if network not in HEADS:
        raise SettingsError(f"no LPIPS network {network!r}; there are {', '.join(HEADS)}")
    tensors = _read(files.find(HEADS[network]))
    if weights is not None:
        path = Path(weights)
        if not path.is_file():
            raise CheckpointError(f"no file {path}; leave `weights` out to use the published ones of LPIPS-{network}")
        tensors |= _read(path)
    elif network in BACKBONES:
        tensors |= _read(files.find(BACKBONES[network]))
    model = Lpips(network)
    _fill(model, tensors)
    return model


def _backbone(network: LpipsNetwork) -> backbones.Backbone:
    match network:
        case "squeeze":
            return backbones.squeezenet()
        case "alex":
            return backbones.alexnet()
        case "vgg":
            return backbones.vgg16()
        case _:
            raise SettingsError(f"no LPIPS network {network!r}; there are {', '.join(HEADS)}")


def _unit_length(features: Tensor) -> Tensor:
    # ε² under the root keeps the gradient finite where every channel is zero; it changes no value
    return features / ((features.square().sum(1, keepdim=True) + EPSILON**2).sqrt() + EPSILON)


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors of a file under our names: `backbone.{layer}…` and `heads.{number}`."""
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)  # tensors only, no code is run
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as a file of tensors: {error}") from error
    return {name: tensor for key, tensor in found.items() if (name := _our_name(key)) is not None}


def _our_name(key: str) -> str | None:
    """Our name of a tensor of the lpips package, of torchvision or of our own files; None for classifier layers."""
    parts = key.removeprefix("module.").split(".")
    match parts:
        case ["backbone" | "features", *rest]:
            return ".".join(["backbone", *rest])
        case ["net", _, *rest]:  # the lpips package: net.slice2.3.squeeze.weight
            return ".".join(["backbone", *rest])
        case ["heads", number]:
            return f"heads.{number}"
        case ["heads", lin, "model", "1", "weight"] | [lin, "model", "1", "weight"] if lin.startswith("lin"):
            return f"heads.{lin.removeprefix('lin')}"
        case _:
            return None


def _fill(model: Lpips, tensors: dict[str, Tensor]) -> None:
    wanted = model.state_dict()
    fitted = {
        name: tensors[name].float().reshape(value.shape)
        for name, value in wanted.items()
        if _fits(name, value, tensors)
    }
    missing = sorted(set(wanted) - set(fitted))
    if missing:
        raise CheckpointError(
            f"the weights do not fit LPIPS-{model.network}: {len(missing)} tensors are missing or of another size, "
            f"the first is {missing[0]} {tuple(wanted[missing[0]].shape)}"
        )
    model.load_state_dict(fitted)


def _fits(name: str, value: Tensor, tensors: dict[str, Tensor]) -> bool:
    return name in tensors and tensors[name].numel() == value.numel()
