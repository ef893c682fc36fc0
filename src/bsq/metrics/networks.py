"""Networks of pictures. What enters: weights from a path or a checked download. What leaves: a `FeatureNetwork`.

Inception-V3 (FID, sFID, inception score), StyleGAN's TorchScript of it, any module, and SqueezeNet, which comes with
the package and needs no download. `at_once` is how many pictures run at once; numbers of 1 are free of batching, larger
ones are quicker on an accelerator and round differently.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bsq.errors import CheckpointError, ShapeError
from bsq.frozen.inception import INCEPTION, SIDE, Inception, load_inception
from bsq.frozen.lpips import HEADS, load_lpips
from bsq.frozen.scripts import INCEPTION_SCRIPT, Script, find_script, load_script
from bsq.metrics.features import Features, Levels, NetworkIdentity, as_rows, check_pictures, in_chunks, to_levels

Device = torch.device | str
EPSILON = 1e-10


class Resizing(Enum):
    """How pictures become 299 × 299 and are scaled. Numbers of the two do not compare."""

    PYTORCH_FID = "bilinear to 299×299 between pixel centres, no antialiasing, then x/127.5 − 1 (pytorch-fid)"
    TENSORFLOW = "bilinear to 299×299 between pixel corners, no antialiasing, then (x − 128)/128 (TensorFlow 1, ADM)"


class InceptionFeatures:
    """Inception-V3 with pytorch-fid's weights: 2048 pooled numbers, 2023 spatial ones, 1008 classes.

    Comparable with the published file and 8-bit pictures only.
    """

    def __init__(
        self,
        network: Inception,
        weights_sha256: str,
        resizing: Resizing = Resizing.PYTORCH_FID,
        levels: Levels = Levels.EIGHT_BIT,
        at_once: int = 1,
    ) -> None:
        self._network, self._resizing, self._levels, self._at_once = network, resizing, levels, at_once
        comparable = weights_sha256 == INCEPTION.sha256 and levels is Levels.EIGHT_BIT
        preparation = f"{levels.value}; {resizing.value}{_together(at_once)}"
        self.identity = NetworkIdentity("Inception-V3 of 2015-12-05", weights_sha256, preparation, comparable)

    @staticmethod
    def load(
        weights: Path | str | None = None,
        resizing: Resizing = Resizing.PYTORCH_FID,
        levels: Levels = Levels.EIGHT_BIT,
        device: Device = "cpu",
        at_once: int = 1,
    ) -> InceptionFeatures:
        """From a file, or the published one (`bsq.frozen.inception.load_inception`). Raises CheckpointError."""
        network, digest = load_inception(weights)
        return InceptionFeatures(network.to(device), digest, resizing, levels, at_once)

    def features(self, pixels: Tensor) -> Features:
        """Pixels float (B, 3, H, W) in [−1, 1]."""
        pictures = to_levels(check_pictures(pixels), self._levels).to(self._network.fc.weight.device)
        return in_chunks(self._run, pictures, self._at_once)

    def _run(self, pictures: Tensor) -> Features:
        found = self._network(prepare(pictures, self._resizing))
        count = len(pictures)
        return Features(
            as_rows(found.pooled, count, "pooled features"),
            as_rows(found.spatial, count, "spatial features"),
            as_rows(found.logits, count, "class logits").softmax(1),
        )


class ScriptedInceptionFeatures:
    """The TorchScript of StyleGAN2-ADA, which resizes as TensorFlow 1 does: 2048 pooled numbers, 1008 classes.

    Each picture runs twice, since the script gives one or the other.
    """

    def __init__(self, script: Script, device: Device = "cpu", at_once: int = 1) -> None:
        self._module, self._device, self._at_once = script.module.to(device), torch.device(device), at_once
        preparation = f"{Levels.EIGHT_BIT.value}; resized inside{_together(at_once)}"
        self.identity = NetworkIdentity(
            f"TorchScript {script.name}", script.sha256, preparation, script.is_published(INCEPTION_SCRIPT)
        )

    @staticmethod
    def load(path: Path | str | None = None, device: Device = "cpu", at_once: int = 1) -> ScriptedInceptionFeatures:
        """From a file, or the published one. Raises CheckpointError."""
        return ScriptedInceptionFeatures(find_script(INCEPTION_SCRIPT, path), device, at_once)

    def features(self, pixels: Tensor) -> Features:
        """Pixels float (B, 3, H, W) in [−1, 1]."""
        pictures = to_levels(check_pictures(pixels), Levels.EIGHT_BIT).to(torch.uint8).to(self._device)
        return in_chunks(self._run, pictures, self._at_once)

    def _run(self, pictures: Tensor) -> Features:
        count = len(pictures)
        try:
            pooled = self._module(pictures, return_features=True)
            classes = self._module(pictures, no_output_bias=True)
        except RuntimeError as error:
            raise CheckpointError(f"{self.identity.name} does not run as StyleGAN's Inception does: {error}") from error
        return Features(as_rows(pooled, count, "pooled features"), None, as_rows(classes, count, "class probabilities"))


class SqueezeNetFeatures:
    """SqueezeNet's last layer, 512 channels averaged over places: no download, and not comparable.

    As in LPIPS, the channels of each place are first scaled to one length; here to a mean square of 1.
    """

    def __init__(self, levels: Levels = Levels.EIGHT_BIT, device: Device = "cpu", at_once: int = 1) -> None:
        self._lpips = load_lpips("squeeze").to(device)
        self._levels, self._at_once, self._device = levels, at_once, torch.device(device)
        self.identity = NetworkIdentity(
            "SqueezeNet 1.1", HEADS["squeeze"].sha256, f"{levels.value}; not resized{_together(at_once)}", False
        )

    def features(self, pixels: Tensor) -> Features:
        """Pixels float (B, 3, H, W) in [−1, 1], sides of at least 17."""
        pictures = to_levels(check_pictures(pixels), self._levels)
        least = self._lpips.backbone.min_side
        if min(pictures.shape[-2:]) < least:
            raise ShapeError(f"SqueezeNet needs sides of at least {least} pixels, got {tuple(pictures.shape[-2:])}")
        return in_chunks(self._run, pictures.to(self._device), self._at_once)

    def _run(self, pictures: Tensor) -> Features:
        inputs = (pictures / 127.5 - 1 - self._lpips.shift) / self._lpips.scale
        last = self._lpips.backbone.features(inputs)[-1]
        scaled = last / (last.square().mean(1, keepdim=True) + EPSILON).sqrt()
        return Features(as_rows(scaled.mean((2, 3)), len(pictures), "pooled features"))


class GivenFeatures:
    """Any network of pictures: (B, 3, H, W) in [−1, 1] → (B, D), or (B, D, h, w) to be averaged. Not comparable."""

    def __init__(
        self,
        network: nn.Module,
        name: str,
        weights_sha256: str | None = None,
        levels: Levels = Levels.EIGHT_BIT,
        at_once: int = 1,
    ) -> None:
        """`weights_sha256` None: a hash of all its tensors. The network is put into evaluation mode."""
        self._network, self._levels, self._at_once = network.eval(), levels, at_once
        digest = weights_sha256 or hash_of_tensors(network)
        self.identity = NetworkIdentity(name, digest, f"{levels.value}; not resized{_together(at_once)}", False)

    @staticmethod
    def load(
        path: Path | str, levels: Levels = Levels.EIGHT_BIT, device: Device = "cpu", at_once: int = 1
    ) -> GivenFeatures:
        """From a file of TorchScript. Raises CheckpointError."""
        script = load_script(path)
        return GivenFeatures(script.module.to(device), f"TorchScript {script.name}", script.sha256, levels, at_once)

    def features(self, pixels: Tensor) -> Features:
        """Pixels float (B, 3, H, W) in [−1, 1]."""
        pictures = to_levels(check_pictures(pixels), self._levels)
        place = next((tensor.device for tensor in self._network.state_dict().values()), pictures.device)
        return in_chunks(self._run, pictures.to(place), self._at_once)

    def _run(self, pictures: Tensor) -> Features:
        found = self._network(pictures / 127.5 - 1)
        if isinstance(found, Tensor) and found.ndim == 4:
            found = found.mean((2, 3))
        return Features(as_rows(found, len(pictures), "features"))


def prepare(pictures: Tensor, resizing: Resizing) -> Tensor:
    """Pictures float (B, 3, H, W) in 0 … 255 → what Inception sees, (B, 3, 299, 299)."""
    match resizing:
        case Resizing.PYTORCH_FID:
            resized = F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=False)
            return resized / 127.5 - 1
        case Resizing.TENSORFLOW:
            return (_from_corners(_from_corners(pictures, 2), 3) - 128) / 128
        case _:
            raise ShapeError(f"no resizing {resizing!r}")


def hash_of_tensors(network: nn.Module) -> str:
    """SHA-256 of names, types, shapes and values of a network's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name};{values.dtype};{tuple(values.shape)};".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _from_corners(pictures: Tensor, axis: int) -> Tensor:
    """One axis resized to 299 as TensorFlow 1 does: output i lies at i · size / 299."""
    size = pictures.shape[axis]
    places = torch.arange(SIDE, dtype=torch.float64) * (size / SIDE)
    low = places.floor().long().clamp(max=size - 1)
    share = (places - low).to(pictures.device, pictures.dtype)
    high = (low + 1).clamp(max=size - 1)
    shape = [1, 1, 1, 1]
    shape[axis] = SIDE
    below, above = (pictures.index_select(axis, at.to(pictures.device)) for at in (low, high))
    return below + (above - below) * share.view(shape)


def _together(at_once: int) -> str:
    return "" if at_once == 1 else f"; {at_once} at once"
