"""Training of priors. What enters: digits of many pictures. What leaves: a trained float prior.

A step of the masked prior shows it what the coder will know at one random point of the order (all earlier layers, the
earlier passes of this layer) and asks for this layer's digits. Weights make the loss an unbiased estimate of the bits
a token costs; tokens of later passes are asked for too, at a lower weight, because they teach the same features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from bsq.errors import MissingDependencyError, ShapeError
from bsq.prior.causal import CausalPrior, CausalSettings
from bsq.prior.layout import code_bits
from bsq.prior.masked import MaskedPrior, MaskedSettings
from bsq.prior.points import Asking, costs, draw_point
from bsq.prior.resume import RunState, Trained, load_run, save_run
from bsq.prior.rounding import Rounding
from bsq.settings import Settings

REPORT_SECONDS, SAVE_SECONDS = 10.0, 30.0
HIDDEN = ("gathers.", "mixes.", "condition_head.", "blocks.")


class PriorTrainingSettings(Settings):
    """How a prior is trained.

    minutes        wall-clock length; the learning rate follows it, so a run always ends cooled down
    steps          length in steps, if that comes first: the same run on any machine
    batch          crops a step, split evenly over the layers of digits
    crop           largest side of the crops, in tokens: smaller grids are seen whole
    rounded        share of the run, at its end, with weights and activations rounded to integers
    later_weight   weight of tokens of later passes, next to 1 for those the coder would ask for
    cut_layers     share of samples that end inside a layer (causal prior: of a code), so that any number of digits can
                   be kept
    """

    minutes: float = Field(default=20.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    batch: int = Field(default=8, ge=1)
    crop: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.03, ge=0, lt=1)
    rounded: float = Field(default=0.3, ge=0, le=1)
    later_weight: float = Field(default=0.3, ge=0, le=1)
    cut_layers: float = Field(default=0.15, ge=0, le=1)
    seed: int = 0


@dataclass(frozen=True)
class PriorProgress:
    """One line of the log: bits a token of each layer, averaged since the last line, as the coder would spend them."""

    step: int
    minutes: float
    learning_rate: float
    layer_bits: tuple[float, ...]

    @property
    def bits(self) -> float:
        """Bits of a whole code."""
        return sum(self.layer_bits)


Report = Callable[[PriorProgress, nn.Module], None]
Losses = Callable[[Tensor, np.random.Generator, float], tuple[Tensor, list[float]]]


def train_masked(
    digits: Tensor | Sequence[Tensor],
    settings: MaskedSettings,
    training: PriorTrainingSettings,
    report: Report,
    run: Path | None = None,
) -> MaskedPrior:
    """Train a masked prior on digits (N, T, h, w, L), integers of the settings' radices.

    Several tensors may differ in all but L: pictures and clips. Each step draws its crops from one of them, as often as
    it has tokens. A prior with `earlier_frames` sees each frame with the one before it; a clip's first frame, and a
    picture, with none. `run`: a file that the run is saved to about twice a
    minute, and resumed from if it is there. Returns the float prior, trained to be frozen. Raises ShapeError if the
    digits do not fit, CheckpointError if the run does not.
    """
    torch.manual_seed(training.seed)
    prior = MaskedPrior(settings)

    def losses(truth: Tensor, draw: np.random.Generator, done: float) -> tuple[Tensor, list[float]]:
        rounding = Rounding() if done >= 1 - training.rounded else None
        before = truth[:, 0] if settings.earlier_frames else None
        return masked_losses(prior, truth[:, -1], before, training, draw, rounding)

    sources = [digits] if isinstance(digits, Tensor) else digits
    frames = [to_frames(to_signs(one, settings.radices), settings.earlier_frames) for one in sources]
    fit(prior, frames, training, losses, report, run)
    return prior.eval()


def train_causal(
    digits: Tensor, settings: CausalSettings, training: PriorTrainingSettings, report: Report, run: Path | None = None
) -> CausalPrior:
    """As `train_masked`, for the paper's prior; frames are seen together. Needs batch × crop² tokens at once.

    Progress tells bits a token of whole codes.
    """
    torch.manual_seed(training.seed)
    prior = CausalPrior(settings)

    def losses(truth: Tensor, draw: np.random.Generator, done: float) -> tuple[Tensor, list[float]]:
        cut = draw.random(len(truth)) < training.cut_layers
        ends = np.where(cut, draw.integers(1, truth.shape[-1], size=len(truth)), truth.shape[-1])
        kept = torch.from_numpy(np.arange(truth.shape[-1]) < ends[:, None])[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            logits = prior(truth * kept).float()
        costs = (F.softplus(-logits * truth) * kept).sum(-1).flatten(1).mean(1) / np.log(2)
        return costs.mean(), [float(costs.detach()[~cut].mean())] if not cut.all() else [float("nan")]

    fit(prior, [to_signs(digits, settings.radices)], training, losses, report, run)
    return prior.eval()


def fit(
    prior: Trained,
    sources: Sequence[Tensor],
    training: PriorTrainingSettings,
    losses: Losses,
    report: Report,
    run: Path | None,
) -> None:
    """The loop: random crops of signs (N, T, h, w, bits), AdamW, a learning rate that follows the clock."""
    tokens = np.array([signs[..., 0].numel() for signs in sources])
    optimizers = build_optimizers(prior, training)
    state = RunState() if run is None else load_run(run, prior, optimizers)
    draw = np.random.default_rng((training.seed, state.step))
    step, done, start = state.step, 0.0, time.monotonic() - state.seconds
    reported = saved = time.monotonic()
    seen: list[list[float]] = []
    while done < 1:
        done = progress(training, step + 1, time.monotonic() - start)
        rate = training.learning_rate * schedule(done, training.warmup)
        signs = sources[int(draw.choice(len(sources), p=tokens / tokens.sum()))]
        loss, bits = losses(draw_crops(signs, training, draw), draw, done)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        step, seen = step + 1, [*seen, bits]
        if time.monotonic() - reported > REPORT_SECONDS or done >= 1:
            minutes, reported = (time.monotonic() - start) / 60, time.monotonic()
            report(PriorProgress(step, minutes, rate, tuple(np.nanmean(seen, 0).tolist())), prior)
            seen = []
        if run is not None and (time.monotonic() - saved > SAVE_SECONDS or done >= 1):
            saved = time.monotonic()
            save_run(run, prior, optimizers, RunState(step, saved - start))


def build_optimizers(prior: nn.Module, training: PriorTrainingSettings) -> list[Optimizer]:
    """Muon for matrices between hidden activations (arXiv:2502.16982: updates of AdamW's size), AdamW for the rest.

    Raises MissingDependencyError for a torch older than 2.9.
    """
    if not hasattr(torch.optim, "Muon"):
        raise MissingDependencyError(f"training a prior needs torch 2.9 or newer, this is {torch.__version__}")
    hidden = [p for name, p in prior.named_parameters() if p.ndim == 2 and name.startswith(HIDDEN)]
    rest = [p for name, p in prior.named_parameters() if not (p.ndim == 2 and name.startswith(HIDDEN))]
    rate, decay = training.learning_rate, training.weight_decay
    return [
        torch.optim.Muon(hidden, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=decay),
    ]


def to_signs(digits: Tensor, radices: tuple[int, ...]) -> Tensor:
    """Digits (N, T, h, w, L) → binary digits (N, T, h, w, bits) as int8 ±1. Raises ShapeError."""
    if digits.ndim != 5 or digits.shape[-1] != len(radices) or not digits.numel():
        raise ShapeError(
            f"digits must be (N, T, h, w, L) with L = {len(radices)} and not empty, got {tuple(digits.shape)}"
        )
    return torch.from_numpy(code_bits(digits.numpy(), radices)).to(torch.int8) * 2 - 1


def to_frames(signs: Tensor, earlier_frames: int) -> Tensor:
    """Signs (N, T, h, w, bits) of clips → (N·T, 1 + earlier_frames, h, w, bits): each frame behind those before it.

    Where there are none stand zeros.
    """
    padded = torch.cat([torch.zeros_like(signs[:, :earlier_frames]), signs], 1) if earlier_frames else signs
    return padded.unfold(1, 1 + earlier_frames, 1).permute(0, 1, 5, 2, 3, 4).flatten(0, 1)


def progress(training: PriorTrainingSettings, step: int, seconds: float) -> float:
    """The share of the run that is over, 0 … 1."""
    by_step = 0.0 if training.steps is None else step / training.steps
    return min(1.0, max(by_step, seconds / (60 * training.minutes)))


def schedule(done: float, warmup: float) -> float:
    """Learning rate factor after the share `done` of the run: linear warm-up, then a cosine to zero."""
    if done < warmup:
        return max(done / warmup, 0.02)
    return 0.5 * (1 + float(np.cos(np.pi * (done - warmup) / (1 - warmup))))


def draw_crops(signs: Tensor, training: PriorTrainingSettings, draw: np.random.Generator) -> Tensor:
    """Random crops (batch, T, crop, crop, bits), or smaller, float ±1 of signs (N, T, h, w, bits)."""
    count, _, height, width, _ = signs.shape
    rows, columns = min(training.crop, height), min(training.crop, width)
    crops = []
    for _ in range(training.batch):
        i = draw.integers(count)
        y, x = draw.integers(height - rows + 1), draw.integers(width - columns + 1)
        crops.append(signs[i, :, y : y + rows, x : x + columns])
    return torch.stack(crops).float()


def masked_losses(
    prior: MaskedPrior,
    truth: Tensor,
    before: Tensor | None,
    training: PriorTrainingSettings,
    draw: np.random.Generator,
    rounding: Rounding | None,
) -> tuple[Tensor, list[float]]:
    """The loss of one batch of signs (B, h, w, bits) and the bits a token that each layer cost in it.

    `before`: signs of the frames before, zeros where there is none; None if the prior does not look at them. The batch
    is shared out evenly over the layers.
    """
    layers = prior.layout.layers
    askings, wholes = [], []
    for i, layer in enumerate(layers):
        signs = truth[i :: len(layers)]
        whole = draw.random(len(signs)) >= training.cut_layers
        ends = np.where(whole, len(layer.bits), draw.integers(1, len(layer.bits) + 1, size=len(signs)))
        point = draw_point(layer, signs, ends, draw, training.later_weight)
        askings.append(Asking(layer, signs, None if before is None else before[i :: len(layers)], point))
        wholes.append(torch.from_numpy(whole))
    with torch.autocast("cpu", torch.bfloat16):
        found = costs(prior, askings, rounding)
    loss, bits = torch.zeros(()), []
    for asking, uncut, cost in zip(askings, wholes, found, strict=True):
        weighted = cost * asking.point.weights
        loss = loss + weighted.sum() / max(1, len(cost))
        counted = asking.point.asked & uncut[:, None, None]
        bits.append(float(weighted.detach()[counted].sum() / max(1, int(uncut.sum()))))
    return loss, bits
