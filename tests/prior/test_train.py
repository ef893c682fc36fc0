"""Training: the loss is what the coder would spend, it falls, and what it made can be frozen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bsq.errors import CheckpointError, ShapeError
from bsq.prior.base import Grid
from bsq.prior.causal import CausalSettings
from bsq.prior.freeze import freeze
from bsq.prior.masked import MaskedPrior, MaskedSettings
from bsq.prior.points import draw_point
from bsq.prior.resume import load_trained
from bsq.prior.train import (
    PriorProgress,
    PriorTrainingSettings,
    draw_crops,
    fit,
    masked_losses,
    to_frames,
    train_causal,
    train_masked,
)

RADICES = (2,) * 6
SMALL = MaskedSettings(radices=RADICES, layer_digits=3, passes=(4, 2), width=32, blocks=1, chain_width=32)
SHORT = PriorTrainingSettings(minutes=5, steps=40, batch=8, crop=8, learning_rate=1e-2)


@pytest.fixture(scope="module")
def digits(correlated: Callable[..., np.ndarray]) -> torch.Tensor:
    grid = Grid(40, 12, 12)
    return torch.from_numpy(correlated(grid, RADICES)).reshape(20, 2, 12, 12, 6).to(torch.uint8)


def test_a_little_training_saves_bits(digits: torch.Tensor, converse: Callable) -> None:
    log: list[PriorProgress] = []
    prior = train_masked(digits, SMALL, SHORT, lambda progress, _: log.append(progress))
    exact = freeze(prior)
    codes = digits[0, 0].reshape(144, 6).numpy()
    spent = converse(exact, Grid(1, 12, 12), RADICES, codes).bits / 144
    loose = converse(prior, Grid(1, 12, 12), RADICES, codes).bits / 144
    assert log[-1].step == 40
    assert len(log[-1].layer_bits) == 2
    assert spent < 5.6
    assert abs(spent - loose) < 0.03 * loose


def test_the_causal_prior_trains(digits: torch.Tensor) -> None:
    settings = CausalSettings(radices=RADICES, width=32, depth=1, head_width=16, chain_width=16)
    log: list[PriorProgress] = []
    train_causal(digits, settings, SHORT, lambda progress, _: log.append(progress))
    assert log[-1].bits < 6


def test_the_loss_is_what_the_coder_spends(make_prior: Callable, digits: torch.Tensor, converse: Callable) -> None:
    prior: MaskedPrior = make_prior(radices=RADICES, layer_digits=3, passes=(3, 2))
    training = PriorTrainingSettings(batch=2, crop=12, later_weight=0, cut_layers=0)
    picture = digits[3, 0]
    truth = (2.0 * picture.float() - 1).expand(2, -1, -1, -1)
    draw = np.random.default_rng(0)
    with torch.no_grad():
        samples = [masked_losses(prior, truth, None, training, draw, None) for _ in range(400)]
    spent = converse(prior, Grid(1, 12, 12), RADICES, picture.reshape(144, 6).numpy()).bits / 144
    assert abs(np.mean([float(loss) for loss, _ in samples]) - spent) < 0.03 * spent
    assert abs(np.mean([sum(bits) for _, bits in samples]) - spent) < 0.03 * spent


def test_frames_stand_behind_the_one_before() -> None:
    signs = torch.tensor([[1, -1, 1], [-1, -1, 1]], dtype=torch.int8)[:, :, None, None, None]
    alone, behind = to_frames(signs, 0), to_frames(signs, 1)
    assert alone.flatten(1).tolist() == [[1], [-1], [1], [-1], [-1], [1]]
    assert behind.flatten(1).tolist() == [[0, 1], [1, -1], [-1, 1], [0, -1], [-1, -1], [-1, 1]]


def test_a_still_film_costs_little_with_memory(converse: Callable) -> None:
    """Frames that never change are all but free, once the prior has learnt to look at the one before."""
    noise = torch.randint(2, (60, 1, 12, 12, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    film = noise.expand(-1, 4, -1, -1, -1)
    log: list[PriorProgress] = []
    settings = SMALL.model_copy(update={"earlier_frames": 1})
    training = SHORT.model_copy(update={"steps": 150})
    prior = train_masked([film, noise], settings, training, lambda progress, _: log.append(progress))
    digits = film[0].reshape(-1, 6).numpy()
    exact = freeze(prior)
    first, whole = (converse(exact, Grid(t, 12, 12), RADICES, digits[: t * 144]).bits for t in (1, 4))
    assert first > 0.9 * 144 * 6
    assert whole - first < 0.5 * first


def test_sources_may_differ_in_size() -> None:
    """Each step takes crops of one source, as often as it has tokens; small grids are seen whole."""
    signs = [torch.ones(5, 2, 12, 12, 6, dtype=torch.int8), torch.ones(50, 2, 4, 9, 6, dtype=torch.int8)]
    training = PriorTrainingSettings(batch=2, crop=8)
    shapes = [tuple(draw_crops(one, training, np.random.default_rng(0)).shape) for one in signs]
    assert shapes == [(2, 2, 8, 8, 6), (2, 2, 4, 8, 6)]
    seen: list[int] = []

    def losses(truth: torch.Tensor, draw: np.random.Generator, done: float) -> tuple[torch.Tensor, list[float]]:
        seen.append(truth.shape[2])
        return sum(p.sum() for p in model.parameters()) * 0, [0.0]

    model = MaskedPrior(SMALL)
    fit(model, signs, training.model_copy(update={"steps": 60}), losses, lambda *_: None, None)
    assert 5 < seen.count(8) < 25, "720 tokens of 2,520"


def test_a_point_of_the_order_knows_only_the_past() -> None:
    layer = SMALL.layout().layers[1]
    signs = torch.ones(50, 8, 8, 6)
    ends = np.arange(50) % 3 + 1
    point = draw_point(layer, signs, ends, np.random.default_rng(0), later_weight=0.5)
    assert bool(point.known[..., :3].all())
    assert not bool((point.known[..., 3:].any(-1) & (point.weights > 0)).any())
    assert bool((point.asked <= (point.weights > 0)).all())
    assert not bool((point.known[..., 3:] & (point.kept == 0)[:, None, None]).any())
    assert point.kept.sum(1).tolist() == ends.tolist()


@pytest.mark.parametrize("shape", [(2, 1, 0, 12, 6), (2, 1, 12, 12, 5), (2, 12, 12, 6), (0, 1, 12, 12, 6)])
def test_shapes_are_checked(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="digits must be"):
        train_masked(torch.zeros(shape, dtype=torch.uint8), SMALL, SHORT, lambda *_: None)


def test_a_run_resumes(digits: torch.Tensor, tmp_path: Path) -> None:
    run, log = tmp_path / "run.safetensors", []
    half = SHORT.model_copy(update={"steps": 10})
    first = train_masked(digits, SMALL, half, lambda progress, _: log.append(progress), run)
    same = train_masked(digits, SMALL, half, lambda progress, _: log.append(progress), run)
    assert (log[0].step, log[1].step) == (10, 11), "a run that was over makes one step more"
    assert log[1].minutes >= log[0].minutes
    assert torch.allclose(first.chain.bias, same.chain.bias, atol=1e-4)
    kept = load_trained(run)
    assert isinstance(kept, MaskedPrior)
    assert kept.settings == SMALL
    with pytest.raises(CheckpointError, match="other settings"):
        train_masked(digits, SMALL.model_copy(update={"width": 40}), half, lambda *_: None, run)
    run.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="no training run"):
        load_trained(run)
    with pytest.raises(CheckpointError, match="cannot resume"):
        train_masked(digits, SMALL, half, lambda *_: None, run)
