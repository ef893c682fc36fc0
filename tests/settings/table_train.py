"""Training: what single parts say, and what runs of two steps leave behind."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from entries import Row, rows
from PIL import Image
from table_data import write_videos
from torch import nn

from bsq.data.loader import open_samples
from bsq.errors import TrainingError
from bsq.quantizers.base import Quantized, QuantizerTerms
from bsq.tokenizer import Reconstruction, Tokenizer
from bsq.train import Recipe, Start, run, stepping
from bsq.train.checkpoints import checkpoints, load_state
from bsq.train.ema import Ema, EmaSettings
from bsq.train.generator_recipe import GeneratorRecipe
from bsq.train.learners import choose_learners
from bsq.train.objective import LossSettings, NestedSettings, TokenizerObjective, draw_kept
from bsq.train.optimizers import (
    AdamWSettings,
    AnyOptimizerSettings,
    MuonSettings,
    ScheduleFreeSettings,
    build_optimizers,
)
from bsq.train.plan import plan_run
from bsq.train.rate import RateSettings
from bsq.train.recipe import SampleSettings
from bsq.train.schedule import RampSettings, ScheduleSettings, learning_rate_factor, ramped
from bsq.train.trainer import Trainer, build_tokenizer


def follow(settings: ScheduleSettings, folder: Path) -> Any:
    return [learning_rate_factor(settings, seen, 100) for seen in range(0, 100, 5)]


def ramp(settings: RampSettings, folder: Path) -> Any:
    return [ramped(settings, seen) for seen in range(0, 100, 5)]


def draw(settings: NestedSettings, folder: Path) -> Any:
    return draw_kept(settings, 0, torch.arange(50))


def average(settings: EmaSettings, folder: Path) -> Any:
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    ema, seen = Ema(model, settings, batch=4), []
    for step in range(20):
        nn.init.constant_(model.weight, step)
        ema.update(model, step)
        seen.append(ema.model.weight[0, 0].item())
    return seen


class TwoLayers(nn.Module):
    """One matrix for Muon, one for AdamW."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(4, 4)])})
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner["blocks"][0](x))


def descend(settings: AnyOptimizerSettings, folder: Path) -> Any:
    torch.manual_seed(0)
    model, x = TwoLayers(), torch.randn(8, 4)
    optimizers = build_optimizers(settings, model)
    for _ in range(3):
        model(x).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return dict(model.state_dict())


