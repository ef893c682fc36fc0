import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bsq.errors import DataError, NumericsError, SettingsError, ShapeError
from bsq.frozen import files
from bsq.metrics import I3DNetwork, SqueezeClips, SqueezeNetwork, VideoMeter


def clips(count: int, seed: int, shift: float = 0.0, frames: int = 3, side: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, 3, frames, side, side, generator=generator) - 0.5 + shift).clamp(-1, 1)


class VideoScript(nn.Module):
    """The doors of the I3D file: 0 … 255 in, rescaled and resized inside."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert rescale
        assert resize
        assert return_features
        scaled = x / 127.5 - 1
        change = (scaled[:, :, 1:] - scaled[:, :, :-1]).abs()
        return torch.cat([scaled.flatten(2).mean(2), change.flatten(2).mean(2)], 1)


@pytest.fixture
def i3d(tmp_path: Path) -> I3DNetwork:
    torch.jit.script(VideoScript()).save(str(tmp_path / "i3d.pt"))
    return I3DNetwork(tmp_path / "i3d.pt")


def test_fvd_in_any_batches_order_and_processes(i3d: I3DNetwork, tmp_path: Path) -> None:
    references, samples = clips(20, 1, frames=9), clips(16, 2, 0.1, frames=9)
    whole, one, other = (VideoMeter(i3d) for _ in range(3))
    whole.add_references(references)
    whole.add_samples(samples)
    for clip in references.flip(0).split(3):
        one.add_references(clip)
    one.add_samples(samples[10:])
    other.add_samples(samples[:10])
    one.merge(other)
    found = whole.result()
    assert one.result() == found
    assert pickle.loads(pickle.dumps(whole.samples)).moments().count == 16
    assert (found.references, found.samples, found.frames, found.notes) == (20, 16, 9, ())
    assert found.weights_sha256 == files.sha256(tmp_path / "i3d.pt")
    assert found.label == "not comparable: weights other than i3d_torchscript.pt"
    means = samples.double().mean((2, 3, 4)).mean(0) - references.double().mean((2, 3, 4)).mean(0)
    assert found.fvd > float(means.square().sum()) * 0.99


def test_squeezenet_sees_frames_and_their_change() -> None:
    network = SqueezeClips()
    pixels = clips(2, 0)
    rows = network.clips(pixels).pooled
    frames = SqueezeNetwork().pictures(pixels[1].transpose(0, 1)).pooled
    assert rows.shape == (2, 1024)
    assert torch.equal(rows[1, :512], frames.mean(0))
    assert torch.equal(rows[1, 512:], ((frames[1] - frames[0]).abs() + (frames[2] - frames[1]).abs()) / 2)
    still = network.clips(pixels[:, :, :1].expand(-1, -1, 3, -1, -1)).pooled
    assert float(still[:, 512:].abs().max()) == 0
    meter = VideoMeter(network)
    meter.add_references(pixels)
    meter.add_samples(pixels.flip(2))  # backwards in time looks the same to it
    assert meter.result().fvd == pytest.approx(0, abs=1e-6)
    assert meter.result().label == "not comparable: SqueezeNet features"
    assert "2 pictures or clips for 1024" in meter.result().notes[0]


def test_bad_clips(i3d: I3DNetwork) -> None:
    meter = VideoMeter(SqueezeClips())
    with pytest.raises(DataError, match="at least 2"):
        meter.result()
    with pytest.raises(ShapeError, match="expected clips"):
        meter.add_samples(torch.zeros(2, 3, 24, 24))
    with pytest.raises(ShapeError, match="empty"):
        meter.add_samples(torch.zeros(0, 3, 2, 24, 24))
    with pytest.raises(NumericsError, match="NaN"):
        meter.add_samples(torch.full((1, 3, 2, 24, 24), math.nan))
    with pytest.raises(ShapeError, match="at least 2 frames"):
        meter.add_samples(clips(1, 0, frames=1))
    meter = VideoMeter(SqueezeClips())
    meter.add_references(clips(2, 0, frames=3))
    with pytest.raises(ShapeError, match="as long: got 4, not 3"):
        meter.add_samples(clips(1, 0, frames=4))
    meter.add_samples(clips(1, 1))
    with pytest.raises(DataError, match="got 1"):
        meter.result()
    with pytest.raises(ShapeError, match="at least 9 frames"):
        VideoMeter(i3d).add_samples(clips(1, 0, frames=8))
    with pytest.raises(SettingsError, match="cannot put together"):
        meter.merge(VideoMeter(i3d))
    longer = VideoMeter(SqueezeClips())
    longer.add_samples(clips(1, 0, frames=4))
    with pytest.raises(ShapeError, match="as long"):
        meter.merge(longer)
