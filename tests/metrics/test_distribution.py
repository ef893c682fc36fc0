import pickle
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_sets import AllFeatures, random_pictures, tiny_features

from bsq.errors import DataError, NumericsError, ShapeError
from bsq.metrics import (
    Covariance,
    DistributionMeter,
    DistributionScores,
    Draws,
    FeatureNetwork,
    FrechetMeter,
    Gaussian,
    GaussianStatistics,
    frechet_distance,
    inception_score,
    kernel_distance,
    kernel_distance_of_subsets,
    load_statistics,
    precision_recall,
    save_statistics,
)
from bsq.metrics.rows import order_by_content

DRAWS = Draws(splits=3, subsets=4, subset_size=10, seed=2)
PICTURES, REFERENCES = random_pictures(24, 0), random_pictures(30, 1) * 0.8


def meter_of(
    pictures: torch.Tensor = PICTURES, references: torch.Tensor = REFERENCES, size: int = 5, at_once: int = 0
) -> DistributionMeter:
    network: FeatureNetwork = tiny_features(at_once) if at_once else AllFeatures()
    meter = DistributionMeter(FrechetMeter(network), DRAWS)
    for batch in pictures.split(size):
        meter.add(batch)
    for batch in references.split(size):
        meter.add_reference(batch)
    return meter


def assert_same(one: DistributionScores, other: DistributionScores) -> None:
    assert one.notes == other.notes
    assert one.frechet.notes == other.frechet.notes
    assert (one.frechet.pictures, one.frechet.references) == (other.frechet.pictures, other.frechet.references)
    assert numbers(one) == pytest.approx(numbers(other), rel=1e-9)


def numbers(scores: DistributionScores) -> list[float]:
    found = [scores.frechet.frechet, scores.frechet.spatial_frechet or 0, scores.kernel]
    if scores.inception is not None:
        found += [scores.inception.mean, scores.inception.deviation]
    assert scores.manifold is not None
    assert scores.kernel_of_subsets is not None
    found += [scores.manifold.precision, scores.manifold.recall]
    return [*found, scores.kernel_of_subsets.mean, scores.kernel_of_subsets.deviation]


def test_every_score_is_that_of_its_function() -> None:
    scores = meter_of().result()
    shown, wanted = (AllFeatures().features(pixels) for pixels in (PICTURES, REFERENCES))
    assert shown.spatial is not None
    assert wanted.spatial is not None
    assert scores.frechet.frechet == frechet_distance(gaussian_of(shown.pooled), gaussian_of(wanted.pooled))
    assert scores.frechet.spatial_frechet == frechet_distance(gaussian_of(shown.spatial), gaussian_of(wanted.spatial))
    assert shown.probabilities is not None
    order = order_by_content(shown.probabilities)
    assert scores.inception == inception_score(shown.probabilities[order], 3)
    assert scores.manifold == precision_recall(shown.pooled, wanted.pooled)
    assert scores.kernel == kernel_distance(shown.pooled, wanted.pooled)
    ordered = [rows.pooled[order_by_content(rows.pooled)] for rows in (shown, wanted)]
    assert scores.kernel_of_subsets == kernel_distance_of_subsets(*ordered, subsets=4, size=10, seed=2)
    assert (scores.frechet.pictures, scores.frechet.references) == (24, 30)
    assert scores.frechet.label == "sums"
    assert scores.notes == ()
    assert len(scores.frechet.notes) == 0


@pytest.mark.parametrize("at_once", [0, 1, 3])
def test_batches_and_order_change_nothing(at_once: int) -> None:
    expected = meter_of(at_once=at_once).result()
    generator = torch.Generator().manual_seed(0)
    for size in (1, 7, 30):
        orders = (torch.randperm(len(rows), generator=generator) for rows in (PICTURES, REFERENCES))
        shuffled = (rows[order] for rows, order in zip((PICTURES, REFERENCES), orders, strict=True))
        assert_same(meter_of(*shuffled, size=size, at_once=at_once).result(), expected)


def test_processes_change_nothing() -> None:
    """Two real processes, each with a third of the pictures or two thirds."""
    expected = meter_of(at_once=1).result()
    shares = [(slice(0, 8), slice(20, 30)), (slice(8, 24), slice(0, 20))]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        first, second = pool.map(measure_share, shares)
    second.merge(first)
    assert_same(second.result(), expected)


