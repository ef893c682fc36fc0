"""Many short trainings of equal computation, each with a few settings changed: a table of what pays.

    python examples/trials.py examples/trials.yaml --data photos/ --evaluation held-out/ -o out/trials

The first trial sees --crops crops, each other one as many as take the same FLOPs, so that none may choose `pictures` or
`schedule.warm_up`. A trial may have stages, each a list of changes; they share the FLOPs, and each goes on from the one
before. Among the changes of the first may be begin=cosines or begin=components (`examples/beginnings.py`). A trial that
is finished is not run again unless its recipe or what it is measured on have changed; one that was stopped is begun
anew.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import yaml
from beginnings import begin_with, components, cosines
from rich.console import Console

from bsq import Tokenizer, load
from bsq.data.dataset import to_pixels as as_floats
from bsq.data.loader import open_dataset
from bsq.data.pictures import open_picture, to_pixels
from bsq.data.stored import find_pictures
from bsq.metrics.pixel import psnr
from bsq.train import End, Recipe, RunResult, load_recipe, plan_run, run

CONSOLE = Console(highlight=False)
BEGINNINGS = COSINES, COMPONENTS = "begin=cosines", "begin=components"
CROPS = 500  # whose principal components are taken
OUTCOME = "outcome.json"
COMPUTED = re.compile(r"^pictures=|\bwarm_up\b")
MARK = "trial.txt"  # of a folder that is a trial's, and may be emptied


@dataclass(frozen=True)
class Outcome:
    """One trial: PSNR in dB by bits of 8×8 pixels, on all held-out pictures; processor seconds of the training.
    `asked` is all that it depends on.
    """

    trial: str
    asked: list[str]
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
    measured = [f"measured on {options.evaluation}, {len(references)} pictures, at {content['rates']} bits"]
    if not content["trials"]:
        raise SystemExit(f"{options.trials} names no trials")
    folders = folders_of(content["trials"])
    (first, *_), *_ = map(stages_of, content["trials"].values())
    flops = options.crops * plan_run(recipe_of(base, [*common, *first])).flops
    outcomes: list[Outcome] = []
    for trial, changes in content["trials"].items():
        kept = options.output / folders[trial] / OUTCOME
        stages = stages_of(changes)
        settings = [long_enough(base, [*common, *stage], flops / len(stages)) for stage in stages]
        asked = [f"{recipe_of(base, stage)!r}" for stage in settings] + beginnings_of(settings[0]) + measured
        outcome = read_outcome(kept)
        if outcome is None or outcome.asked != asked:
            CONSOLE.rule(trial)
            empty(kept.parent)
            outcome = attempt(trial, base, settings, references, content["rates"], kept.parent)
            outcome = replace(outcome, asked=asked)
            kept.write_text(json.dumps(asdict(outcome)) + "\n")
        outcomes.append(outcome)
        CONSOLE.print(row(outcome, outcomes[0]))
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


def folders_of(trials: Iterable[str]) -> dict[str, str]:
    """A folder's name for each trial. Ends the program where two would share one."""
    folders: dict[str, str] = {}
    for trial in trials:
        folder = re.sub(r"[^\w.]+", "-", trial)
        if not folder.strip("."):
            raise SystemExit(f"{trial!r} is no name for a trial")
        if folder in folders.values():
            raise SystemExit(f"two trials would be kept in the folder {folder!r}; name {trial!r} otherwise")
        folders[trial] = folder
    return folders


def empty(folder: Path) -> None:
    """Make the folder of a trial that begins. Ends the program where somebody else's files are."""
    if folder.exists() and any(folder.iterdir()) and not ((folder / MARK).is_file() or (folder / OUTCOME).is_file()):
        raise SystemExit(f"{folder} holds something else than a trial; choose another -o")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("A trial of examples/trials.py; it may be removed.\n")


