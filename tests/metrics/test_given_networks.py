import hashlib
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bsq.errors import CheckpointError, NumericsError, SettingsError, ShapeError
from bsq.frozen import files, inception, scripts
from bsq.metrics import DistributionMeter, I3DNetwork, ModuleNetwork, ScriptInception
from bsq.metrics.features import label_of
from bsq.metrics.given import hash_of_tensors


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 20, 24, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 5, stride=3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout())


class Gives(nn.Module):
    """One thing, whatever it is shown."""

    def __init__(self, what: object) -> None:
        super().__init__()
        self.what = what

    def forward(self, pixels: Tensor) -> object:
        return self.what


class Counts(nn.Module):
    """Adds the number of pictures in its batch, as a kernel that rounds by it would."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen.append(len(pixels))
        return pixels.mean((2, 3)) + len(pixels)


def test_any_module() -> None:
    network, module = ModuleNetwork(small(), "small"), small().eval()
    found = network.pictures(pictures(3))
    assert torch.allclose(found.pooled, module(pictures(3)).mean((2, 3)).double(), atol=1e-6)
    assert torch.equal(network.pictures(pictures(3)[1:]).pooled, found.pooled[1:])
    assert (network.name, network.label) == ("small", "not comparable: features of small")
    flat = ModuleNetwork(nn.Sequential(small(), nn.Flatten()), "flat").pictures(pictures(2))
    assert flat.pooled.shape == (2, 5 * 6 * 7)
    meter = DistributionMeter(network, measures=("fid", "kid"))
    meter.add_samples(pictures(5, 1))
    meter.add_references(pictures(6, 2))
    assert meter.result().label == "not comparable: features of small"


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_every_call_is_of_one_size_however_pictures_are_batched(at_once: int) -> None:
    counts = Counts()
    network = ModuleNetwork(counts, "counts", at_once=at_once)
    whole = network.pictures(pictures(5)).pooled
    assert len(whole) == 5
    for size in (1, 2, 4):
        assert torch.equal(torch.cat([network.pictures(part).pooled for part in pictures(5).split(size)]), whole)
    assert set(counts.seen) == {at_once}


def test_a_hash_knows_names_and_values() -> None:
    other, renamed = small(), nn.Sequential(nn.Identity(), *small())
    with torch.no_grad():
        other[0].bias[0] += 1e-6  # type: ignore[index, operator]
    hashes = {hash_of_tensors(module) for module in (small(), small(), other, renamed, nn.ReLU())}
    assert len(hashes) == 4
    assert ModuleNetwork(small(), "small").weights_sha256 == hash_of_tensors(small())


def test_modules_that_give_something_else() -> None:
    with pytest.raises(NumericsError, match="NaN"):
        ModuleNetwork(Gives(torch.full((1, 3), math.nan)), "none").pictures(pictures(1))
    for what in (torch.zeros(2, 3), torch.zeros(3), "text"):
        with pytest.raises(ShapeError, match=r"other must give \(1, D\)"):
            ModuleNetwork(Gives(what), "other").pictures(pictures(1))
    with pytest.raises(ShapeError, match="float64"):
        ModuleNetwork(Gives(torch.zeros(1, 0)), "empty").pictures(pictures(1))
    with pytest.raises(SettingsError, match="1 picture or more"):
        ModuleNetwork(small(), "small", at_once=0)
    with pytest.raises(ShapeError, match="none of them empty"):
        ModuleNetwork(small(), "small").pictures(pictures(0))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_only_the_published_files_are_comparable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash that is known decides, for a file that was found as for one that was given."""
    monkeypatch.setenv("BSQ_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for known, open_network in ((scripts.INCEPTION, ScriptInception), (scripts.I3D, I3DNetwork)):
        assert known.sha256 is not None
        assert len(known.sha256) == 64
        path = tmp_path / known.name
        torch.jit.script(nn.Identity()).save(str(path))
        assert open_network(path).label == f"not comparable: weights other than {known.name}"
        with pytest.raises(CheckpointError, match="not the published"):
            open_network()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    published = files.WeightFile(path.name, digest, None, "A test", "Go on without.")
    monkeypatch.setattr(scripts, "I3D", published)
    assert I3DNetwork().label == f"comparable with values in {path.name}"
    assert label_of("0" * 64, inception.PUBLISHED).startswith("not comparable")
    assert label_of(str(inception.PUBLISHED.sha256), inception.PUBLISHED).startswith("comparable with")
    assert str(inception.PUBLISHED.sha256).startswith("6726825d")  # as the file's name says
