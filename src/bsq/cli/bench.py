"""`bsq bench`: tables that set systems side by side. What enters: a folder. What leaves: tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bsq.cli.batch import SOME_FAILED, Bar
from bsq.cli.failures import say

bench = typer.Typer(help="Measure on pictures or videos, and set systems side by side.", no_args_is_help=True)

CODECS_EPILOG = """
**Example**

`bsq bench codecs kodak/ -o out/codecs` · JPEG, JPEG 2000, WebP, AVIF, JPEG XL and .bsq files of equal size

`bsq bench codecs photos/ -o out/some -c bsq -c avif -b 9 -b 18 -b 27 -b 36` · two of them, at four sizes
"""

RECONSTRUCTION_EPILOG = """
**Example**

`bsq bench reconstruction kodak/ -o out/reconstruction` · PSNR, SSIM, MS-SSIM and LPIPS at 9, 18, 27 and 36 bits
"""


class Rates(StrEnum):
    """At which sizes codecs are compared."""

    fixed = "fixed"
    matched = "matched"


class CodecName(StrEnum):
    """What can be compared."""

    bsq = "bsq"
    jpeg = "jpeg"
    jpeg2000 = "jpeg2000"
    webp = "webp"
    avif = "avif"
    jpegxl = "jpegxl"


Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Its pictures are measured, by name.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Receives tables, JSON and plots.")]
Model = Annotated[str, typer.Option("--model", "-m", help="Bundled name, folder or hub id.")]
Bits = Annotated[list[int] | None, typer.Option("--bits", "-b", metavar="K", help="Bits of a code; may be repeated.")]
Priors = Annotated[
    list[str] | None,
    typer.Option("--prior", metavar="PRIOR", help="Write files with: auto, learned, adaptive, raw; may be repeated."),
]
Pictures = Annotated[int | None, typer.Option("--pictures", metavar="N", min=1, help="Only the first N.")]


Codecs = Annotated[
    list[CodecName] | None,
    typer.Option("--codec", "-c", help="May be repeated.  [default: all; jpegxl where it is installed]"),
]
CodecBits = Annotated[
    list[int] | None,
    typer.Option("--bits", "-b", metavar="K", help="Bits of a code; may be repeated.  [default: eighths of a code]"),
]
CodecPriors = Annotated[
    list[str] | None,
    typer.Option("--prior", metavar="PRIOR", help="auto, learned, adaptive, raw; the first sets matched rates."),
]
RatesChoice = Annotated[
    Rates | None,
    typer.Option("--rates", help="matched: sizes of our own files; fixed: the same bits per pixel for all."),
]
Anchor = Annotated[
    str | None, typer.Option("--anchor", metavar="CODEC", help="Bjøntegaard differences are relative to it.")
]
Shown = Annotated[
    list[str] | None, typer.Option("--show", metavar="NAME", help="Picture to set side by side; may be repeated.")
]
Threads = Annotated[int, typer.Option("--threads", metavar="N", min=1, help="For every codec.")]
Allocate = Annotated[bool, typer.Option("--allocate", help="Also write ours with `bsq encode --allocate`.")]
Search = Annotated[
    int | None, typer.Option("--search", metavar="N", min=0, help="Also write ours with `bsq encode --search N`.")
]


@bench.command("codecs", epilog=CODECS_EPILOG)
def codecs(
    folder: Folder,
    output: Output,
    chosen: Codecs = None,
    model: Model = "biscuit-s",
    bits: CodecBits = None,
    priors: CodecPriors = None,
    rates: RatesChoice = None,
    anchor: Anchor = None,
    shown: Shown = None,
    threads: Threads = 1,
    allocate: Allocate = False,
    search: Search = None,
    pictures: Pictures = None,
) -> None:
    """Compare real files of equal size: classical codecs and ours."""
    from bsq.bench import report
    from bsq.bench.classical import has_jpeg_xl
    from bsq.bench.codecs import CodecBenchSettings, run
    from bsq.codec.shelf import learned_prior, named_model

    names = [name.value for name in chosen or CodecName if chosen or name is not CodecName.jpegxl or has_jpeg_xl()]
    if not chosen and "jpegxl" not in names:
        say("JPEG XL is left out; pip install 'bsq[jpegxl]' adds it")
    rates = rates or (Rates.matched if "bsq" in names else Rates.fixed)
    sweep = tuple(bits) if bits else "eighths" if rates is Rates.matched else "all"
    tokenizer = named_model(model) if "bsq" in names else None
    both = tokenizer is not None and rates is Rates.matched and learned_prior(tokenizer) is not None
    default = ("auto", "adaptive") if both else ("auto",)
    manners: list[dict[str, int]] = [{}]
    manners += [{"allocate": True}] if allocate else []
    manners += [{"search": search}] if search is not None else []
    ours = [
        {"model": model, "prior": prior, "bits": sweep, **manner} for manner in manners for prior in priors or default
    ]
    settings = CodecBenchSettings.model_validate(
        {
            "folder": folder,
            "codecs": [{"kind": name} for name in names if name != "bsq"],
            "ours": ours if "bsq" in names else [],
            "rates": {"kind": rates.value},
            "anchor": anchor,
            "shown": shown or (),
            "threads": threads,
            "pictures": pictures,
        }
    )
    with counting(str(folder)) as told:
        measured = run(settings, tokenizer, told)
    typer.echo(report.summary(measured))
    say("wrote " + ", ".join(map(str, report.write(measured, output))))
    tell_skipped([(one.picture, one.reason) for one in measured.skipped], "pictures")


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


def tell_skipped(skipped: Sequence[tuple[str, str]], what: str) -> None:
    """Name each (name, reason). Raises typer.Exit(1) if there are any."""
    for name, why in skipped:
        say(f"{name}: {why}")
    if skipped:
        say(f"{len(skipped)} {what} could not be measured, each named above with its reason")
        raise typer.Exit(SOME_FAILED)


@contextmanager
def counting(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, and the function that is told (done, total)."""
    with Bar(1) as bar:
        bar.show(name)
        yield bar.count