def weigh(settings: LossSettings, folder: Path) -> Any:
    """The objective where all terms of a quantizer have a value."""
    one, other = torch.rand(2, 1, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    values = {name: torch.tensor(float(i + 1), requires_grad=True) for i, name in enumerate(TERMS)}
    again = Reconstruction(one, Quantized(one, None, QuantizerTerms.build(one.device, **values)))
    return TokenizerObjective(settings)(again, other, 0)


TERMS = ("entropy", "commitment", "codebook", "kl")

TRANSFORMER = {"width": 16, "depth": 1, "head_width": 8}
MODEL = {"patch": 8, "quantizer": {"kind": "bsq", "bits": 8}, "encoder": TRANSFORMER, "decoder": TRANSFORMER}
PATCH = {"kind": "adversarial", "discriminator": {"kind": "patch", "width": 4, "layers": 1}}
RATE = {
    "weight": 0.1,
    "start": 0.3,
    "ramp": 8,
    "layer_digits": 4,
    "passes": (2, 1),
    "width": 16,
    "blocks": 1,
    "chain_width": 16,
}
RECIPE: dict[str, Any] = {
    "model": MODEL,
    "data": {"source": ["pictures"], "crop": 16, "workers": 0},
    "pictures": 8,
    "batch": 4,
    "precision": "fp32",
    "log_every": 4,
    "checkpoint_every": 4,
    "samples": {"every": 4, "count": 1},
    "threads": 1,
    "writers": [],
}


def train(settings: Recipe, folder: Path) -> Any:
    """The log, the newest checkpoint and the names of all files of a run."""
    sources = []
    for name in (*settings.data.source, *settings.samples.source):
        sources.append(draw_pictures(folder / name, 6))
    data = settings.data.model_copy(update={"source": (str(sources[0]),)})
    samples = settings.samples.model_copy(update={"source": tuple(map(str, sources[1:]))})
    out = folder / "run"
    threads = torch.get_num_threads()
    try:
        run(settings.model_copy(update={"data": data, "samples": samples}), out)
    finally:
        torch.set_num_threads(threads)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    timing = ("pictures_per_second", "data_wait")
    log = [{name: value for name, value in line.items() if name not in timing} for line in lines]
    files = sorted(str(path.relative_to(out)).split("events")[0] for path in out.rglob("*"))
    sheets = [np.asarray(Image.open(path)) for path in sorted((out / "samples").iterdir())]
    newest = checkpoints(out / "checkpoints")
    return log, files, sheets, load_state(out / "checkpoints").tensors if newest else None


def draw_pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(len(folder.name))
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def with_loss(settings: LossSettings, folder: Path) -> Any:
    return train(Recipe(**{**RECIPE, "loss": settings}), folder)


def with_rate(settings: RateSettings, folder: Path) -> Any:
    return with_loss(LossSettings(rate=settings), folder)


def sample(settings: SampleSettings, folder: Path) -> Any:
    return train(Recipe(**{**RECIPE, "samples": settings}), folder)


def build(settings: Recipe, folder: Path) -> Any:
    """How a trainer in a group of one process holds and calls its model."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        trainer = Trainer(settings, Accelerator(cpu=True))
        return type(trainer.model).__name__, [
            type(weight).__name__ for weight in trainer.tokenizer.state_dict().values()
        ]
    finally:
        dist.destroy_process_group()


def remember(settings: Recipe, folder: Path) -> Any:
    """How many tensors a forward pass keeps for the backward pass."""
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda nothing: nothing):
        build_tokenizer(settings)(torch.zeros(1, 3, 1, 16, 16) + 0.1)
    return kept


def need(settings: Recipe | GeneratorRecipe, folder: Path) -> Any:
    """What a run takes, by its plan; gradients that move weights at once do not wait for others."""
    with patch.object(stepping, "PORTION", 1):
        return plan_run(settings)


def hold(settings: Recipe, folder: Path) -> Any:
    """Names of the weights that learn."""
    with torch.device("meta"):
        tokenizer = Tokenizer(settings.model)
    choose_learners(tokenizer, settings)
    return [name for name, weight in tokenizer.named_parameters() if weight.requires_grad]


def count_threads(settings: Recipe, folder: Path) -> Any:
    """Threads of PyTorch after a run that has nothing to resume."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with contextlib.suppress(TrainingError):
            run(settings, folder, Start.RESUME)
        return torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def look(settings: SampleSettings, folder: Path) -> Any:
    """The middles of clips of this recipe's samples."""
    for number, name in enumerate(("videos", "held_out")):
        write_videos(folder / name, 30 + number)
    clips = {"source": str(folder / "videos"), "frames": 2}
    samples = {"count": settings.count, "clips": [str(folder / name) for name in settings.clips]}
    recipe = Recipe(**{**RECIPE, "data": {"clips": clips, "crop": 16, "workers": 0}, "samples": samples})
    return open_samples(recipe.data, recipe.samples.source, recipe.samples.clips, 0).central(recipe.samples.count)


GAN = {**RECIPE, "loss": {"adversarial": PATCH}}
SELDOM = {**RECIPE, "checkpoint_every": 8}
BROKEN = {
    **SELDOM,
    "samples": {"every": 100_000},
    "pictures": 24,
    "most_bad_steps": 2,
    "optimizer": {"kind": "adamw", "learning_rate": 1e30},
}
ADAMW = {"learning_rate": 0.1, "weight_decay": 0.1}
MUON = {"learning_rate": 0.1, "rest": ADAMW}
SHORT_RAMP = {"weight": 0.1, "start": 0.3, "ramp": 50}

TABLE: list[Row] = [
    *rows(ScheduleSettings, follow, {"warm_up": 20}, warm_up=40, start=0.5, floor=0.1, horizon=60),
    *rows(RampSettings, ramp, SHORT_RAMP, weight=0.2, start=0.5, ramp=20),
    *rows(NestedSettings, draw, {"choices": (2, 4)}, choices=(2, 8)),
    *rows(EmaSettings, average, {}, decay=0.5, every=3, start=40),
    *rows(AdamWSettings, descend, ADAMW, learning_rate=0.2, betas=(0.5, 0.9), epsilon=0.1, weight_decay=0.5),
    *rows(MuonSettings, descend, MUON, learning_rate=0.2, momentum=0.5, weight_decay=0.5),
    *rows(MuonSettings, descend, MUON, rest={"learning_rate": 0.3}),
    *rows(ScheduleFreeSettings, descend, ADAMW, learning_rate=0.2, betas=(0.5, 0.9), epsilon=0.1, weight_decay=0.5),
    *rows(LossSettings, weigh, {}, reconstruction={"l1": 2.0}, entropy={"weight": 1.0}, commitment=1.0, codebook=2.0),
    *rows(LossSettings, weigh, {}, kl=1.0, perceptual={"kind": "lpips"}),
    *rows(LossSettings, with_loss, {}, adversarial=PATCH, rate=RATE),
    *rows(RateSettings, with_rate, RATE, weight=0.2, start=0.5, ramp=4, layer_digits=2, passes=(3, 1), width=24),
    *rows(RateSettings, with_rate, RATE, blocks=2, chain_width=24, window=3, learning_rate=0.1, rounded=1.0),
    *rows(SampleSettings, sample, RECIPE["samples"], every=8, count=2, source=["others"]),
    *rows(SampleSettings, look, {}, clips="held_out"),
    *rows(
        Recipe,
        train,
        RECIPE,
        model={**MODEL, "patch": 4},
        data={**RECIPE["data"], "crop": 8},
        loss={"reconstruction": {"mse": 1.0}},
        nested={"choices": [4, 8]},
        optimizer={"kind": "muon"},
        schedule={"warm_up": 8},
        ema={"decay": 0.05},
        pictures=4,
        batch=2,
        precision="bf16",
        clip=0.01,
        initial="biscuit-s",  # of other settings, which is an error
        micro_batch=2,
        seed=1,
        checkpoint_every=8,
        keep_checkpoints=1,
        samples={"every": 8, "count": 1},
        writers=["tensorboard"],
    ),
    *rows(Recipe, train, GAN, discriminator_optimizer={"learning_rate": 1e-2}),
    *rows(Recipe, train, SELDOM, log_every=8),
    *rows(Recipe, train, BROKEN, most_bad_steps=9),
    *rows(Recipe, build, RECIPE, parallel="fsdp", compile="default"),
    *rows(Recipe, remember, RECIPE, recompute=True),
    *rows(Recipe, need, RECIPE | {"clip": None}, step_in_backward=True),
    *rows(Recipe, hold, RECIPE | {"initial": "biscuit-s"}, learns="decoder"),
    *rows(Recipe, count_threads, RECIPE, threads=2),
]