def measure_share(share: Sequence[slice]) -> DistributionMeter:
    return meter_of(PICTURES[share[0]], REFERENCES[share[1]], 3, at_once=1)


def test_many_processes_merge_alike() -> None:
    expected, total = meter_of().result(), DistributionMeter(FrechetMeter(AllFeatures()), DRAWS)
    for i in (3, 0, 4, 1, 2):
        total.merge(pickle.loads(pickle.dumps(meter_of(PICTURES[i::5], REFERENCES[i::5]))))
    assert_same(total.result(), expected)


def test_a_copy_leaves_the_network_behind() -> None:
    copy = pickle.loads(pickle.dumps(FrechetMeter(tiny_features())))
    with pytest.raises(DataError, match="without its network"):
        copy.add(PICTURES)
    with pytest.raises(DataError, match="cannot add up features of tiny, not comparable and of sums"):
        copy.merge(FrechetMeter(AllFeatures()))


def test_equal_sets_are_at_no_distance() -> None:
    scores = meter_of(PICTURES, PICTURES.flip(0)).result()
    assert scores.frechet.frechet == pytest.approx(0, abs=1e-9)
    assert scores.manifold is not None
    assert (scores.manifold.precision, scores.manifold.recall) == (1, 1)


def test_stored_references(tmp_path: Path) -> None:
    whole = meter_of()
    save_statistics(tmp_path / "ref.npz", whole.reference_statistics())
    meter = FrechetMeter(AllFeatures(), load_statistics(tmp_path / "ref.npz"))
    meter.add(PICTURES)
    assert replace(meter.result(), notes=()) == replace(whole.result().frechet, notes=())
    with pytest.raises(DataError, match="statistics were given"):
        meter.add_reference(REFERENCES)
    with pytest.raises(DataError, match="the reference statistics are of sums"):
        FrechetMeter(tiny_features(), load_statistics(tmp_path / "ref.npz"))
    everything = DistributionMeter(meter, DRAWS)
    scores = everything.result()
    assert scores.kernel is None
    assert "only statistics" in scores.notes[-1]


def test_covariances_over_n() -> None:
    meter = FrechetMeter(AllFeatures(), covariance=Covariance.POPULATION)
    meter.add(PICTURES)
    meter.add_reference(REFERENCES)
    reference = meter.reference_statistics().pooled
    np.testing.assert_allclose(
        reference.covariance,
        np.cov(AllFeatures().features(REFERENCES).pooled.numpy(), rowvar=False, bias=True),
        rtol=1e-9,
    )
    assert meter.result().frechet < meter_of().result().frechet.frechet * 1.1
    assert meter.result().covariance is Covariance.POPULATION


def test_few_pictures_are_noted() -> None:
    scores = meter_of(PICTURES[:2], REFERENCES[:3]).result()
    assert scores.inception is None
    assert scores.manifold is None
    assert scores.kernel_of_subsets is None
    assert [note.split(":")[0] for note in scores.notes] == [
        "no inception score",
        "no precision and recall",
        "no kernel distance of subsets",
    ]
    assert scores.frechet.notes[0].startswith("2 pictures for features of 9 numbers")
    assert scores.frechet.notes[1].startswith("3 references for features of 9 numbers")
    without_classes = meter_of(at_once=1).result()
    assert without_classes.inception is None
    assert "has no classes" in without_classes.notes[0]


def test_bad_sets() -> None:
    with pytest.raises(DataError, match="FID, FVD\\) needs at least 2"):
        meter_of(PICTURES[:1]).result()
    with pytest.raises(DataError, match="got 0"):
        FrechetMeter(AllFeatures()).result()
    meter = FrechetMeter(tiny_features())
    meter.add(PICTURES)
    with pytest.raises(DataError, match="got 0"):
        meter.result()
    with pytest.raises(ShapeError, match="none of them empty"):
        meter.add(PICTURES[:0])
    with pytest.raises(ShapeError, match="pictures"):
        meter.add(PICTURES[0])
    with pytest.raises(NumericsError, match="NaN"):
        meter.add(PICTURES * float("nan"))
    blocks = FrechetMeter(AllFeatures())
    blocks.add(PICTURES)
    with pytest.raises(ShapeError, match="cannot join"):
        blocks.add(random_pictures(2, 0, side=32))  # pictures of another size, and features of another width


def gaussian_of(rows: torch.Tensor) -> Gaussian:
    statistics = GaussianStatistics()
    statistics.add(rows)
    return statistics.result()
