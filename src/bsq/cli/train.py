"""`bsq train`: a recipe and dotted overrides to a trained model. What enters: names. What leaves: the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bsq.cli.failures import INTERRUPTED, say
from bsq.errors import MissingDependencyError, SettingsError

EPILOG = """
**Examples**

`bsq train recipes/biscuit-s.yaml data.source=photos/ -o runs/first` · a folder for checkpoints, samples and logs

`bsq train recipes/biscuit-s.yaml data.source=photos/ model.encoder.width=384 --dry-run` · see what it takes

`bsq train recipes/biscuit-s.yaml data.source=photos/ -o runs/first --resume` · go on where a run stopped
"""


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Dotted settings that replace the recipe's.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="The run's folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the folder.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the recipe and what it takes.")] = False,
) -> None:
    """Train a model by a recipe."""
    try:
        from bsq.train import End, Start, load_recipe, plan_run, run, write_recipe
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "bsq":
            raise
        raise MissingDependencyError(f"training needs {error.name}; pip install 'bsq[train]'") from error
    checked = load_recipe(recipe, overrides or ())
    if dry_run:
        typer.echo(write_recipe(checked), nl=False)
        for line in plan_run(checked).lines():
            say(line)
        return
    if output is None:
        raise SettingsError("name the run's folder: -o runs/NAME")
    result = run(checked, output, Start.RESUME if resume else Start.FRESH)
    match result.end:
        case End.FINISHED:
            pass  # the run has said where the model is
        case End.STOPPED:
            raise typer.Exit(INTERRUPTED)  # and here where it stopped
        case _:
            raise AssertionError(result.end)
