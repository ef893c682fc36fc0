"""What several commands take. What enters: words as typed. What leaves: types for typer, and a device."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bsq.errors import SettingsError

SUFFIX = ".bsq"


class PriorChoice(StrEnum):
    """Priors by the names the command line gives them."""

    auto = "auto"
    learned = "learned"
    adaptive = "adaptive"
    raw = "raw"


Sources = Annotated[list[str], typer.Argument(metavar="SRC...", help="Files, folders, or - for standard input.")]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="PATH", help="File, folder, or - for standard output; default: beside SRC."),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps …")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace files that exist.")]
MaxPixels = Annotated[
    int | None, typer.Option("--max-pixels", metavar="N", min=1, help="Refuse larger pictures; default 200 million.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]


def choose_device(name: str) -> str:
    """`auto` is the accelerator if there is one. Raises SettingsError for devices that are unknown or absent."""
    import torch

    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if accelerator is None else str(accelerator)
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(f"no device {name!r} here: {str(error).splitlines()[0]}") from error
    return name
