import hashlib
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from feature_sets import random_pictures, tiny_features, tiny_network
from torch import nn

from bsq.errors import CheckpointError, NumericsError, RangeError, ShapeError
from bsq.frozen import files, inception, lpips, scripts
from bsq.metrics import (
    FeatureNetwork,
    Features,
    GivenFeatures,
    InceptionFeatures,
    Levels,
    NetworkIdentity,
    Resizing,
    ScriptedInceptionFeatures,
    SqueezeNetFeatures,
)
from bsq.metrics import networks as networks_module
from bsq.metrics.features import to_levels
from bsq.metrics.networks import hash_of_tensors, prepare

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class LikeStyleGan(nn.Module):
    """Called as StyleGAN's Inception is; takes uint8 only."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(12, 5)

    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False) -> torch.Tensor:
        assert img.dtype == torch.uint8
        features = F.adaptive_avg_pool2d(img.float(), 2).flatten(1) / 128
        if return_features:
            return features
        logits = F.linear(features, self.output.weight) if no_output_bias else self.output(features)
        return logits.softmax(1)


@pytest.fixture(scope="module")
def stylegan_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("scripts") / "inception-2015-12-05.pt"
    torch.jit.script(LikeStyleGan()).save(str(path))
    return path


def small_inception(monkeypatch: pytest.MonkeyPatch) -> inception.Inception:
    """Stands in for the whole network where only its surroundings are tested."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2048, 1008)
            self.seen: list[torch.Tensor] = []

        def forward(self, pictures: torch.Tensor) -> inception.InceptionOutput:
            self.seen.append(pictures)
            rows = F.adaptive_avg_pool2d(pictures, 4).flatten(1)
            return inception.InceptionOutput(rows, rows[:, :7], rows[:, :9])

    return Small()  # type: ignore[return-value]


