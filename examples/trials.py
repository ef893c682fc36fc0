"""Many short trainings of equal computation, each with a few settings changed: a table of what pays.

    python examples/trials.py examples/trials.yaml --data photos/ --evaluation held-out/ -o out/trials

The first trial sees --crops crops, each other one as many as take the same FLOPs. Trials that are finished are not run
again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import yaml
from rich.console import Console

from bsq import Tokenizer, load
from bsq.data.pictures import open_picture, to_pixels
from bsq.data.stored import find_pictures
from bsq.metrics.pixel import psnr
from bsq.train import End, Recipe, RunResult, load_recipe, plan_run, run

CONSOLE = Console(highlight=False)


@dataclass(frozen=True)
class Outcome:
    """One trial: PSNR in dB by bits of 8×8 pixels, on all held-out pictures; processor seconds of the training."""

    trial: str
    parameters: int
    pictures: int
    side: int
    seconds: float
    psnr: dict[str, float]


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    content = yaml.safe_load(options.trials.read_text(encoding="utf-8"))
    base = options.trials.parent / content["base"]
    common = [
        f"data.source={json.dumps(options.data)}",
        f"threads={options.threads}",
        "writers=[]",
        "samples.every=1000000000",
        *content["common"],
    ]
    references = [to_pixels(open_picture(one.read())) for one in find_pictures(options.evaluation)[: options.pictures]]
    first = plan_run(recipe_of(base, common)).flops
    outcomes: list[Outcome] = []
    for trial, changes in content["trials"].items():
        kept = options.output / trial.replace(" ", "-").replace("/", "-") / "outcome.json"
        settings = [*common, *changes]
        if not kept.exists():
            CONSOLE.rule(trial)
            shutil.rmtree(kept.parent, ignore_errors=True)
            recipe = recipe_of(base, settings)
            pictures = round(options.crops * first / plan_run(recipe).flops) // recipe.batch * recipe.batch
            outcome = attempt(trial, base, settings, pictures, references, content["rates"], kept.parent)
            kept.write_text(json.dumps(asdict(outcome)) + "\n")
        outcomes.append(Outcome(**json.loads(kept.read_text())))
        CONSOLE.print(row(outcomes[-1], outcomes[0]))
    (options.output / "trials.md").write_text(table(outcomes))
    CONSOLE.print(table(outcomes))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=Path)
    parser.add_argument("--data", nargs="+", required=True, help="pictures to train on: folders, tars, globs")
    parser.add_argument("--evaluation", nargs="+", required=True, help="pictures to measure on")
    parser.add_argument("--pictures", type=int, default=64, help="at most so many of them")
    parser.add_argument("--crops", type=int, default=10_000, help="that the first trial sees")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def attempt(
    trial: str,
    base: Path,
    settings: list[str],
    pictures: int,
    references: list[torch.Tensor],
    rates: list[int],
    out: Path,
) -> Outcome:
    """Train on so many crops, and measure."""
    result, spent = timed(base, [*settings, f"pictures={pictures}", f"schedule.warm_up={pictures // 20}"], out / "run")
    model = load(str(result.model)).eval()
    shutil.rmtree(out / "run" / "checkpoints")
    return Outcome(
        trial=trial,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        pictures=result.pictures,
        side=recipe_of(base, settings).data.crop,
        seconds=spent,
        psnr=measure(model, references, rates),
    )


def recipe_of(base: Path, settings: list[str]) -> Recipe:
    recipe = load_recipe(base, settings)
    assert isinstance(recipe, Recipe)
    return recipe


def timed(base: Path, settings: list[str], out: Path) -> tuple[RunResult, float]:
    """A run and its processor seconds."""
    began = time.process_time()
    result = run(load_recipe(base, settings), out)
    if result.end is not End.FINISHED:
        raise SystemExit("stopped; the same command goes on with this trial")
    return result, time.process_time() - began


@torch.no_grad()
def measure(model: Tokenizer, references: list[torch.Tensor], rates: list[int]) -> dict[str, float]:
    """Mean PSNR in dB at so many bits of 8×8 pixels, those that the model has."""
    patches = model.patch**2 // 64
    found = {}
    for rate in rates:
        if rate * patches <= len(model.radices):
            each = [psnr(model.reconstruct(one, bits=rate * patches), one).mean() for one in references]
            found[str(rate)] = float(torch.stack(each).mean())
    return found


def row(outcome: Outcome, base: Outcome) -> str:
    values = " | ".join(f"{outcome.psnr[rate]:.2f}" if rate in outcome.psnr else "" for rate in base.psnr)
    apart = [outcome.psnr[rate] - base.psnr[rate] for rate in base.psnr if rate in outcome.psnr]
    return (
        f"| {outcome.trial} | {outcome.parameters / 1e6:.2f} | {outcome.pictures:,} × {outcome.side}² | "
        f"{outcome.seconds / 60:.1f} | {values} | {sum(apart) / len(apart):+.2f} |"
    )


def table(outcomes: list[Outcome]) -> str:
    """Markdown; the last column is the mean difference from the first trial."""
    rates = " | ".join(f"{rate} bits" for rate in outcomes[0].psnr)
    lines = [
        f"| trial | M params | crops | CPU min | {rates} | mean |",
        "|---|---|---|---|" + "---|" * (len(outcomes[0].psnr) + 1),
        *(row(outcome, outcomes[0]) for outcome in outcomes),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
