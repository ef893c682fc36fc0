"""The same small generator on several tokenizers, by steps and by guidance: table, plot, grids.

    python examples/pick_classes.py 'train-*.tar' --names classes.txt --classes airplanes Motorbikes --size 48 64 \\
        --views 2 -o runs/pair
    python examples/compare_generators.py bsq-10/model vq-10/model fsq-10/model --data runs/pair -o runs/generators

What enters: folders of tokenizers with equal grids; folders of labelled pictures of one size, NAME/*.png, and
classes.txt beside them. Of each tokenizer the pictures become tokens once, and a generator of the same shape sees as
many of them. What leaves: outcomes.json, outcomes.md, outcomes.png and a grid of each. Fréchet distances (lower is
better), precision and recall are those of SqueezeNet features between new pictures and the training pictures; "codes
alone" are the training pictures through the tokenizer, the best that a generator of its codes can reach. All give the
code's digits as vectors of a table (`inputs: embeddings`), because the bits of a VQ index mean nothing. Runs that are
finished are measured, unfinished ones go on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

import bsq
from bsq.bulk.run import Request, tokenize
from bsq.bulk.settings import TokenizeSettings
from bsq.bulk.spread import Here
from bsq.codes import Codes
from bsq.data.labels import read_class_names
from bsq.generate.folder import load_generator
from bsq.generate.sampler import Sampler, SamplerSettings
from bsq.metrics.distribution import DistributionMeter
from bsq.metrics.features import SqueezeNetwork
from bsq.tokenizer import Tokenizer
from bsq.train import End, GeneratorRecipe, Start, run
from bsq.train.token_folder import FolderCodes

CONSOLE = Console(highlight=False)
GUIDED_AT, STEPPED_AT = 16, 1.0
"""Steps of the samples that show guidance, and guidance of those that show steps."""
SHOWN = 24


@dataclass(frozen=True)
class Outcome:
    """Samples of a tokenizer's generator; `steps` None: reconstructions of the training pictures."""

    tokenizer: str
    steps: int | None
    guidance: float | None
    frechet: float
    precision: float
    recall: float
    samples: int
    parameters: int
    bits_per_token: float  # of the last stretch of training


class Quiet:
    """Listens to nothing: the pictures are few."""

    def listed(self, inputs: int) -> None: ...
    def begins(self, plan: Any, done: int, inputs: int) -> None: ...
    def wrote(self, note: Any) -> None: ...


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    names = read_class_names(str(options.data / "classes.txt"))
    meter = Meter(options.data, names, options.references)
    outcomes: list[Outcome] = []
    for place in options.tokenizers:
        name = place.parent.name if place.name == "model" else place.name
        outcomes += measured(name, bsq.load(place), names, meter, options)
        (options.output / "outcomes.json").write_text(json.dumps([asdict(one) for one in outcomes], indent=1) + "\n")
    (options.output / "outcomes.md").write_text(table(outcomes))
    plot(outcomes, options.output / "outcomes.png")
    CONSOLE.print(table(outcomes))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizers", nargs="+", type=Path, help="folders of tokenizers")
    parser.add_argument("--data", type=Path, required=True, help="what examples/pick_classes.py made")
    parser.add_argument("--pictures", type=int, default=48_000, help="seen in training")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--guidance", type=float, nargs="+", default=[0.0, 1.0, 2.0, 4.0])
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--references", type=int, default=1380, help="training pictures to measure against, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


