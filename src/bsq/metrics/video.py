"""Fréchet video distance (arXiv:1812.01717). What enters: reference and sample clips. What leaves: `VideoScores`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from bsq.errors import SettingsError, ShapeError
from bsq.frozen import scripts
from bsq.metrics.distribution import few
from bsq.metrics.features import Features, Rounding, SqueezeNetwork, called, label_of, plain, rounded, steadily
from bsq.metrics.frechet import frechet_distance
from bsq.metrics.pixel import PEAK
from bsq.metrics.sets import FeatureSet

I3D_LEAST_FRAMES = 9


class ClipNetwork(Protocol):
    """A network that sees clips; name, hash and label as for `FeatureNetwork`."""

    @property
    def name(self) -> str: ...

    @property
    def weights_sha256(self) -> str | None: ...

    @property
    def label(self) -> str: ...

    def clips(self, pixels: Tensor) -> Features:
        """Float (B, 3, T, H, W) in [−1, 1] → a pooled row a clip, which depends on no other clip."""
        ...


class I3DNetwork:
    """The I3D TorchScript file of StyleGAN-V (Kinetics-400), one clip at a time; it resizes to 224×224 itself."""

    name = "i3d (TorchScript)"

    def __init__(self, path: Path | str | None = None, device: torch.device | str = "cpu") -> None:
        """Without a path the file is found or downloaded as `bsq.frozen.files` does."""
        self._script = scripts.find_script(scripts.I3D, path, device)
        self._device = device
        self.weights_sha256 = self._script.sha256
        self.label = label_of(self.weights_sha256, scripts.I3D)

    def clips(self, pixels: Tensor) -> Features:
        """Features of clips (N, 3, T, H, W) in [-1, 1]. Raises ShapeError for clips too short for I3D."""
        if pixels.shape[2] < I3D_LEAST_FRAMES:
            raise ShapeError(f"I3D needs clips of at least {I3D_LEAST_FRAMES} frames, got {pixels.shape[2]}")
        scaled = ((pixels.double() + 1) * (PEAK / 2)).to(self._device, torch.float32)
        with steadily(self._device):
            rows = [
                plain(called(self._script, clip, rescale=True, resize=True, return_features=True).flatten(1))
                for clip in scaled.split(1)
            ]
        return Features(torch.cat(rows))


class SqueezeClips:
    """SqueezeNet features of frames: their mean, and the mean of how much they change from frame to frame, 1024."""

    name = "squeezenet-1.1, mean and mean absolute change over frames"
    label = "not comparable: SqueezeNet features"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._network = SqueezeNetwork(device)
        self.weights_sha256 = self._network.weights_sha256

    def clips(self, pixels: Tensor) -> Features:
        if pixels.shape[2] < 2:
            raise ShapeError("the change from frame to frame needs clips of at least 2 frames, got 1")
        rows = []
        for clip in pixels.transpose(1, 2):  # (T, 3, H, W)
            frames = self._network.pictures(clip).pooled
            rows.append(torch.cat([frames.mean(0), frames.diff(dim=0).abs().mean(0)]))
        return Features(torch.stack(rows))


@dataclass(frozen=True)
class VideoScores:
    """The Fréchet distance of two sets of clips."""

    network: str
    weights_sha256: str | None
    label: str
    rounding: Rounding
    references: int  # clips
    samples: int
    frames: int  # of each clip
    fvd: float
    notes: tuple[str, ...]


class VideoMeter:
    """Adds up features of clips, all of one length."""

    def __init__(self, network: ClipNetwork, rounding: Rounding = "uint8") -> None:
        self._network = network
        self._rounding: Rounding = rounding
        self._frames: int | None = None
        self.references = FeatureSet({"moments"})
        self.samples = FeatureSet({"moments"})

    def add_references(self, pixels: Tensor) -> None:
        """Float (B, 3, T, H, W) in [−1, 1]."""
        self.references.add(self._features(pixels))

    def add_samples(self, pixels: Tensor) -> None:
        """Float (B, 3, T, H, W) in [−1, 1]."""
        self.samples.add(self._features(pixels))

    def merge(self, other: VideoMeter) -> None:
        """Adds what another meter has measured with the same network on clips as long."""
        mine, theirs = self._network, other._network
        if (mine.name, mine.weights_sha256) != (theirs.name, theirs.weights_sha256):
            raise SettingsError(f"cannot put together features of {mine.name} and {theirs.name}")
        if other._frames is not None:
            self._check_frames(other._frames)
        self.references.merge(other.references)
        self.samples.merge(other.samples)

    def result(self) -> VideoScores:
        """Raises DataError when a set has fewer than 2 clips."""
        references, samples = self.references.moments(), self.samples.moments()
        return VideoScores(
            network=self._network.name,
            weights_sha256=self._network.weights_sha256,
            label=self._network.label,
            rounding=self._rounding,
            references=len(self.references),
            samples=len(self.samples),
            frames=self._frames or 0,
            fvd=frechet_distance(references, samples),
            notes=tuple(few("fvd", references, samples)),
        )

    def _features(self, pixels: Tensor) -> Features:
        if pixels.ndim != 5:
            raise ShapeError(f"expected clips (B, 3, T, H, W), got {tuple(pixels.shape)}")
        scaled = rounded(pixels, self._rounding)
        self._check_frames(pixels.shape[2])
        return self._network.clips(scaled)

    def _check_frames(self, frames: int) -> None:
        if self._frames is not None and frames != self._frames:
            raise ShapeError(f"all clips of a Fréchet video distance must be as long: got {frames}, not {self._frames}")
        self._frames = frames
