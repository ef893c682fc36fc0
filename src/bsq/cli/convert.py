"""`bsq convert`: the authors' checkpoints to folders for `bsq.load`. What enters: a file. What leaves: a folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bsq.cli.failures import say
from bsq.errors import CheckpointError

EPILOG = """
**Example**

`bsq convert image_8x8.pt bsqvit/` · then `bsq encode photo.jpg --model bsqvit/`

The file is read by an unpickler that builds nothing but tensors and plain containers; what does not fit the model is
named with its shape.
"""


class Weights(StrEnum):
    """Which of a checkpoint's weights."""

    auto = "auto"
    ema = "ema"
    raw = "raw"


class TimeAttention(StrEnum):
    """How a video model attends over frames."""

    full = "full"
    causal = "causal"


def convert(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pt or .safetensors file of the authors.")],
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="Receives config.json and model.safetensors.")],
    weights: Annotated[
        Weights, typer.Option("--weights", help="Averaged (ema), last (raw); auto: averaged if there are any.")
    ] = Weights.auto,
    heads: Annotated[
        int | None,
        typer.Option("--heads", min=1, help="Attention heads, not in the file; default width / 64."),
    ] = None,
    time: Annotated[
        TimeAttention, typer.Option("--time", help="Of video models; the released ones were run with full attention.")
    ] = TimeAttention.full,
    force: Annotated[bool, typer.Option("-f", "--force", help="Replace a model that exists.")] = False,
) -> None:
    """Convert a checkpoint of the paper's authors."""
    if not force:
        check_free(target)
    if not source.is_file():
        raise CheckpointError(f"no such file: {source}")
    from bsq.checkpoint import OfficialSettings, convert_official

    settings = OfficialSettings(weights=weights.value, heads=heads, time=time.value)
    conversion = convert_official(source, settings)
    try:
        conversion.tokenizer.save_pretrained(target)
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error.strerror or error}") from error
    say(f"{source} → {target}: {conversion.parameters / 1e6:.1f} M parameters, {conversion.weights} weights")


def check_free(target: Path) -> None:
    """Either file may belong to a model of another library, too."""
    for name in ("config.json", "model.safetensors"):
        if (target / name).exists():
            raise CheckpointError(f"{target} holds a model already ({name}); -f replaces it")
