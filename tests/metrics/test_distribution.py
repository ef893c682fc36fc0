import math
import pickle
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bsq.errors import BsqError, DataError, NumericsError, SettingsError, ShapeError
from bsq.frozen import files, inception
from bsq.metrics import (
    DistributionMeter,
    Features,
    InceptionNetwork,
    Measure,
    ScriptInception,
    ScriptNetwork,
    SqueezeNetwork,
    frechet_distance,
    load_moments,
)
from bsq.metrics.distribution import MEASURES
from bsq.metrics.features import rounded
from bsq.metrics.sets import FeatureSet


class Corners:
    """A small network that gives everything: means of parts of a picture, through a sine that is its own for each."""

    name = "corners"
    weights_sha256 = None
    label = "not comparable: corners"

    def pictures(self, pixels: Tensor) -> Features:
        pooled = torch.sin(7 * torch.nn.functional.adaptive_avg_pool2d(pixels.double(), 2).flatten(1))
        return Features(pooled, pooled[:, :5].cos(), 3 * pooled[:, 2:])


def pictures(count: int, seed: int, shift: float = 0.0, side: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, 3, side, side, generator=generator) - 0.5 + shift).clamp(-1, 1)


def measured(meter: DistributionMeter, references: Tensor, samples: Tensor, at_once: int) -> DistributionMeter:
    for batch in references.split(at_once):
        meter.add_references(batch)
    for batch in samples.split(at_once):
        meter.add_samples(batch)
    return meter


def test_every_measure_in_any_batches_and_order() -> None:
    references, samples = pictures(40, 1), pictures(30, 2, 0.05)
    whole = measured(DistributionMeter(Corners(), MEASURES, splits=3), references, samples, 64).result()
    one, other = (DistributionMeter(Corners(), MEASURES, splits=3) for _ in range(2))
    measured(one, references.flip(0)[:25], samples[20:], 4)
    measured(other, references.flip(0)[25:], samples[:20], 1)
    one.merge(other)
    assert one.result() == whole  # to the last bit, all five
    assert whole.fid is not None
    assert whole.fid > 0
    assert whole.sfid is not None
    assert whole.inception_score is not None
    assert whole.inception_score.mean > 1
    assert whole.precision_recall is not None
    assert whole.kid is not None
    assert (whole.references, whole.samples, whole.network) == (40, 30, "corners")
    assert whole.label.startswith("not comparable")
    assert whole.notes == ()


def squeezed(pixels: Tensor) -> bytes:
    torch.set_num_threads(1)
    meter = DistributionMeter(SqueezeNetwork())
    meter.add_samples(pixels)
    return pickle.dumps(meter.samples)


def test_processes_send_what_they_measured() -> None:
    """Two other processes, their own networks; 1e-9 relative is asked, the very bits are given."""
    references, samples = pictures(6, 1, side=32), pictures(9, 2, 0.2, side=32)
    network = SqueezeNetwork()
    alone = measured(DistributionMeter(network), references, samples, 9)
    together = DistributionMeter(network)
    together.add_references(references)
    with get_context("spawn").Pool(2) as pool:  # a forked one may inherit a library's handler of SIGTERM, and never end
        for part in pool.map(squeezed, [samples[5:], samples[:5]]):
            together.samples.merge(pickle.loads(part))
    assert together.result().fid == pytest.approx(alone.result().fid, rel=1e-9)
    assert together.result().samples == 9


def test_a_picture_does_not_depend_on_its_batch() -> None:
    network = SqueezeNetwork()
    pixels = pictures(5, 0, side=40)
    whole = network.pictures(pixels).pooled
    assert whole.shape == (5, 512)
    assert torch.equal(network.pictures(pixels[[3, 1]]).pooled, whole[[3, 1]])
    together = SqueezeNetwork(at_once=5).pictures(pixels).pooled
    assert float((together - whole).norm() / whole.norm()) < 1e-5


def test_fid_alone_keeps_no_rows() -> None:
    """What is kept does not grow with the pictures."""
    sizes = []
    for count in (10, 1000):
        kept = FeatureSet({"moments"})
        kept.add(Corners().pictures(pictures(count, 0)))
        sizes.append(len(pickle.dumps(kept)))
    assert abs(sizes[1] - sizes[0]) < 64


def test_few_pictures_are_noted() -> None:
    meter = measured(DistributionMeter(Corners(), ("fid", "sfid")), pictures(12, 1), pictures(20, 2), 8)
    assert meter.result().notes == ("fid: 12 pictures or clips for 12 features; the value is biased upward",)