def measured(
    name: str, tokenizer: Tokenizer, names: tuple[str, ...], meter: Meter, options: argparse.Namespace
) -> Iterator[Outcome]:
    """Train, if that is still to be done, and measure."""
    CONSOLE.rule(name)
    out = options.output / name
    rows = tokens_of(tokenizer, options.data, out / "tokens", names)
    result = train(rows, tokenizer, name, names, options)
    generator = load_generator(out / "generator" / "model").network
    parameters = sum(weight.numel() for weight in generator.parameters())

    def outcome(pixels: Iterator[torch.Tensor], steps: int | None, guidance: float | None) -> Outcome:
        frechet, precision, recall, count = meter.scores(pixels)
        done = Outcome(name, steps, guidance, frechet, precision, recall, count, parameters, result)
        CONSOLE.print(done)
        return done

    yield outcome(meter.again(tokenizer), None, None)
    labels = rows.every_row().labels
    classes = labels[torch.arange(options.samples) * len(labels) // options.samples]  # as frequent as in training
    settings = [(steps, STEPPED_AT) for steps in options.steps]
    settings += [(GUIDED_AT, weight) for weight in options.guidance if weight != STEPPED_AT]
    for steps, weight in settings:
        how = SamplerSettings.model_validate(
            {"steps": steps, "guidance": {"kind": "linear", "weight": weight}, "together": 64, "precision": "bf16"}
        )
        codes = Sampler(generator, how).sample(classes, seed=0)
        if (steps, weight) == (GUIDED_AT, STEPPED_AT):
            save_grid(codes, tokenizer, out.parent / f"{name}.png")
        yield outcome(decoded(codes, tokenizer), steps, weight)


def tokens_of(tokenizer: Tokenizer, data: Path, place: Path, names: tuple[str, ...]) -> FolderCodes:
    settings = TokenizeSettings(label="folder", format="webdataset", batch=16)
    tokenize(Request(tuple(str(data / name) for name in names), str(place), settings), tokenizer, Here(), Quiet())
    return FolderCodes(str(place), tokenizer, len(tokenizer.radices), names)


def train(
    rows: FolderCodes, tokenizer: Tokenizer, name: str, names: tuple[str, ...], options: argparse.Namespace
) -> float:
    """→ bits a token at the end."""
    out = options.output / name / "generator"
    recipe = GeneratorRecipe.model_validate(
        {
            "kind": "generator",
            "tokenizer": str(next(p for p in options.tokenizers if name in (p.name, p.parent.name))),
            "model": {
                "radices": tokenizer.radices,
                "group_digits": len(tokenizer.radices),
                "classes": len(names),
                "grid": rows.grid,
                "inputs": "embeddings",
                "norm": "pre",
                "width": options.width,
                "depth": options.depth,
                "head_width": 32,
                "dropout": 0.1,
            },
            "data": {"kind": "tokens", "folder": rows.place, "class_names": str(options.data / "classes.txt")},
            "masking": {"schedule": "arccos", "label_smoothing": 0.0, "class_dropout": 0.1},
            "optimizer": {"kind": "muon", "learning_rate": 2e-3, "rest": {"learning_rate": 1e-3}},
            "schedule": {"warm_up": 1_600, "start": 0.01, "floor": 0.02},
            "ema": {"decay": 0.998},
            "pictures": options.pictures,
            "log_every": min(4_000, options.pictures),
            "checkpoint_every": min(16_000, options.pictures),
            "samples": {"every": options.pictures, "count": 16, "sampler": {"steps": 12}},
            "threads": options.threads,
            "writers": [],
        }
    )
    started = (out / "checkpoints").exists()
    if run(recipe, out, Start.RESUME if started else Start.FRESH).end is not End.FINISHED:
        raise SystemExit(f"{name} was stopped; give the same command again to go on")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return float([line["bits_per_token"] for line in lines if line["event"] == "train"][-1])


class Meter:
    """The training pictures, their features, and what others are beside them."""

    def __init__(self, data: Path, names: tuple[str, ...], most: int) -> None:
        paths = [path for name in names for path in sorted((data / name).glob("*-0.png"))]
        chosen = paths[:: max(1, -(-len(paths) // most))]
        pictures = np.stack([np.asarray(Image.open(path)) for path in chosen])
        self.pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        self.network = SqueezeNetwork(at_once=16)
        self.references = self._empty()
        self.references.add_references(self.pixels)

    def scores(self, pixels: Iterator[torch.Tensor]) -> tuple[float, float, float, int]:
        meter = self._empty()
        meter.references = self.references.references
        for part in pixels:
            meter.add_samples(part.clamp(-1, 1))
        found = meter.result()
        assert found.fid is not None
        assert found.precision_recall is not None
        return found.fid, found.precision_recall.precision, found.precision_recall.recall, found.samples

    def again(self, tokenizer: Tokenizer) -> Iterator[torch.Tensor]:
        return (tokenizer.reconstruct(part) for part in self.pixels.split(32))

    def _empty(self) -> DistributionMeter:
        return DistributionMeter(self.network, ("fid", "precision and recall"))


def decoded(codes: Codes, tokenizer: Tokenizer) -> Iterator[torch.Tensor]:
    return (tokenizer.decode(Codes(part, codes.radices))[:, :, 0] for part in codes.digits.split(32))


def save_grid(codes: Codes, tokenizer: Tokenizer, path: Path) -> None:
    every = max(1, len(codes.digits) // SHOWN)
    pixels = torch.cat(list(decoded(Codes(codes.digits[::every][:SHOWN], codes.radices), tokenizer)))
    pictures = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    rows = [np.concatenate(list(pictures[start : start + 8]), 1) for start in range(0, len(pictures) // 8 * 8, 8)]
    Image.fromarray(np.concatenate(rows)).save(path)


def table(outcomes: list[Outcome]) -> str:
    """Markdown, a row a setting of the sampler."""
    tokenizers = list(dict.fromkeys(one.tokenizer for one in outcomes))
    first = {one.tokenizer: one for one in reversed(outcomes)}
    told = "; ".join(
        f"{name}: {first[name].parameters / 1e6:.2f} M parameters, {first[name].bits_per_token:.2f} bits a token"
        for name in tokenizers
    )
    lines = [
        f"{told}. {outcomes[-1].samples} samples; SqueezeNet features; Fréchet / precision / recall.\n",
        "| steps | guidance | " + " | ".join(tokenizers) + " |",
        "|---|---|" + "---|" * len(tokenizers),
    ]
    for steps, guidance in dict.fromkeys((one.steps, one.guidance) for one in outcomes):
        cells = {
            one.tokenizer: f"{one.frechet:,.0f} / {one.precision:.2f} / {one.recall:.2f}"
            for one in outcomes
            if (one.steps, one.guidance) == (steps, guidance)
        }
        named = "codes alone | " if steps is None else f"{steps} | {guidance:g}"
        lines.append(f"| {named} | " + " | ".join(cells.get(name, "–") for name in tokenizers) + " |")
    return "\n".join(lines) + "\n"


def plot(outcomes: list[Outcome], path: Path) -> None:
    """By steps and by guidance: Fréchet; precision and recall."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, sharey="row")
    for colour, name in enumerate(dict.fromkeys(one.tokenizer for one in outcomes)):
        mine = [one for one in outcomes if one.tokenizer == name and one.steps is not None]
        stepped = sorted((one for one in mine if one.guidance == STEPPED_AT), key=lambda one: one.steps or 0)
        guided = sorted((one for one in mine if one.steps == GUIDED_AT), key=lambda one: one.guidance or 0)
        for column, (chosen, axis) in enumerate(((stepped, "steps"), (guided, "guidance"))):
            x = [getattr(one, axis) for one in chosen]
            upper, lower = panels[0, column], panels[1, column]
            upper.plot(x, [one.frechet for one in chosen], f"C{colour}o-", label=name)
            lower.plot(x, [one.precision for one in chosen], f"C{colour}o-", label=f"{name}, precision")
            lower.plot(x, [one.recall for one in chosen], f"C{colour}s--", label=f"{name}, recall")
        floor = next(one.frechet for one in outcomes if one.tokenizer == name and one.steps is None)
        panels[0, 0].axhline(floor, color=f"C{colour}", linestyle=":", linewidth=1)
        panels[0, 1].axhline(floor, color=f"C{colour}", linestyle=":", linewidth=1)
    for panel in panels[:, 0]:
        panel.set_xscale("log", base=2)
        panel.set_xlabel(f"steps (guidance {STEPPED_AT:g})")
    for panel in panels[:, 1]:
        panel.set_xlabel(f"guidance ({GUIDED_AT} steps)")
    panels[0, 0].set_ylabel("Fréchet distance, SqueezeNet (dotted: codes alone)")
    panels[1, 0].set_ylabel("precision, recall")
    panels[0, 0].legend()
    panels[1, 0].legend(fontsize=8)
    for panel in panels.flat:
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
