"""`bsq bench video` and `bsq bench ablation`. What enters: videos. What leaves: tables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bsq.cli.bench import Output, bench, counting, tell_skipped
from bsq.cli.failures import say
from bsq.cli.options import PriorChoice

if TYPE_CHECKING:
    from rich.table import Table

VIDEO_EPILOG = """
**Example**

`bsq bench video clips/ -o out/video` · H.264, H.265, VP9, AV1 and .bsq streams of equal size

`bsq bench video clips.tar -o out/some -c x264 -b 18 -b 36 --also biscuit-s:pictures --clips 4` · some of it, and
another model beside the first
"""

ABLATION_EPILOG = """
**Example**

`bsq bench ablation clips/ -m runs/frame/model -m runs/full/model -m runs/causal/model -o out/ablation`
"""


class VideoCodecName(StrEnum):
    """What ours can be compared with."""

    x264 = "x264"
    x265 = "x265"
    vp9 = "vp9"
    av1 = "av1"


class Chroma(StrEnum):
    """How fine the classical codecs keep colour."""

    coarse = "4:2:0"
    fine = "4:4:4"


Sources = Annotated[list[str], typer.Argument(metavar="SRC…", help="Videos, folders, tars of videos, or globs.")]
Clips = Annotated[int | None, typer.Option("--clips", metavar="N", min=1, help="Only the first N, by name.")]


@bench.command("video", epilog=VIDEO_EPILOG)
def video(
    sources: Sources,
    output: Output,
    chosen: Annotated[
        list[VideoCodecName] | None, typer.Option("--codec", "-c", help="May be repeated.  [default: all]")
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", metavar="MODEL[:LABEL]", help="Sets the rates.")] = "biscuit-s",
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="MODEL[:LABEL]", help="One more of ours, at its own rates; may be repeated."),
    ] = None,
    bits: Annotated[
        list[int] | None,
        typer.Option(
            "--bits", "-b", metavar="K", help="Bits of a code; may be repeated.  [default: eighths of a code]"
        ),
    ] = None,
    prior: Annotated[PriorChoice, typer.Option("--prior", help="What ours are written with.")] = PriorChoice.auto,
    group: Annotated[
        int | None,
        typer.Option("--frames-per-group", metavar="N", min=1, help="Of ours.  [default: as the model is used]"),
    ] = None,
    search: Annotated[
        int, typer.Option("--search", metavar="N", min=0, help="Also ours as `bsq encode --search N` writes them.")
    ] = 0,
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=0, help="Of each clip at most; 0: all.")] = 96,
    clips: Clips = None,
    chroma: Annotated[Chroma, typer.Option("--chroma", help="Of H.264, H.265 and VP9; AV1 is 4:2:0.")] = Chroma.coarse,
    shown: Annotated[str | None, typer.Option("--show", metavar="NAME", help="Clip on the film strip.")] = None,
    threads: Annotated[int, typer.Option("--threads", metavar="N", min=1, help="For every codec.")] = 1,
) -> None:
    """Compare real streams of equal size: classical video codecs and ours."""
    from bsq.bench.video import report
    from bsq.bench.video.compare import VideoBenchSettings, run

    dial: dict[str, Any] = {"prior": prior.value, "frames_per_group": group} | ({"bits": tuple(bits)} if bits else {})
    searched = [{"model": named(model)["model"], **dial, "search": search}] if search else []
    fine = {"subsampling": chroma.value}
    settings = VideoBenchSettings.model_validate(
        {
            "source": tuple(sources),
            "codecs": [
                {"kind": name.value} | (fine if name is not VideoCodecName.av1 else {})
                for name in chosen or VideoCodecName
            ],
            "ours": [named(one) | dial for one in (model, *(also or ()))] + searched,
            "clips": clips,
            "frames": frames or None,
            "shown": shown,
            "threads": threads,
        }
    )
    with counting(sources[0]) as told:
        measured = run(settings, on_clip=told)
    show_table(report.terminal_table(measured), report.plain_table(measured))
    typer.echo(report.summary(measured))
    say("wrote " + ", ".join(map(str, report.write(measured, output))))
    tell_skipped([(one.clip, one.reason) for one in measured.skipped], "clips")


@bench.command("ablation", epilog=ABLATION_EPILOG)
def ablation(
    sources: Sources,
    output: Output,
    models: Annotated[
        list[str], typer.Option("--model", "-m", help="Bundled name, folder or hub id; may be repeated.")
    ],
    bits: Annotated[
        int | None, typer.Option("--bits", "-b", metavar="K", min=1, help="Of each code.  [default: all]")
    ] = None,
    frames: Annotated[
        int,
        typer.Option("--frames", metavar="N", min=1, help="Of a clip; full attention wants what it was trained on."),
    ] = 16,
    frame_rate: Annotated[float, typer.Option("--frame-rate", metavar="R", help="Frames a second.")] = 8.0,
    crop: Annotated[int, typer.Option("--crop", metavar="N", min=1, help="Side of the central square.")] = 128,
    clips: Clips = None,
) -> None:
    """Measure what models keep of clips at equal bits a token: frame only, full attention, block-causal."""
    from bsq.bench.video.ablation import AblationSettings, plain_table, run, terminal_table, write

    settings = AblationSettings.model_validate(
        {
            "source": tuple(sources),
            "models": tuple(models),
            "bits": bits,
            "frames": frames,
            "frame_rate": frame_rate,
            "crop": crop,
            "clips": clips,
        }
    )
    with counting(sources[0]) as told:
        measured = run(settings, told)
    show_table(terminal_table(measured), plain_table(measured))
    say("wrote " + ", ".join(map(str, write(measured, output))))
    tell_skipped([(one.clip, one.reason) for one in measured.skipped], "clips")


def show_table(ruled: Table, plain: str) -> None:
    """Ruled on a terminal, Markdown in a pipe. On a narrow terminal lines are broken, but no figure is cut."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        needed = console.measure(ruled, options=console.options.update(max_width=1000)).maximum
        console.width = max(console.width, needed)
        console.print(ruled)
    else:
        typer.echo(plain)


def named(asked: str) -> dict[str, str]:
    """MODEL or MODEL:LABEL; a folder may have a colon in its name."""
    if Path(asked).is_dir() or ":" not in asked:
        return {"model": asked}
    model, _, label = asked.rpartition(":")
    return {"model": model, "label": label}