def read_outcome(kept: Path) -> Outcome | None:
    """What was kept of a trial; None if that is nothing, or of another version of this program."""
    try:
        return Outcome(**json.loads(kept.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def stages_of(changes: list[str] | list[list[str]]) -> list[list[str]]:
    """One stage, unless there are lists in the list. Ends the program where there are both, or what does nothing."""
    stages = [change for change in changes if isinstance(change, list)]
    if stages and len(stages) != len(changes):
        raise SystemExit(f"a trial is a list of changes or of stages, not of both: {changes}")
    stages = [[str(change) for change in stage] for stage in stages or [changes]]
    for change in itertools.chain(*stages):
        if COMPUTED.search(change):
            raise SystemExit(f"{change} cannot be chosen: all trials take the same FLOPs")
    if any(beginnings_of(stage) for stage in stages[1:]):
        raise SystemExit("begin=… is for a trial's first stage")
    return stages


def beginnings_of(settings: list[str]) -> list[str]:
    """What no recipe says. Ends the program where it is more than one thing."""
    found = [setting for setting in settings if setting in BEGINNINGS]
    if len(found) > 1:
        raise SystemExit(f"a trial begins with one of {' and '.join(found)}")
    return found


def long_enough(base: Path, settings: list[str], flops: float) -> list[str]:
    """The settings with a length that takes so many FLOPs. Ends the program where that is no batch."""
    recipe = recipe_of(base, settings)
    pictures = round(flops / plan_run(recipe).flops) // recipe.batch * recipe.batch
    if not pictures:
        raise SystemExit(f"{flops:.2g} FLOPs are not a batch of {' '.join(settings)}; more --crops")
    return [*settings, f"pictures={pictures}", f"schedule.warm_up={pictures // 20}"]


def attempt(
    trial: str, base: Path, stages: list[list[str]], references: list[torch.Tensor], rates: list[int], out: Path
) -> Outcome:
    """Train stage after stage, and measure."""
    pictures, seconds, begin = 0, 0.0, begun_with_basis(base, stages[0], out / "begin")
    for number, settings in enumerate(stages):
        recipe = recipe_of(base, [*settings, *begin])
        result, spent = timed(recipe, out / f"run-{number}")
        shutil.rmtree(out / f"run-{number}" / "checkpoints")
        pictures, seconds, begin = pictures + result.pictures, seconds + spent, [f"initial={result.model}"]
    model = load(str(result.model)).eval()
    return Outcome(
        trial=trial,
        asked=[],
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        pictures=pictures,
        side=recipe.data.crop,
        seconds=seconds,
        psnr=measure(model, references, rates),
    )


def begun_with_basis(base: Path, settings: list[str], folder: Path) -> list[str]:
    """The override that begins with cosines or components, where they are asked for."""
    recipe = recipe_of(base, settings)
    match beginnings_of(settings):
        case []:
            return []
        case [one] if one == COSINES:
            basis = cosines(recipe.model.patch)
        case _:
            crops = open_dataset(recipe.data, recipe.seed)
            basis = components(torch.cat([as_floats(crops[n].pixels[None]) for n in range(CROPS)]), recipe.model.patch)
    torch.manual_seed(recipe.seed)
    tokenizer = Tokenizer(recipe.model)
    begin_with(tokenizer, basis)
    tokenizer.save_pretrained(folder)
    return [f"initial={folder}"]


def recipe_of(base: Path, settings: list[str]) -> Recipe:
    recipe = load_recipe(base, [setting for setting in settings if setting not in BEGINNINGS])
    assert isinstance(recipe, Recipe)
    return recipe


def timed(recipe: Recipe, out: Path) -> tuple[RunResult, float]:
    """A run and its processor seconds."""
    began = time.process_time()
    result = run(recipe, out)
    if result.end is not End.FINISHED:
        raise SystemExit("stopped; the same command begins this trial anew")
    return result, time.process_time() - began


@torch.no_grad()
def measure(model: Tokenizer, references: list[torch.Tensor], rates: list[int]) -> dict[str, float]:
    """Mean PSNR in dB at so many bits of 8×8 pixels, those that its tokens can have."""
    found = {}
    for rate in rates:
        bits, rest = divmod(rate * model.patch**2, 64)
        if not rest and 1 <= bits <= len(model.radices):
            each = [psnr(model.reconstruct(one, bits=bits), one).mean() for one in references]
            found[str(rate)] = float(torch.stack(each).mean())
    return found


def row(outcome: Outcome, base: Outcome) -> str:
    values = " | ".join(f"{outcome.psnr[rate]:.2f}" if rate in outcome.psnr else "" for rate in base.psnr)
    apart = [outcome.psnr[rate] - base.psnr[rate] for rate in base.psnr if rate in outcome.psnr]
    return (
        f"| {outcome.trial} | {outcome.parameters / 1e6:.2f} | {outcome.pictures:,} × {outcome.side}² | "
        f"{outcome.seconds / 60:.1f} | {values} | {f'{sum(apart) / len(apart):+.2f}' if apart else ''} |"
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
