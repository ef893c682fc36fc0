"""`bsq bench`: tables that set systems side by side. What enters: a folder. What leaves: tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bsq.cli.batch import Bar
from bsq.cli.failures import say

bench = typer.Typer(help="Measure on a folder of pictures, and set systems side by side.", no_args_is_help=True)

CODECS_EPILOG = """
**Example**

`bsq bench codecs kodak/ -o out/codecs` · JPEG, JPEG 2000, WebP, AVIF and .bsq files of equal size
"""

RECONSTRUCTION_EPILOG = """
**Example**

`bsq bench reconstruction kodak/ -o out/reconstruction` · PSNR, SSIM, MS-SSIM and LPIPS at 9, 18, 27 and 36 bits
"""


class Rates(StrEnum):
    """At which sizes codecs are compared."""

    fixed = "fixed"
    matched = "matched"


Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Its pictures are measured, by name.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Receives tables, JSON and plots.")]
Model = Annotated[str, typer.Option("--model", "-m", help="Bundled name, folder or hub id.")]
Bits = Annotated[list[int] | None, typer.Option("--bits", "-b", metavar="K", help="Bits of a code; may be repeated.")]
Priors = Annotated[
    list[str] | None,
    typer.Option("--prior", metavar="PRIOR", help="Write files with: auto, learned, adaptive, raw; may be repeated."),
]
Pictures = Annotated[int | None, typer.Option("--pictures", metavar="N", min=1, help="Only the first N.")]


@bench.command("codecs", epilog=CODECS_EPILOG)
def codecs(
    folder: Folder,
    output: Output,
    model: Model = "biscuit-s",
    bits: Bits = None,
    rates: Annotated[
        Rates, typer.Option("--rates", help="fixed: bits per pixel; matched: the sizes of our own files.")
    ] = Rates.matched,
    pictures: Pictures = None,
) -> None:
    """Compare real files of equal size: classical codecs and ours."""
    from bsq.bench import report
    from bsq.bench.codecs import CodecBenchSettings, FixedRates, MatchedRates, run
    from bsq.bench.ours import OursSettings

    settings = CodecBenchSettings(
        folder=folder,
        ours=(OursSettings(model=model, bits=tuple(bits) if bits else None),),
        rates=FixedRates() if rates is Rates.fixed else MatchedRates(),
        pictures=pictures,
    )
    with counting(str(folder)) as told:
        measured = run(settings, on_picture=told)
    typer.echo(report.markdown(measured))
    say("wrote " + ", ".join(map(str, report.write(measured, output))))


@bench.command("reconstruction", epilog=RECONSTRUCTION_EPILOG)
def reconstruction(
    folder: Folder,
    output: Output,
    model: Model = "biscuit-s",
    bits: Bits = None,
    priors: Priors = None,
    pictures: Pictures = None,
) -> None:
    """Measure what a tokenizer keeps of pictures at several numbers of bits."""
    from bsq.bench.reconstruction import ReconstructionSettings, markdown, run, write

    chosen = ({"bits": tuple(bits)} if bits else {}) | ({"priors": tuple(priors)} if priors else {})
    settings = ReconstructionSettings.model_validate({"folder": folder, "model": model, "pictures": pictures, **chosen})
    with counting(str(folder)) as told:
        measured = run(settings, on_picture=told)
    typer.echo(markdown(measured))
    say("wrote " + ", ".join(map(str, write(measured, output))))


@contextmanager
def counting(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, and the function that is told (done, total)."""
    with Bar(1) as bar:
        bar.show(name)
        yield bar.count