@pytest.mark.parametrize("make", ["tiny", "squeeze", "script", "inception"])
def test_a_picture_has_the_same_features_in_any_batch(
    make: str, stylegan_script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network: FeatureNetwork
    match make:
        case "tiny":
            network = tiny_features()
        case "squeeze":
            network = SqueezeNetFeatures()
        case "script":
            network = ScriptedInceptionFeatures.load(stylegan_script)
        case _:
            network = InceptionFeatures(small_inception(monkeypatch), "0" * 64)
    pictures = random_pictures(5, 0)
    whole = network.features(pictures)
    for i in range(5):
        alone = network.features(pictures[i : i + 1])
        for part in ("pooled", "spatial", "probabilities"):
            one, all_of_them = getattr(alone, part), getattr(whole, part)
            assert (one is None) == (all_of_them is None)
            if one is not None:
                assert one.dtype == torch.float64
                assert torch.equal(one[0], all_of_them[i])
    if whole.probabilities is not None:
        torch.testing.assert_close(whole.probabilities.sum(1), torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_calls_are_of_one_size_whatever_the_batch(at_once: int) -> None:
    sizes = []

    class Spy(nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            sizes.append(len(pictures))
            return pictures.mean((2, 3))

    network = GivenFeatures(Spy(), "spy", at_once=at_once)
    found = network.features(random_pictures(5, 0))
    assert set(sizes) == {at_once}
    assert len(found) == 5
    assert ("at once" in network.identity.preparation) == (at_once > 1)


def test_levels() -> None:
    levels = torch.arange(256.0)
    assert torch.equal(to_levels(levels / 127.5 - 1, Levels.EIGHT_BIT), levels)
    assert torch.equal(to_levels((levels + 0.4) / 127.5 - 1, Levels.EIGHT_BIT), levels)
    assert to_levels(torch.tensor([0.3]), Levels.CONTINUOUS).item() == pytest.approx(165.75)
    assert to_levels(torch.tensor([1.005, -1.005]), Levels.CONTINUOUS).tolist() == [255, 0]
    pictures = random_pictures(2, 0)
    rounded, smooth = GivenFeatures(tiny_network(), "t"), GivenFeatures(tiny_network(), "t", levels=Levels.CONTINUOUS)
    assert not torch.equal(rounded.features(pictures).pooled, smooth.features(pictures).pooled)
    assert rounded.identity != smooth.identity


def test_pytorch_fid_resizes_between_centres() -> None:
    ramp = torch.arange(8.0).expand(1, 3, 8, 8) * 30
    prepared = prepare(ramp, Resizing.PYTORCH_FID)
    assert prepared.shape == (1, 3, 299, 299)
    places = ((torch.arange(299) + 0.5) * 8 / 299 - 0.5).clamp(0, 7)
    torch.testing.assert_close(prepared[0, 0, 5], places * 30 / 127.5 - 1, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(8, 8), (40, 25), (299, 299), (310, 512)])
def test_tensorflow_resizes_between_corners(size: tuple[int, int]) -> None:
    """Against the same by an affine grid, as StyleGAN's port of TensorFlow's resize_bilinear computes it."""
    pictures = to_levels(random_pictures(2, 0, side=512)[..., : size[0], : size[1]], Levels.EIGHT_BIT)
    theta = torch.eye(2, 3)
    theta[0, 2] += 1 / size[1] - 1 / 299
    theta[1, 2] += 1 / size[0] - 1 / 299
    grid = F.affine_grid(theta.expand(2, 2, 3), [2, 3, 299, 299], align_corners=False)
    expected = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    torch.testing.assert_close(prepare(pictures, Resizing.TENSORFLOW), (expected - 128) / 128, atol=2e-3, rtol=0)


def test_identities(stylegan_script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_inception(monkeypatch)
    published = InceptionFeatures(small, inception.INCEPTION.sha256)
    assert published.identity.comparable
    assert published.identity.label == "Inception-V3 of 2015-12-05"
    others = [
        InceptionFeatures(small, "0" * 64),
        InceptionFeatures(small, inception.INCEPTION.sha256, levels=Levels.CONTINUOUS),
        ScriptedInceptionFeatures.load(stylegan_script),
        SqueezeNetFeatures(),
        tiny_features(),
    ]
    for network in others:
        assert not network.identity.comparable
        assert network.identity.label.endswith(", not comparable")
    tensorflow = InceptionFeatures(small, inception.INCEPTION.sha256, Resizing.TENSORFLOW)
    assert tensorflow.identity.comparable
    assert tensorflow.identity.preparation != published.identity.preparation
    assert others[2].identity.weights_sha256 == hashlib.sha256(stylegan_script.read_bytes()).hexdigest()
    assert others[3].identity.weights_sha256 == lpips.HEADS["squeeze"].sha256


def test_a_script_with_the_published_hash_is_comparable(stylegan_script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = files.sha256(stylegan_script)
    published = files.WeightFile(stylegan_script.name, digest, None, "A test", "")
    monkeypatch.setattr(networks_module, "INCEPTION_SCRIPT", published)
    monkeypatch.setenv("BSQ_WEIGHTS", str(stylegan_script.parent))
    network = ScriptedInceptionFeatures.load()
    assert network.identity == NetworkIdentity(
        "TorchScript inception-2015-12-05.pt", digest, "rounded to 8 bits; resized inside", True
    )


def test_scripted_features_are_the_script_s(stylegan_script: Path) -> None:
    pictures = random_pictures(2, 0)
    bytes_of_them = to_levels(pictures, Levels.EIGHT_BIT).to(torch.uint8)
    script = torch.jit.load(str(stylegan_script))
    found = ScriptedInceptionFeatures.load(stylegan_script).features(pictures)
    torch.testing.assert_close(found.pooled.float(), script(bytes_of_them, return_features=True))
    assert found.probabilities is not None
    torch.testing.assert_close(found.probabilities.float(), script(bytes_of_them, no_output_bias=True))


def test_inception_sees_prepared_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_inception(monkeypatch)
    pictures = random_pictures(2, 0)
    for resizing in Resizing:
        found = InceptionFeatures(small, "0" * 64, resizing).features(pictures)
        expected = prepare(to_levels(pictures[1:], Levels.EIGHT_BIT), resizing)
        assert torch.equal(small.seen[-1], expected)  # type: ignore[attr-defined]
        assert isinstance(found, Features)
        assert found.spatial is not None
    assert not torch.equal(small.seen[0], small.seen[2])  # type: ignore[attr-defined, index]


def test_any_network_from_a_file(tmp_path: Path) -> None:
    torch.jit.script(tiny_network()).save(str(tmp_path / "net.pt"))
    from_file, given = GivenFeatures.load(tmp_path / "net.pt"), tiny_features()
    pictures = random_pictures(3, 0)
    torch.testing.assert_close(from_file.features(pictures).pooled, given.features(pictures).pooled)
    expected = tiny_network()(to_levels(pictures, Levels.EIGHT_BIT) / 127.5 - 1).mean((2, 3))
    torch.testing.assert_close(given.features(pictures).pooled.float(), expected.detach())
    assert from_file.identity.name == "TorchScript net.pt"


def test_a_hash_of_tensors_knows_names_and_values() -> None:
    hashes = {hash_of_tensors(network) for network in (tiny_network(), tiny_network(), tiny_network(5), nn.ReLU())}
    assert len(hashes) == 3
    changed = tiny_network()
    with torch.no_grad():
        changed[0].bias[0] += 1e-6  # type: ignore[index, operator]
    assert hash_of_tensors(changed) not in hashes


def test_squeezenet_scales_places() -> None:
    """The mean square of a place's channels is 1, so that of their mean is 1 at most, and 1 for one place."""
    network = SqueezeNetFeatures()
    assert network.features(random_pictures(1, 0, side=17)).pooled.square().mean().item() == pytest.approx(1, rel=1e-5)
    larger = network.features(random_pictures(1, 0, side=64)).pooled
    assert larger.shape == (1, 512)
    assert 0.05 < larger.square().mean().item() < 1


def test_bad_pictures() -> None:
    for network in (tiny_features(), SqueezeNetFeatures()):
        with pytest.raises(ShapeError, match=r"pictures \(B, 3, H, W\)"):
            network.features(torch.zeros(1, 3, 4, 24, 24))
        with pytest.raises(ShapeError, match="none of them empty"):
            network.features(torch.zeros(0, 3, 24, 24))
        with pytest.raises(ShapeError, match="floating-point"):
            network.features(torch.zeros(1, 3, 24, 24, dtype=torch.uint8))
        with pytest.raises(ShapeError, match="ndarray"):
            network.features(torch.zeros(1, 3, 24, 24).numpy())  # type: ignore[arg-type]
        with pytest.raises(RangeError, match=r"127.5"):
            network.features(torch.full((1, 3, 24, 24), 200.0))
        with pytest.raises(NumericsError, match="NaN"):
            network.features(torch.full((1, 3, 24, 24), math.nan))
    with pytest.raises(ShapeError, match="at least 17"):
        SqueezeNetFeatures().features(torch.zeros(1, 3, 16, 24))


def test_bad_networks(tmp_path: Path) -> None:
    pictures = random_pictures(2, 0)

    class Gives(nn.Module):
        def __init__(self, what: object) -> None:
            super().__init__()
            self.what = what

        def forward(self, pictures: torch.Tensor) -> object:
            return self.what

    with pytest.raises(NumericsError, match="features hold NaN"):
        GivenFeatures(Gives(torch.full((1, 3), math.nan)), "nan").features(pictures)
    for what in (torch.zeros(2, 3), torch.zeros(3), torch.zeros(1, 0), "text"):
        with pytest.raises(ShapeError, match=r"must be \(1, D\)"):
            GivenFeatures(Gives(what), "other").features(pictures)
    with pytest.raises(ShapeError, match="at least one picture at once"):
        tiny_features(at_once=-1).features(pictures)
    torch.jit.script(tiny_network()).save(str(tmp_path / "other.pt"))
    with pytest.raises(CheckpointError, match="does not run as StyleGAN's Inception"):
        ScriptedInceptionFeatures(scripts.load_script(tmp_path / "other.pt")).features(pictures)
