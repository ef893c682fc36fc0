"""Networks of clips, for FVD and rFVD. What enters: clips (B, 3, T, H, W). What leaves: a row of features for each.

`FrechetMeter` with `I3DFeatures` is FVD (arXiv:1812.01717), rFVD for reconstructions. StyleGAN-V divides covariances by
n: `Covariance.POPULATION`. Clips of one set should have one length and rate; features of other lengths do not compare.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from bsq.errors import CheckpointError, ShapeError
from bsq.frozen.scripts import I3D_SCRIPT, Script, find_script
from bsq.metrics.features import (
    FeatureNetwork,
    Features,
    Levels,
    NetworkIdentity,
    as_rows,
    check_clips,
    in_chunks,
    to_levels,
)

Device = torch.device | str

I3D_MIN_FRAMES = 9  # three halvings in time, then a pooling over two frames


class I3DFeatures:
    """The TorchScript of I3D that StyleGAN-V measures FVD with: 400 numbers a clip; it resizes to 224×224 inside."""

    def __init__(self, script: Script, device: Device = "cpu", at_once: int = 1) -> None:
        self._module, self._device, self._at_once = script.module.to(device), torch.device(device), at_once
        together = "" if at_once == 1 else f"; {at_once} at once"
        self.identity = NetworkIdentity(
            f"TorchScript {script.name}",
            script.sha256,
            f"{Levels.EIGHT_BIT.value}; resized inside{together}",
            script.is_published(I3D_SCRIPT),
        )

    @staticmethod
    def load(path: Path | str | None = None, device: Device = "cpu", at_once: int = 1) -> I3DFeatures:
        """From a file, or the published one. Raises CheckpointError."""
        return I3DFeatures(find_script(I3D_SCRIPT, path), device, at_once)

    def features(self, pixels: Tensor) -> Features:
        """Pixels float (B, 3, T, H, W) in [−1, 1], T at least 9."""
        clips = to_levels(check_clips(pixels), Levels.EIGHT_BIT).to(torch.uint8)
        if clips.shape[2] < I3D_MIN_FRAMES:
            raise ShapeError(f"FVD needs clips of at least {I3D_MIN_FRAMES} frames, got {clips.shape[2]}")
        return in_chunks(self._run, clips.to(self._device), self._at_once)

    def _run(self, clips: Tensor) -> Features:
        try:
            found = self._module(clips, rescale=True, resize=True, return_features=True)
        except RuntimeError as error:
            raise CheckpointError(f"{self.identity.name} does not run as StyleGAN-V's I3D does: {error}") from error
        return Features(as_rows(found, len(clips), "features of clips"))


class FrameFeatures:
    """A network of pictures, frame by frame: means of the frames' features and of |next − this|. Not comparable.

    With `SqueezeNetFeatures` it needs no download. The changes show flicker and lost motion, the frames alone do not.
    """

    def __init__(self, network: FeatureNetwork) -> None:
        self._network = network
        inner = network.identity
        self.identity = NetworkIdentity(
            f"{inner.name} of frames and of their changes", inner.weights_sha256, inner.preparation, False
        )

    def features(self, pixels: Tensor) -> Features:
        """Pixels float (B, 3, T, H, W) in [−1, 1]; a clip of one frame has no changes."""
        clips = check_clips(pixels)
        rows = []
        for clip in clips:
            frames = self._network.features(clip.transpose(0, 1)).pooled
            changes = (frames[1:] - frames[:-1]).abs().sum(0) / max(len(frames) - 1, 1)
            rows.append(torch.cat([frames.mean(0), changes]))
        return Features(as_rows(torch.stack(rows), len(clips), "features of clips"))