def test_stored_statistics_stand_for_references(tmp_path: Path) -> None:
    references, samples = pictures(40, 1), pictures(30, 2, 0.05)
    both: tuple[Measure, ...] = ("fid", "sfid")
    meter = measured(DistributionMeter(Corners(), both), references, samples, 16)
    meter.save_references(tmp_path / "references.npz")
    later = DistributionMeter(Corners(), both, statistics=tmp_path / "references.npz")
    later.add_samples(samples)
    assert (later.result().fid, later.result().sfid) == (meter.result().fid, meter.result().sfid)
    assert later.result().references == 40
    assert files.sha256(tmp_path / "references.npz") in later.result().notes[0]
    with pytest.raises(SettingsError, match="stored statistics"):
        later.add_references(references)
    with pytest.raises(SettingsError, match="no moments of references"):
        later.save_references(tmp_path / "again.npz")
    with pytest.raises(SettingsError, match="need reference pictures"):
        DistributionMeter(Corners(), ("kid",), statistics=tmp_path / "references.npz")
    np.savez(tmp_path / "pooled.npz", **{k: np.load(tmp_path / "references.npz")[k] for k in ("mu", "sigma")})
    later = DistributionMeter(Corners(), both, statistics=tmp_path / "pooled.npz")
    later.add_samples(samples)
    with pytest.raises(DataError, match="no mu_s"):
        later.result()
    later = DistributionMeter(Corners(), statistics=tmp_path / "pooled.npz")
    later.add_samples(samples)
    assert later.result().fid == meter.result().fid
    assert later.result().references is None
    pooled, _ = load_moments(tmp_path / "pooled.npz")
    assert later.result().fid == frechet_distance(pooled, meter.samples.moments())


def test_inception_score_needs_samples_alone() -> None:
    meter = DistributionMeter(Corners(), ("inception score",), splits=2)
    meter.add_samples(pictures(20, 0))
    assert meter.result().inception_score is not None
    assert meter.result().references is None


def test_rounding() -> None:
    pixels = torch.tensor([-1.0, 0.001, 0.5, 1.0]).expand(1, 3, 2, 4)
    assert rounded(pixels, "none") is not None
    assert torch.equal(rounded(pixels, "none"), pixels)
    levels = (rounded(pixels, "uint8")[0, 0, 0] + 1) * 127.5
    assert levels.tolist() == pytest.approx([0, 128, 191, 255], abs=1e-9)
    clip = pictures(6, 0).unflatten(0, (2, 3)).transpose(1, 2)
    assert torch.equal(rounded(clip, "uint8")[1, :, 2], rounded(clip[1:, :, 2], "uint8")[0])
    with pytest.raises(SettingsError, match="no rounding"):
        rounded(pixels, "floor")  # type: ignore[arg-type]
    scores = [
        measured(DistributionMeter(Corners(), rounding=way), pictures(20, 1), pictures(20, 2), 9).result()
        for way in ("uint8", "none")
    ]
    assert scores[0].fid != scores[1].fid
    assert scores[0].fid == pytest.approx(scores[1].fid, rel=0.1)


@pytest.mark.parametrize(
    ("pixels", "error", "words"),
    [
        (torch.zeros(0, 3, 8, 8), ShapeError, "empty"),
        (torch.zeros(2, 1, 8, 8), ShapeError, "expected pixels"),
        (torch.full((2, 3, 8, 8), math.nan), NumericsError, "NaN"),
        (torch.full((2, 3, 8, 8), 3.0), NumericsError, "must lie in"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), ShapeError, "floating"),
        (torch.zeros(2, 3, 8, 8), ShapeError, "at least 17"),
    ],
)
def test_bad_pictures(pixels: Tensor, error: type[BsqError], words: str) -> None:
    meter = DistributionMeter(SqueezeNetwork())
    for add in (meter.add_references, meter.add_samples):
        with pytest.raises(error, match=words):
            add(pixels)
    assert len(meter.references) == len(meter.samples) == 0


