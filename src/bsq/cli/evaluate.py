"""`bsq evaluate`: the paper's tables, for every system in them. What enters: systems, data. What leaves: tables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bsq.cli.bench import counting, tell_skipped
from bsq.cli.bench_video import show_table
from bsq.cli.failures import say

if TYPE_CHECKING:
    from bsq.evaluate.lines import Form, Line
    from bsq.evaluate.protocols import Protocol
    from bsq.evaluate.report import Report

evaluate = typer.Typer(help="The tables of the paper, for every system in them.", no_args_is_help=True)

SYSTEMS = """
**Systems**: `biscuit-s@18` (a bundled model, folder or hub id, and how many of its bits) · `biscuit-s@18+prior` (its
files) · `model@18+frames` (every frame alone) · `official:checkpoint.pt@18` · `diffusers:FOLDER-OR-HUB-ID` ·
`diffusers:random-sd-vae` (for speed) · `dalle:FOLDER` · `jpeg2000@0.28bpp`, `webp@q75`, `avif@as:biscuit-s@18` (held
to that system's bits), `x264@crf23` · `NAME=SYSTEM` names the row
"""
RECONSTRUCTION_EPILOG = f"""
**Example**

`bsq evaluate reconstruction -s biscuit-s@18 -s dalle:dvae/ -d photos/ -p imagenet-256 --compare published -o out/a`
{SYSTEMS}"""
COMPRESSION_EPILOG = f"""
**Example**

`bsq evaluate compression -s biscuit-s@18+prior -s webp@as:biscuit-s@18+prior -d kodak/ -o out/kodak`
{SYSTEMS}"""
VIDEO_EPILOG = f"""
**Example**

`bsq evaluate video -s alone=model@18+frames -s causal=model@18 -s x264@as:causal --data clips/ -o out/video`
{SYSTEMS}"""
GENERATION_EPILOG = """
**Example**

`bsq evaluate generation --samples ours=samples.npz --reference VIRTUAL_imagenet128.npz --features adm -o out/gen`
"""
REFERENCE_EPILOG = """
**Example**

`bsq evaluate reference imagenet/val/ --protocol imagenet-128 --features adm -o reference.npz`
"""


class Compare(StrEnum):
    """What stands beside measured rows."""

    nothing = "nothing"
    published = "published"


Systems = Annotated[
    list[str], typer.Option("--system", "-s", metavar="SYSTEM", help="What to measure; may be repeated (see below).")
]
Data = Annotated[
    list[str],
    typer.Option("--data", "-d", metavar="SRC", help="Folder, tar, glob or .npz of samples; may be repeated."),
]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="FOLDER", help="Receives table, JSON, chart and contact sheet.")
]
Protocols = Annotated[
    str,
    typer.Option("--protocol", "-p", help="native, imagenet-256, imagenet-128, coco-256, ucf101, kodak or adm."),
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change the protocol: resize=bicubic.")
]
Beside = Annotated[Compare, typer.Option("--compare", help="published: the paper's rows, marked as such.")]
Lpips = Annotated[str, typer.Option("--lpips", help="squeeze (bundled), alex, vgg, or none.")]
Features = Annotated[
    str,
    typer.Option(
        "--features", help="Of the Fréchet distance: squeeze (bundled), inception[:FILE], adm[:FILE], …, or none."
    ),
]
First = Annotated[int | None, typer.Option("--first", metavar="N", min=1, help="Only the first N samples.")]
Shown = Annotated[int, typer.Option("--show", metavar="N", min=0, help="Samples on the contact sheet.")]
Rounds = Annotated[int, typer.Option("--rounds", metavar="N", min=0, help="Times each system is timed; 0: never.")]
Timed = Annotated[int, typer.Option("--timed", metavar="N", min=1, help="Batches in a round.")]
Batch = Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Samples at once while systems are timed.")]
Processes = Annotated[int, typer.Option("--processes", metavar="N", min=1, help="Share the work.")]
Threads = Annotated[int, typer.Option("--threads", metavar="N", min=1, help="Of each process.")]
Device = Annotated[str, typer.Option("--device", help="cpu, or cuda (processes take its devices by turns).")]


@evaluate.command("reconstruction", epilog=RECONSTRUCTION_EPILOG)
def reconstruction(
    systems: Systems,
    data: Data,
    output: Output,
    protocol: Protocols = "native",
    changes: Changes = None,
    compare: Beside = Compare.nothing,
    lpips: Lpips = "squeeze",
    features: Features = "squeeze",
    first: First = None,
    shown: Shown = 3,
    rounds: Rounds = 3,
    timed: Timed = 2,
    batch: Batch = 1,
    processes: Processes = 1,
    threads: Threads = 1,
    device: Device = "cpu",
) -> None:
    """What systems keep of pictures: parameters, bits, pictures a second, PSNR, SSIM, LPIPS, Fréchet distance."""
    from bsq.evaluate.lines import Form

    asked = asked_for(locals())
    measure(asked, protocol, changes, compare, output, Form.RECONSTRUCTION)


@evaluate.command("compression", epilog=COMPRESSION_EPILOG)
def compression(
    systems: Systems,
    data: Data,
    output: Output,
    protocol: Protocols = "kodak",
    changes: Changes = None,
    compare: Beside = Compare.nothing,
    lpips: Lpips = "squeeze",
    features: Features = "none",
    first: First = None,
    shown: Shown = 3,
    rounds: Rounds = 0,
    timed: Timed = 2,
    batch: Batch = 1,
    processes: Processes = 1,
    threads: Threads = 1,
    device: Device = "cpu",
) -> None:
    """Quality at real rates: bits per pixel, PSNR, MS-SSIM, LPIPS."""
    from bsq.evaluate.lines import Form

    asked = asked_for(locals())
    measure(asked, protocol, changes, compare, output, Form.COMPRESSION)


@evaluate.command("video", epilog=VIDEO_EPILOG)
def video(
    systems: Systems,
    data: Data,
    output: Output,
    protocol: Protocols = "ucf101",
    changes: Changes = None,
    compare: Beside = Compare.nothing,
    lpips: Lpips = "squeeze",
    features: Features = "squeeze",
    first: First = None,
    shown: Shown = 3,
    rounds: Rounds = 0,
    timed: Timed = 1,
    batch: Batch = 1,
    processes: Processes = 1,
    threads: Threads = 1,
    device: Device = "cpu",
) -> None:
    """What systems keep of clips: PSNR, SSIM, LPIPS of frames, Fréchet video distance."""
    from bsq.data.stored import Kind
    from bsq.evaluate.lines import Form

    asked = asked_for(locals()) | {"kind": Kind.VIDEOS}
    measure(asked, protocol, changes, compare, output, Form.VIDEO)


@evaluate.command("generation", epilog=GENERATION_EPILOG)
def generation(
    samples: Annotated[
        list[str], typer.Option("--samples", metavar="[NAME=]SRC", help=".npz, folder or tar; may be repeated.")
    ],
    reference: Annotated[str, typer.Option("--reference", metavar="SRC", help="Real ones, or their moments (.npz).")],
    output: Output,
    protocol: Protocols = "adm",
    changes: Changes = None,
    compare: Beside = Compare.nothing,
    features: Features = "squeeze",
    first: Annotated[
        int | None, typer.Option("--first", metavar="N", min=1, help="Only the first N of every set and reference.")
    ] = None,
    shown: Shown = 6,
    processes: Processes = 1,
    threads: Threads = 1,
    device: Device = "cpu",
) -> None:
    """Generated pictures beside real ones: FID, sFID, inception score, precision, recall, KID."""
    from bsq.evaluate.generated import generation_report
    from bsq.evaluate.generation import GenerationSettings, evaluate_generation
    from bsq.evaluate.lines import Form
    from bsq.evaluate.protocols import OF_RECONSTRUCTIONS, chosen_protocol

    chosen = chosen_protocol(protocol, changes or (), OF_RECONSTRUCTIONS)
    beside = published_lines(compare, Form.GENERATION, chosen)
    settings = GenerationSettings(
        samples=tuple(samples),
        reference=reference,
        protocol=chosen,
        features=features,
        first=first,
        shown=shown,
        processes=processes,
        threads=threads,
        device=device,
    )
    with counting(reference) as told:
        measured = evaluate_generation(settings, told)
    tell(generation_report(measured, beside), output)
    tell_skipped([(one.name, one.reason) for one in measured.refused], "samples")


@evaluate.command("reference", epilog=REFERENCE_EPILOG)
def reference(
    data: Annotated[list[str], typer.Argument(metavar="SRC…", help="Folders, tars, globs, or .npz.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.npz", help="Pictures and their moments.")],
    protocol: Protocols = "native",
    changes: Changes = None,
    features: Features = "squeeze",
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a reference batch as guided-diffusion's suite reads it."""
    from bsq.data.files import Existing
    from bsq.evaluate.protocols import OF_RECONSTRUCTIONS, chosen_protocol
    from bsq.evaluate.reference import write_reference

    chosen = chosen_protocol(protocol, changes or (), OF_RECONSTRUCTIONS)
    existing = Existing.REPLACE if force else Existing.REFUSE
    with counting(str(output)) as told:
        count = write_reference(tuple(data), chosen, features, output, existing, told)
    say(f"wrote {output}: {count} pictures")


def asked_for(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are settings, by their names."""
    from bsq.evaluate.settings import EvaluationSettings

    asked = {name: value for name, value in options.items() if name in EvaluationSettings.model_fields}
    return asked | {"protocol": None, "systems": tuple(options["systems"]), "data": tuple(options["data"])}


def measure(
    asked: dict[str, Any],
    protocol: str,
    changes: list[str] | None,
    compare: Compare,
    output: Path,
    form: Form,
) -> None:
    """Measure what was asked and write the report to the folder `output`."""
    from bsq.evaluate import lines
    from bsq.evaluate.protocols import OF_CLIPS, chosen_protocol
    from bsq.evaluate.run import evaluate as run
    from bsq.evaluate.settings import EvaluationSettings
    from bsq.evaluate.tables import report_of

    chosen = chosen_protocol(protocol, changes or (), () if form is lines.Form.VIDEO else OF_CLIPS)
    beside = published_lines(compare, form, chosen)
    settings = EvaluationSettings.model_validate(asked | {"protocol": chosen})
    with counting(", ".join(settings.data)) as told:
        measured = run(settings, told)
    tell(report_of(measured, form, beside), output)
    tell_skipped([(one.name, one.reason) for one in measured.refused], "samples")


def published_lines(compare: Compare, form: Form, protocol: Protocol) -> tuple[Line, ...]:
    """The published rows beside ours, if they are wanted."""
    from bsq.evaluate.published import published_beside

    match compare:
        case Compare.nothing:
            return ()
        case Compare.published:
            return published_beside(form, protocol)
        case _:
            raise AssertionError(compare)


def tell(report: Report, output: Path) -> None:
    """The table on the terminal, everything in the folder."""
    from bsq.bench.tables import table
    from bsq.evaluate.report import cells, headings, terminal_table, write

    show_table(terminal_table(report), f"{report.title}\n\n{table(headings(report), cells(report))}")
    say("wrote " + ", ".join(map(str, write(report, output))))
