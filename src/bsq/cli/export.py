"""`bsq export`: a model as programs for other runtimes. What enters: a model's name. What leaves: a folder."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bsq.cli.failures import say
from bsq.errors import SettingsError

EPILOG = """
**Examples**

`bsq export biscuit-s -o exported/` · encoder.pt2 and decoder.pt2, for any batch, height, width and number of bits

`bsq export runs/mine/model -o exported/ --format onnx` · encoder.onnx and decoder.onnx (pip install 'bsq\\[export]')

`bsq export biscuit-s -o small/ --size 64x64` · for pictures of one size, which may be smaller than a window

The programs take pictures, float32 (B, 3, H, W) in −1 … 1, and give digits, (B, h, w, L); they are compared with the
model before the folder is there. `torch.export.load("exported/encoder.pt2").module()(pixels)` needs no bsq.
"""


class FormatChoice(StrEnum):
    """What the programs are written as, by the names the command line gives it."""

    torch_export = "torch-export"
    onnx = "onnx"


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Bundled name, folder or hub id.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="A new folder.")],
    format: Annotated[
        FormatChoice, typer.Option("--format", help="torch.export's .pt2, or ONNX.")
    ] = FormatChoice.torch_export,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="HxW", help="Pixels of every picture; default: open, from one window upwards."),
    ] = None,
) -> None:
    """Write a model's encoder and decoder as programs for other runtimes."""
    fixed = None if size is None else read_size(size)
    from bsq.checkpoint import load
    from bsq.export import Format, export_model

    made = export_model(load(model), output, Format(format.value), fixed)
    taken = f"{made.size[0]}x{made.size[1]}" if made.size else f"any size from {made.least_side} pixels a side"
    say(f"{model} → {output}: {made.encoder}, {made.decoder}; pictures of {taken}, {len(made.radices)} digits a token")


def read_size(text: str) -> tuple[int, int]:
    """Raises SettingsError."""
    found = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if found is None:
        raise SettingsError(f"--size takes HxW in pixels, 256x256, got {text!r}")
    return int(found[1]), int(found[2])