def test_bad_sets() -> None:
    meter = DistributionMeter(Corners())
    with pytest.raises(DataError, match="at least 2 pictures"):
        meter.result()
    measured(meter, pictures(1, 0), pictures(5, 1), 5)
    with pytest.raises(DataError, match="at least 2 pictures or clips, got 1"):
        meter.result()
    with pytest.raises(DataError, match="no pictures"):
        DistributionMeter(Corners(), ("kid",)).result()
    with pytest.raises(DataError, match="no pictures"):
        DistributionMeter(Corners(), ("inception score",)).result()
    with pytest.raises(SettingsError, match="no measures"):
        DistributionMeter(Corners(), ("fld",))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="none given"):
        DistributionMeter(Corners(), ())
    with pytest.raises(SettingsError, match="sets that keep"):
        meter.merge(DistributionMeter(Corners(), ("kid",)))
    with pytest.raises(SettingsError, match="corners and squeezenet"):
        meter.merge(DistributionMeter(SqueezeNetwork()))
    for measure, words in (("sfid", "spatial features"), ("inception score", "logits")):
        with pytest.raises(SettingsError, match=words):
            DistributionMeter(SqueezeNetwork(), (measure,)).add_samples(pictures(2, 0, side=32))  # type: ignore[arg-type]


def test_what_does_not_fit_adds_nothing() -> None:
    """A second part too large: the first is not counted either."""
    kept = FeatureSet({"moments", "spatial moments", "rows"})
    kept.add(Corners().pictures(pictures(4, 0)))
    before = kept.moments()
    good = Corners().pictures(pictures(2, 1))
    assert good.spatial is not None
    for bad in (Features(good.pooled, good.spatial * 1e4), Features(good.pooled, good.spatial[:, 1:])):
        with pytest.raises((NumericsError, ShapeError)):
            kept.add(bad)
    assert len(kept) == len(kept.rows()) == 4
    assert (kept.moments().mean == before.mean).all()


def test_features_that_are_none() -> None:
    with pytest.raises(NumericsError, match="NaN"):
        Features(torch.full((1, 2), math.nan, dtype=torch.float64))
    with pytest.raises(ShapeError, match="float64"):
        Features(torch.zeros(1, 2))
    with pytest.raises(ShapeError, match="float64"):
        Features(torch.zeros(1, 2, dtype=torch.float64), logits=torch.zeros(2, 2, dtype=torch.float64))


def test_inception_by_path(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(inception.Inception().state_dict(), tmp_path / "random.pth")
    network = InceptionNetwork(tmp_path / "random.pth")
    assert network.label == "not comparable: weights other than pt_inception-2015-12-05-6726825d.pth"
    assert network.weights_sha256 == files.sha256(tmp_path / "random.pth")
    found = network.pictures(pictures(2, 0))
    assert found.pooled.shape == (2, 2048)
    assert found.spatial is not None
    assert found.logits is not None
    assert torch.equal(found.logits[1:], network.pictures(pictures(2, 0)[1:]).logits)  # type: ignore[arg-type]


class StyleScript(nn.Module):
    """The doors of StyleGAN's file: whole numbers in; features, or the softmax of logits with or without a bias."""

    def forward(self, img: Tensor, return_features: bool = False, no_output_bias: bool = False) -> Tensor:
        assert img.dtype == torch.uint8
        pooled = img.float().flatten(2).mean(2) / 255
        if return_features:
            return pooled
        logits = torch.cat([pooled, pooled * 2], 1)
        return torch.softmax(logits if no_output_bias else logits + 1.5 * torch.arange(6), 1)


class PlainScript(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels * 2


def test_networks_as_torchscript(tmp_path: Path) -> None:
    pixels = pictures(3, 0)
    torch.jit.script(StyleScript()).save(str(tmp_path / "style.pt"))
    style = ScriptInception(tmp_path / "style.pt")
    found = style.pictures(pixels)
    means = ((pixels.double() + 1) * 127.5).round().flatten(2).mean(2) / 255
    assert torch.allclose(found.pooled, means, atol=1e-6)
    assert found.spatial is None
    assert found.logits is not None
    wanted = torch.cat([means, 2 * means], 1)
    assert torch.allclose(found.logits.softmax(1), wanted.softmax(1), atol=1e-6)
    assert style.weights_sha256 == files.sha256(tmp_path / "style.pt")
    assert style.label == "not comparable: weights other than inception-2015-12-05.pt"
    torch.jit.script(PlainScript()).save(str(tmp_path / "plain.pt"))
    plain = ScriptNetwork(tmp_path / "plain.pt", at_once=2)
    assert torch.allclose(plain.pictures(pixels).pooled, 2 * pixels.double().mean((2, 3)), atol=1e-6)
    assert plain.label == "not comparable: features of plain.pt"
    with pytest.raises(ShapeError, match="does not take"):
        ScriptInception(tmp_path / "plain.pt").pictures(pixels)
    with pytest.raises(SettingsError, match="1 picture or more"):
        ScriptNetwork(tmp_path / "plain.pt", at_once=0)
