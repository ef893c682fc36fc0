"""Many short trainings of equal processor time, each with a few settings changed: a table of what pays.

    python examples/trials.py examples/trials.yaml --data photos/ --evaluation held-out/ --minutes 3 -o out/trials

Each trial first runs a few steps to find its pace, then as many pictures as fit into the minutes. Trials that are
finished are not run again.
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
from bsq.train import End, Recipe, RunResult, load_recipe, run

CONSOLE = Console(highlight=False)
PACE_STEPS = (4, 20)
"""Two runs of so many steps: the difference is what steps take, without beginning and end."""


@dataclass(frozen=True)
class Outcome:
    """One trial: PSNR in dB by bits a 8×8 pixels, on all held-out pictures; processor seconds of the training."""

    trial: str
    parameters: int
    pictures: int
    side: int
    seconds: float
    psnr: dict[str, float]

    @property
    def mean(self) -> float:
        return sum(self.psnr.values()) / len(self.psnr)


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
    outcomes = []
    for trial, changes in content["trials"].items():
        kept = options.output / trial.replace(" ", "-").replace("/", "-") / "outcome.json"
        if not kept.exists():
            outcome = attempt(trial, base, [*common, *changes], references, kept.parent, 60 * options.minutes)
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
    parser.add_argument("--minutes", type=float, default=3.0, help="processor time of one trial")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def attempt(
    trial: str, base: Path, settings: list[str], references: list[torch.Tensor], out: Path, seconds: float
) -> Outcome:
    """Find the trial's pace, train for so many processor `seconds`, measure."""
    CONSOLE.rule(trial)
    shutil.rmtree(out, ignore_errors=True)
    batch = recipe_of(base, settings).batch
    few, more = (
        timed(base, [*settings, f"pictures={steps * batch}", "schedule={warm_up: 0}"], out / f"pace-{steps}")[1]
        for steps in PACE_STEPS
    )
    steps = round(seconds * (PACE_STEPS[1] - PACE_STEPS[0]) / (more - few))
    pictures = max(1, steps) * batch
    result, spent = timed(base, [*settings, f"pictures={pictures}", f"schedule.warm_up={pictures // 20}"], out / "run")
    model = load(str(result.model)).eval()
    shutil.rmtree(out / "run" / "checkpoints")
    return Outcome(
        trial=trial,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        pictures=result.pictures,
        side=recipe_of(base, settings).data.crop,
        seconds=spent,
        psnr=measure(model, references),
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
def measure(model: Tokenizer, references: list[torch.Tensor]) -> dict[str, float]:
    """Mean PSNR in dB at a quarter, half, three quarters and all of the bits."""
    quarter = len(model.radices) // 4
    sums = {share * quarter * 64 // model.patch**2: 0.0 for share in (1, 2, 3, 4)}
    for reference in references:
        for rate in sums:
            again = model.reconstruct(reference, bits=rate * model.patch**2 // 64)
            sums[rate] += float(psnr(again, reference).mean()) / len(references)
    return {str(rate): total for rate, total in sums.items()}


def row(outcome: Outcome, base: Outcome) -> str:
    values = " | ".join(f"{value:.2f}" for value in outcome.psnr.values())
    return (
        f"| {outcome.trial} | {outcome.parameters / 1e6:.2f} | {outcome.pictures:,} × {outcome.side}² | {values} | "
        f"{outcome.mean - base.mean:+.2f} |"
    )


def table(outcomes: list[Outcome]) -> str:
    """Markdown; the last column is the mean of the four beside the first trial's."""
    rates = " | ".join(f"{rate} bits" for rate in outcomes[0].psnr)
    lines = [
        f"| trial | M params | crops seen | {rates} | mean |",
        "|---|---|---|" + "---|" * (len(outcomes[0].psnr) + 1),
        *(row(outcome, outcomes[0]) for outcome in outcomes),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
