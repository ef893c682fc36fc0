"""Generators: shapes, masks, orders, samples, and runs of two steps."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from entries import Row, rows
from table_bulk import Deaf
from table_train import draw_pictures, need

from bsq.bulk.run import Request, tokenize
from bsq.bulk.settings import TokenizeSettings
from bsq.bulk.spread import Here
from bsq.data.loader import Share
from bsq.errors import TrainingError
from bsq.generate.folder import GeneratorCard, load_generator, save_generator
from bsq.generate.guidance import (
    ConstantGuidance,
    Guidance,
    IntervalGuidance,
    LinearGuidance,
    PowerCosineGuidance,
    guidance_weight,
)
from bsq.generate.masking import MaskingSettings, draw_known, drop_classes
from bsq.generate.network import Generator, GeneratorSettings
from bsq.generate.order import ConfidenceSettings
from bsq.generate.sampler import Sampler, SamplerSettings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.train import GeneratorRecipe, Start, run
from bsq.train.checkpoints import checkpoints, load_state
from bsq.train.generator_recipe import NewSampleSettings
from bsq.train.generator_trainer import GeneratorTrainer
from bsq.train.live_codes import LiveCodes, LiveCodeSettings
from bsq.train.token_folder import TokenFolderSettings
from bsq.train.tokens import TokenDataSettings, encode_pictures

SHAPE = {
    "radices": (2,) * 8,
    "group_digits": 4,
    "classes": 2,
    "grid": (1, 2, 2),
    "width": 16,
    "depth": 1,
    "head_width": 8,
}
TRANSFORMER = {"width": 16, "depth": 1, "head_width": 8}


def network(settings: GeneratorSettings, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    made = Generator(settings).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return made


def guess(settings: GeneratorSettings, folder: Path) -> Any:
    """Weights, and what training sees of a clip."""
    made = network(settings)
    frames, rows_, columns = settings.grid
    groups = torch.zeros(1, frames, rows_, columns, len(made.grouping.spans), dtype=torch.int64)
    known = torch.zeros_like(groups, dtype=torch.bool)
    known[:, 0, 0, 0] = True
    torch.manual_seed(1)
    logits = made.train()(groups, known, torch.zeros(1, dtype=torch.int64))
    return dict(made.state_dict()), logits


def mask(settings: MaskingSettings, folder: Path) -> Any:
    positions = torch.arange(20)
    return draw_known(settings, 0, positions, (3, 2, 2, 2)), drop_classes(settings, 0, positions, positions % 5, 5)


def draw(settings: SamplerSettings, folder: Path) -> Any:
    made = network(GeneratorSettings.model_validate({**SHAPE, "grid": (1, 6, 6), "depth": 2}))
    return Sampler(made, settings).sample(torch.tensor([0, 1, 1]), seed=0).digits


def count_looks(settings: SamplerSettings, folder: Path) -> Any:
    """How many pictures go through a block at once."""
    made, seen = network(GeneratorSettings.model_validate(SHAPE)), []
    made.head.up.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    Sampler(made, settings).sample(torch.tensor([0, 1, 1]), seed=0)
    return seen


def order(settings: ConfidenceSettings, folder: Path) -> Any:
    return draw(SamplerSettings(order=settings), folder)


def ramp(settings: Guidance, folder: Path) -> Any:
    return [guidance_weight(settings, step, 5) for step in range(5)]


def tokenizer_of() -> Tokenizer:
    torch.manual_seed(0)
    shape = {"patch": 8, "quantizer": {"kind": "bsq", "bits": 8}, "encoder": TRANSFORMER, "decoder": TRANSFORMER}
    return Tokenizer(TokenizerSettings.model_validate(shape)).eval()


RECIPE: dict[str, Any] = {
    "kind": "generator",
    "tokenizer": "tokenizer",
    "model": {**SHAPE, "classes": 0},
    "data": {"source": ["pictures"], "crop": 16},
    "pictures": 8,
    "batch": 4,
    "precision": "fp32",
    "log_every": 4,
    "checkpoint_every": 4,
    "samples": {"every": 4, "count": 1, "sampler": {"steps": 1}},
    "threads": 1,
    "writers": [],
}


def placed(settings: GeneratorRecipe, folder: Path) -> GeneratorRecipe:
    """With pictures, a tokenizer and names in `folder`."""
    tokenizer_of().save_pretrained(folder / "tokenizer")
    (folder / "names").write_text("a\nb\n")
    content = settings.model_dump(mode="json")
    for part in (content["data"], content["samples"]):
        if "source" in part:
            part["source"] = [str(draw_pictures(folder / name, 6)) for name in part["source"]]
    if content["data"]["class_names"] and "source" in content["data"]:
        content["data"]["class_names"] = str(folder / "names")
    return GeneratorRecipe.model_validate({**content, "tokenizer": str(folder / content["tokenizer"])})


def train(settings: GeneratorRecipe, folder: Path) -> Any:
    """The log, the newest checkpoint and the names of all files of a run."""
    out, threads = folder / "run", torch.get_num_threads()
    try:
        run(placed(settings, folder), out)
    finally:
        torch.set_num_threads(threads)
    timing = ("pictures_per_second", "data_wait")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    log = [{name: value for name, value in line.items() if name not in timing} for line in lines]
    files = sorted(str(path.relative_to(out)).split("events")[0] for path in out.rglob("*"))
    newest = checkpoints(out / "checkpoints")
    return log, files, load_state(out / "checkpoints").tensors if newest else None


def sample(settings: NewSampleSettings, folder: Path) -> Any:
    log, files, _ = train(GeneratorRecipe(**{**RECIPE, "samples": settings}), folder)
    return log, files, [path.read_bytes() for path in sorted((folder / "run" / "samples").iterdir())]


def encode(settings: TokenDataSettings, folder: Path) -> Any:
    """The codes of some pictures, and what the cache holds."""
    for name in ("pictures", "others"):
        draw_pictures(folder / name, 3)
    (folder / "names").write_text("pictures\nothers\n")
    changes: dict[str, Any] = {"source": tuple(str(folder / name) for name in settings.source)}
    changes |= {name: str(folder / value) for name in ("cache", "class_names") if (value := getattr(settings, name))}
    made = encode_pictures(settings.model_copy(update=changes), changes["source"], tokenizer_of(), 8)
    return made.digits, made.labels, (folder / "cache").exists()


def read_tokens(settings: TokenFolderSettings, folder: Path) -> Any:
    """The log and the weights of a run on tokens of two folders of pictures, in six shards."""
    for name in ("pictures", "others"):
        draw_pictures(folder / name, 3)
    (folder / "names").write_text("pictures\nothers\n")
    wanted = TokenizeSettings(shard_size=1, format="webdataset", label="folder", views={"size": 16})
    given = tuple(str(folder / name) for name in ("pictures", "others"))
    tokenize(Request(given, str(folder / "tokens"), wanted), tokenizer_of(), Here(), Deaf())
    changes = {"folder": str(folder / settings.folder)}
    changes |= {"class_names": str(folder / "names")} if settings.class_names else {}
    model = {**SHAPE, "classes": 2 if settings.class_names else 0}
    return train(GeneratorRecipe(**{**RECIPE, "model": model, "data": settings.model_copy(update=changes)}), folder)


def cut_live(settings: LiveCodeSettings, folder: Path) -> Any:
    """Digits and labels of two batches."""
    for name in ("pictures", "others"):
        draw_pictures(folder / name, 3)
    names = ("pictures", "others") if settings.class_names else ()
    sources = tuple(str(folder / name) for name in settings.source)
    codes = LiveCodes(settings.model_copy(update={"source": sources}), tokenizer_of(), 8, names, seed=0)
    return [(batch.digits, batch.labels) for batch in codes.batches(Share(4, 4), 0, 8)]


def build(settings: GeneratorRecipe, folder: Path) -> Any:
    """How a trainer in a group of one process holds and calls its model."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        card = GeneratorCard(network=settings.model, tokenizer="", code_hash="")
        trainer = GeneratorTrainer(settings, card, Accelerator(cpu=True))
        return type(trainer.model).__name__, [type(weight).__name__ for weight in trainer.network.state_dict().values()]
    finally:
        dist.destroy_process_group()


