"""Frozen networks by name. What enters: "squeeze", "inception", a file. What leaves: distances and feature networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bsq.data.stored import Kind
from bsq.errors import SettingsError
from bsq.frozen.lpips import BACKBONES, HEADS, load_lpips
from bsq.metrics.features import (
    FeatureNetwork,
    Features,
    InceptionNetwork,
    ScriptInception,
    ScriptNetwork,
    SqueezeNetwork,
    rounded,
)
from bsq.metrics.reconstruction import Distance
from bsq.metrics.video import ClipNetwork, I3DNetwork, SqueezeClips

PICTURE_FEATURES = (
    "none, squeeze (comes with bsq; not comparable with published values), inception (found, downloaded or "
    "inception:FILE.pth), adm (the same, resized as guided-diffusion's suite does; or adm:FILE.pth), stylegan (its "
    "TorchScript of Inception, or stylegan:FILE.pt), or script:FILE.pt"
)
CLIP_FEATURES = "none, squeeze (comes with bsq; not comparable with published values), i3d (or i3d:FILE.pt)"


@dataclass(frozen=True, eq=False)
class Perceptual:
    """A distance of pictures, and what reports say of it."""

    distance: Distance
    words: str


@dataclass(frozen=True, eq=False)
class Extractor:
    """(1, 3, T, H, W) → one row of features: of the picture, or of the clip; what reports say of the network."""

    extract: Callable[[Tensor], Features]
    words: str
    label: str  # of the network: "comparable …", or "not comparable …"


def open_lpips(name: str, device: str) -> Perceptual | None:
    """Of "squeeze", "alex", "vgg", or "none". Raises SettingsError, CheckpointError for weights that are not here."""
    match name:
        case "none":
            return None
        case "squeeze" | "alex" | "vgg":
            network = load_lpips(name).to(device)
            files = [HEADS[name], *([BACKBONES[name]] if name in BACKBONES else [])]
            words = f"LPIPS v0.1 with {name} (SHA-256 {', '.join(file.sha256 or '?' for file in files)})"
            return Perceptual(lambda one, other: network.distance(one.to(device), other.to(device)).cpu(), words)
        case _:
            raise SettingsError(f"no LPIPS {name!r}; there are none, {', '.join(HEADS)}")


def open_extractor(name: str, kind: Kind, device: str) -> Extractor | None:
    """The network of a Fréchet distance, or None. Raises as the two below."""
    match kind:
        case Kind.PICTURES:
            pictures = open_features(name, device)
            if pictures is None:
                return None
            seen = pictures.pictures
            return Extractor(lambda pixels: seen(rounded(pixels[:, :, 0], "uint8")), words_of(pictures), pictures.label)
        case Kind.VIDEOS:
            clips = open_clip_features(name, device)
            if clips is None:
                return None
            watched = clips.clips
            return Extractor(lambda pixels: watched(rounded(pixels, "uint8")), words_of(clips), clips.label)
        case _:
            raise AssertionError(kind)


def words_of(network: FeatureNetwork | ClipNetwork) -> str:
    """ "squeezenet-1.1 (SHA-256 …), not comparable: …"."""
    return f"{network.name} (SHA-256 {network.weights_sha256}), {network.label}"


def open_features(name: str, device: str) -> FeatureNetwork | None:
    """Of pictures. Raises SettingsError, CheckpointError for weights that are not here."""
    kind, _, file = name.partition(":")
    match kind, file:
        case ("none", ""):
            return None
        case ("squeeze", ""):
            return SqueezeNetwork(device)
        case ("inception", _):
            return InceptionNetwork(file or None, device)
        case ("adm", _):
            return InceptionNetwork(file or None, device, "tensorflow")
        case ("stylegan", _):
            return ScriptInception(file or None, device)
        case ("script", path) if path:
            return ScriptNetwork(path, device)
        case _:
            raise SettingsError(f"no feature network {name!r}; there are {PICTURE_FEATURES}")


def open_clip_features(name: str, device: str) -> ClipNetwork | None:
    """Of clips. Raises as `open_features`."""
    kind, _, file = name.partition(":")
    match kind, file:
        case ("none", ""):
            return None
        case ("squeeze", ""):
            return SqueezeClips(device)
        case ("i3d", _):
            return I3DNetwork(file or None, device)
        case _:
            raise SettingsError(f"no feature network {name!r} of clips; there are {CLIP_FEATURES}")


def checked_device(name: str) -> str:
    """Raises SettingsError for a device that this machine has not."""
    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(f"no device {name!r} on this machine: {str(error).splitlines()[0]}") from error
    return name
