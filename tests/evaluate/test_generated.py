"""Generated pictures beside real ones: against numpy by hand, through every kind of reference, and bad requests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_pictures import small_picture

from bsq.data.files import Existing
from bsq.errors import DataError, SettingsError, ShapeError
from bsq.evaluate.generated import generation_report, set_line
from bsq.evaluate.generation import Generation, GenerationSettings, SetScores, evaluate_generation, named_sets
from bsq.evaluate.networks import open_features
from bsq.evaluate.npz import SampleFile, write_samples
from bsq.evaluate.protocols import PROTOCOLS, Protocol
from bsq.evaluate.published import published
from bsq.evaluate.reference import write_reference
from bsq.evaluate.report import markdown, write
from bsq.frozen.inception import Inception
from bsq.metrics import SqueezeNetwork, frechet_distance
from bsq.metrics.features import Features
from bsq.metrics.frechet import Moments


def batch(seed: int, count: int = 6, side: int = 32) -> np.ndarray:
    return np.stack([small_picture(seed + i, side, side) for i in range(count)])


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """samples.npz, reference.npz (pictures), reference/ (the same as files)."""
    write_samples(tmp_path / "samples.npz", iter(batch(100)), 6)
    write_samples(tmp_path / "reference.npz", iter(batch(0)), 6)
    (tmp_path / "reference").mkdir()
    for number, picture in enumerate(batch(0)):
        Image.fromarray(picture).save(tmp_path / "reference" / f"{number}.png")
    return tmp_path


def run(folder: Path, reference: str = "reference.npz", **changes: Any) -> Generation:
    asked = {"samples": (str(folder / "samples.npz"),), "reference": str(folder / reference), "shown": 2}
    return evaluate_generation(GenerationSettings.model_validate(asked | changes))


def moments_by_hand(pictures: np.ndarray) -> Moments:
    network = SqueezeNetwork()
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    rows = network.pictures(pixels).pooled.double().numpy()
    return Moments(rows.mean(0), np.cov(rows.T), len(rows))


def test_the_distance_is_that_of_the_features(sets: Path) -> None:
    scores = run(sets).sets[0].scores
    expected = frechet_distance(moments_by_hand(batch(0)), moments_by_hand(batch(100)))
    assert scores.fid == pytest.approx(expected, rel=1e-5)  # features round differently in batches of another size
    assert (scores.samples, scores.references) == (6, 6)
    assert scores.precision_recall is not None
    assert scores.sfid is None


def test_every_kind_of_reference_gives_the_same(sets: Path) -> None:
    stored = run(sets)
    folder = run(sets, "reference")
    shared = run(sets, processes=2)
    write_reference((str(sets / "reference"),), PROTOCOLS["adm"], "squeeze", sets / "whole.npz", Existing.REFUSE)
    with np.load(sets / "whole.npz") as found:
        np.savez(sets / "moments.npz", **{name: found[name] for name in ("mu", "sigma", "network")})
    assert len(SampleFile(sets / "whole.npz")) == 6
    moments = run(sets, "moments.npz")
    for other in (folder, shared, moments):
        assert other.sets[0].scores.fid == pytest.approx(stored.sets[0].scores.fid, rel=1e-9)
    assert shared.sets[0].scores == stored.sets[0].scores
    assert moments.sets[0].scores.precision_recall is None
    assert "moments alone do not give precision, recall and KID" in moments.left_out
    assert "KID:" not in markdown(generation_report(moments))


def test_equal_sets_are_at_no_distance(sets: Path) -> None:
    scores = run(sets, samples=(f"same={sets / 'reference'}",)).sets[0].scores
    assert scores.fid == pytest.approx(0, abs=1e-6 * moments_by_hand(batch(0)).covariance.trace())
    assert scores.precision_recall is not None
    assert scores.precision_recall.precision == scores.precision_recall.recall == 1


def test_bad_requests(sets: Path) -> None:
    write_samples(sets / "one.npz", iter(batch(0, 1)), 1)
    write_samples(sets / "large.npz", iter(batch(0, 6, 48)), 6)
    np.savez(sets / "foreign.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    np.savez(sets / "empty.npz", other=np.zeros(3))
    other = {"mu": np.zeros(512), "sigma": np.eye(512), "network": np.array("another")}
    np.savez(sets / "other.npz", **other)  # type: ignore[arg-type]
    for changes, kind, words in (
        ({"samples": (str(sets / "one.npz"),)}, DataError, "has 1 pictures; a Fréchet distance needs at least 2"),
        ({"samples": (str(sets / "large.npz"),)}, ShapeError, "large.npz is 48×48, the reference 32×32"),
        (
            {"reference": str(sets / "foreign.npz")},
            SettingsError,
            "they need --features adm if guided-diffusion wrote them",
        ),
        ({"reference": str(sets / "other.npz")}, SettingsError, "moments of another, not of squeezenet"),
        ({"reference": str(sets / "empty.npz")}, DataError, "neither pictures"),
        ({"reference": str(sets / "missing.npz")}, DataError, "no file"),
        ({"features": "none"}, SettingsError, "choose a network"),
    ):
        with pytest.raises(kind, match=words):
            run(sets, **changes)
    Image.fromarray(batch(0, 1, 48)[0]).save(sets / "reference" / "9.png")
    with pytest.raises(ShapeError, match=r"9\.png is 48×48, the first 32×32"):
        run(sets, "reference")
    with pytest.raises(SettingsError, match=r"two sets of samples are called 'a\.npz'"):
        named_sets(["x/a.npz", "y/a.npz"])
    for text in ("", "a=", "=a.npz"):
        with pytest.raises(SettingsError, match="is a path, or NAME=PATH"):
            named_sets([text])


def test_a_broken_sample_is_named(sets: Path) -> None:
    (sets / "reference" / "broken.png").write_bytes(b"no picture")
    found = run(sets, "reference")
    assert [one.name for one in found.refused] == ["broken.png"]
    assert found.sets[0].scores.references == 6
    with pytest.raises(Exception, match=r"broken\.png"):
        write_reference((str(sets / "reference"),), Protocol(), "none", sets / "new.npz", Existing.REFUSE)
    assert not (sets / "new.npz").exists()


class SmallNetwork:
    """Gives all that Inception gives, of few numbers."""

    name, weights_sha256, label = "small", None, "not comparable: a test"

    def pictures(self, pixels: torch.Tensor) -> Features:
        small = torch.nn.functional.adaptive_avg_pool2d(pixels.double(), 2).flatten(1)
        return Features(small, small[:, :6] ** 2, small[:, :5] * 3)


def test_all_measures_of_the_suite(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("generation", "reference"):
        monkeypatch.setattr(f"bsq.evaluate.{place}.open_features", lambda name, device: SmallNetwork())
    write_samples(sets / "samples.npz", iter(batch(100, 12)), 12, existing=Existing.REPLACE)
    found = run(sets)
    scores = found.sets[0].scores
    assert None not in (scores.fid, scores.sfid, scores.inception_score, scores.precision_recall, scores.kid)
    assert found.left_out == ()
    write_reference((str(sets / "reference"),), PROTOCOLS["adm"], "any", sets / "whole.npz", Existing.REFUSE)
    with np.load(sets / "whole.npz") as whole:
        np.savez(sets / "moments.npz", **{name: whole[name] for name in whole.files if name != "arr_0"})
    stored = run(sets, "moments.npz").sets[0].scores
    assert stored.sfid == pytest.approx(scores.sfid, rel=1e-9)
    assert stored.inception_score == scores.inception_score
    few = run(sets, first=5)
    assert few.sets[0].scores.inception_score is None
    assert "the inception score needs 10 samples or more, got 5" in few.left_out
    assert "| sFID (squeeze) |" in markdown(generation_report(found))


def test_random_weights_of_inception_are_not_published_ones(sets: Path) -> None:
    """Fed as guided-diffusion does, and in columns that no published row shares."""
    torch.save(Inception().state_dict(), sets / "random.pth")
    features = f"adm:{sets / 'random.pth'}"
    network = open_features(features, "cpu")
    assert network is not None
    assert network.name.endswith("resized as tensorflow")
    scores = replace(run(sets).sets[0].scores, label=network.label)
    line = set_line(SetScores("ours", scores, ()), features)
    names = {score.measure.name for score in line.scores}
    assert "Fréchet (adm, other weights)" in names
    assert not names & {score.measure.name for one in published("imagenet-128-generation") for score in one.scores}


def test_the_report(sets: Path) -> None:
    found = run(sets, samples=(f"ours={sets / 'samples.npz'}", f"same={sets / 'reference.npz'}"))
    report = generation_report(found, published("imagenet-128-generation"))
    text = markdown(report)
    assert "| MaskGIT + BSQ (published) | – | – | – | – | 5.44 | 139.60 | 0.800 | 0.500 |" in text
    assert "Not measured: sFID needs the spatial features of Inception" in text
    assert "not comparable: SqueezeNet features" in text
    assert "ours: not the 50,000 samples of the published setting" in text
    assert "Precision and recall: 3 nearest neighbours." in text
    assert "KID: unbiased, cubic kernel, mean over 100 random subsets of 6, seed 0." in text
    write(report, sets / "out")
    told = json.loads((sets / "out" / "result.json").read_text())
    assert told["sets"]["ours"]["samples"] == 6
    assert str(sets) not in json.dumps(told)
    assert (sets / "out" / "contact_sheet.webp").is_file()
