from pathlib import Path

import pytest
import torch
from feature_sets import random_pictures, tiny_features
from torch import nn

from bsq.errors import CheckpointError, DataError, ShapeError
from bsq.frozen import files
from bsq.metrics import FrameFeatures, FrechetMeter, I3DFeatures, SqueezeNetFeatures
from bsq.metrics import video as video_module

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class LikeI3D(nn.Module):
    """Called as StyleGAN-V's I3D is; takes uint8."""

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        assert x.dtype == torch.uint8
        assert rescale
        assert resize
        assert return_features
        x = x.float() / 127.5 - 1
        return torch.cat([x.mean((3, 4)).flatten(1)[:, :6], (x[:, :, 1:] - x[:, :, :-1]).abs().mean((2, 3, 4))], 1)


@pytest.fixture(scope="module")
def i3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scripts") / "i3d_torchscript.pt"
    torch.jit.script(LikeI3D()).save(str(path))
    return path


def random_clips(count: int, seed: int, frames: int = 10) -> torch.Tensor:
    pictures = random_pictures(count * frames, seed)
    return pictures.unflatten(0, (count, frames)).transpose(1, 2)


def test_fvd_in_any_batches(i3d: Path) -> None:
    clips, references = random_clips(12, 0), random_clips(11, 1) * 0.9
    scores = []
    for size in (1, 5, 12):
        meter = FrechetMeter(I3DFeatures.load(i3d))
        for batch in clips.split(size):
            meter.add(batch)
        for batch in references.flip(0).split(size):
            meter.add_reference(batch)
        scores.append(meter.result())
    for score in scores[1:]:
        assert score.frechet == pytest.approx(scores[0].frechet, rel=1e-9)
    assert (scores[0].pictures, scores[0].references) == (12, 11)
    assert scores[0].spatial_frechet is None
    assert scores[0].label == "TorchScript i3d_torchscript.pt, not comparable"
    assert scores[0].network.weights_sha256 == files.sha256(i3d)


def test_the_published_file_is_comparable(i3d: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = files.WeightFile(i3d.name, files.sha256(i3d), None, "A test", "")
    monkeypatch.setattr(video_module, "I3D_SCRIPT", published)
    monkeypatch.setenv("BSQ_WEIGHTS", str(i3d.parent))
    assert I3DFeatures.load().identity.comparable


def test_frames_and_their_changes() -> None:
    clips = random_clips(2, 0, frames=4)
    found = FrameFeatures(tiny_features()).features(clips).pooled
    frames = tiny_features().features(clips.transpose(1, 2).flatten(0, 1)).pooled.unflatten(0, (2, 4))
    torch.testing.assert_close(found[:, :6], frames.mean(1))
    torch.testing.assert_close(found[:, 6:], (frames[:, 1:] - frames[:, :-1]).abs().mean(1))
    still = clips[:, :, :1]
    assert FrameFeatures(tiny_features()).features(still).pooled[:, 6:].abs().max() == 0
    flickering = FrameFeatures(tiny_features()).features(torch.cat([still, -still] * 2, 2)).pooled
    assert flickering[:, 6:].min() >= 0
    assert flickering[:, 6:].max() > 0


def test_squeezenet_needs_no_download() -> None:
    network = FrameFeatures(SqueezeNetFeatures())
    meter = FrechetMeter(network)
    meter.add(random_clips(3, 0, frames=2))
    meter.add_reference(random_clips(3, 0, frames=2))
    assert meter.result().frechet == pytest.approx(0, abs=1e-9)
    assert meter.result().label == "SqueezeNet 1.1 of frames and of their changes, not comparable"
    assert network.features(random_clips(1, 0, frames=2)).pooled.shape == (1, 1024)


def test_bad_clips(i3d: Path, tmp_path: Path) -> None:
    network = I3DFeatures.load(i3d)
    with pytest.raises(ShapeError, match="at least 9 frames, got 8"):
        network.features(random_clips(1, 0, frames=8))
    for bad in (network, FrameFeatures(tiny_features())):
        with pytest.raises(ShapeError, match=r"clips \(B, 3, T, H, W\)"):
            bad.features(random_pictures(2, 0))
    meter = FrechetMeter(network)
    meter.add(random_clips(1, 0))
    with pytest.raises(DataError, match="at least 2 pictures or clips"):
        meter.result()
    torch.jit.script(nn.Identity()).save(str(tmp_path / "other.pt"))
    with pytest.raises(CheckpointError, match="does not run as StyleGAN-V's I3D"):
        I3DFeatures.load(tmp_path / "other.pt").features(random_clips(1, 0))