def count_threads(settings: GeneratorRecipe, folder: Path) -> Any:
    """Threads of PyTorch after a run that has nothing to resume."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with contextlib.suppress(TrainingError):
            run(settings, folder, Start.RESUME)
        return torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def set_masks(settings: MaskingSettings, folder: Path) -> Any:
    return train(GeneratorRecipe(**{**RECIPE, "masking": settings}), folder)


BROKEN = {**RECIPE, "pictures": 24, "checkpoint_every": 24, "samples": {"every": 100_000}, "most_bad_steps": 2}
BROKEN["optimizer"] = {"kind": "adamw", "learning_rate": 1e30}


def keep(settings: GeneratorCard, folder: Path) -> Any:
    """What a folder holds, read back."""
    save_generator(folder / "kept", Generator(settings.network), settings)
    return load_generator(folder / "kept").card.model_dump(mode="json")


CARD = {"network": SHAPE, "tokenizer": "a", "code_hash": "b"}

TABLE: list[Row] = [
    *rows(
        GeneratorCard, keep, CARD, network={**SHAPE, "depth": 2}, tokenizer="c", code_hash="d", class_names=("e", "f")
    ),
    *rows(GeneratorSettings, guess, SHAPE, radices=(2,) * 6, group_digits=2, classes=3, grid=(1, 2, 3)),
    *rows(GeneratorSettings, guess, SHAPE, inputs="embeddings", norm="pre", positions="rotary", width=24, depth=2),
    *rows(GeneratorSettings, guess, SHAPE, head_width=16, mlp_ratio=2, dropout=0.5),
    *rows(GeneratorSettings, guess, {**SHAPE, "grid": (3, 2, 2)}, window_frames=2),
    *rows(MaskingSettings, mask, {}, schedule="linear", class_dropout=0.9, frames="last"),
    *rows(MaskingSettings, set_masks, {}, label_smoothing=0.5),
    *rows(SamplerSettings, draw, {}, steps=5, schedule="linear", temperature=0.3, order={"kind": "halton"}, refresh=4),
    *rows(SamplerSettings, draw, {}, guidance={"kind": "constant", "weight": 5.0}, precision="bf16"),
    *rows(SamplerSettings, count_looks, {}, together=1),
    *rows(ConfidenceSettings, order, {}, choice_temperature=0.0),
    *rows(ConstantGuidance, ramp, {}, weight=1.0),
    *rows(LinearGuidance, ramp, {}, weight=1.0),
    *rows(PowerCosineGuidance, ramp, {}, weight=1.0, power=1.0),
    *rows(IntervalGuidance, ramp, {}, weight=1.0, start=0.2, end=0.6),
    *rows(TokenDataSettings, encode, {"source": ["pictures"], "crop": 16}, source=["others"], crop=8, views=2),
    *rows(TokenDataSettings, encode, {"source": ["pictures"], "crop": 16}, short_side=16, mirrored="never"),
    *rows(TokenDataSettings, encode, {"source": ["pictures"], "crop": 16}, class_names="names", cache="cache"),
    *rows(TokenFolderSettings, read_tokens, {"folder": "tokens"}, folder="none", class_names="names", mix=1),
    *rows(LiveCodeSettings, cut_live, {"source": ["pictures"], "crop": 16}, source=["others"], crop=8, short_side=16),
    *rows(LiveCodeSettings, cut_live, {"source": ["pictures"], "crop": 16}, zoom=(0.5, 1.0), flip=1.0, grey=1.0),
    *rows(LiveCodeSettings, cut_live, {"source": ["pictures"], "crop": 16}, recolour=1.0),
    *rows(LiveCodeSettings, cut_live, {"source": ["pictures"], "crop": 16}, class_names="n"),
    *rows(NewSampleSettings, sample, RECIPE["samples"], tokens="nowhere"),
    *rows(NewSampleSettings, sample, RECIPE["samples"], every=8, count=2, source=["others"], sampler={"steps": 2}),
    *rows(NewSampleSettings, sample, {**RECIPE["samples"], "source": ["others"]}, passes=1),
    *rows(
        GeneratorRecipe,
        train,
        RECIPE,
        tokenizer="none",
        model={**RECIPE["model"], "depth": 2},
        data={"source": ["pictures"], "crop": 16, "mirrored": "never"},
        masking={"schedule": "linear"},
        optimizer={"kind": "muon"},
        schedule={"warm_up": 8},
        ema={"decay": 0.05},
        pictures=4,
        batch=2,
        precision="bf16",
        clip=0.01,
        initial="biscuit-s",  # which may have a generator, of other settings
        micro_batch=2,
        seed=1,
        checkpoint_every=8,
        keep_checkpoints=1,
        samples={"every": 8, "count": 1, "sampler": {"steps": 1}},
        writers=["tensorboard"],
    ),
    *rows(GeneratorRecipe, train, {**RECIPE, "checkpoint_every": 8}, log_every=8),
    *rows(GeneratorRecipe, train, BROKEN, most_bad_steps=9),
    *rows(GeneratorRecipe, build, RECIPE, parallel="fsdp", compile="default"),
    *rows(GeneratorRecipe, need, RECIPE | {"clip": None}, step_in_backward=True),
    *rows(GeneratorRecipe, count_threads, RECIPE, threads=2),
]
