"""`bsq tokenize`: pictures and videos by the million to shards of tokens. What enters: names. What leaves: a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bsq.cli.batch import SOME_FAILED, size
from bsq.cli.failures import say

if TYPE_CHECKING:
    from bsq.bulk.encoding import Note
    from bsq.bulk.plan import Plan
    from bsq.bulk.run import Summary
    from bsq.bulk.settings import TokenizeSettings
    from bsq.bulk.spread import Workers

EPILOG = """
**Examples**

`bsq tokenize photos/ -o tokens/ --size 128` · the square in the middle of each, scaled to 128 pixels a side

`bsq tokenize photos/ -o tokens/ --size 128` · once more: goes on where it was broken off

`bsq tokenize 'train-{000..099}.tar' -o tokens/ --size 256 --label cls` · WebDataset tars, labels from .cls members

`bsq tokenize 'data/*.parquet' -o tokens/ --size 128 --column image --label label` · Parquet files with pictures in them

`bsq tokenize s3://a/photos/ -o s3://a/tokens/ --size 256 --device cuda --per-gpu 8 --ray-address auto` · a cluster

`bsq tokenize imagenet/ -o tokens/ --size 128 --views 10 --zoom 0.8 --flip 0.5 --label folder` · ten crops of each

`bsq tokenize videos.txt -o tokens/ --videos --size 128 --frames 16 --frame-rate 8 --max-frames 160` · a list of videos

Inputs that cannot be used are named in errors.jsonl beside the shards, with the reason. What the folder holds, how
to read it and what a run costs: docs/scale.md.
"""
BATCHES = {"cpu": 4, "cuda": 64}
"""The quickest for pictures of 128 pixels and more; on GPUs, a guess."""
SILENCE = 30.0
"""Seconds between two lines about the progress where no terminal shows a bar."""


class Device(StrEnum):
    AUTO, CPU, CUDA = "auto", "cpu", "cuda"


class Form(StrEnum):
    PARQUET, WEBDATASET = "parquet", "webdataset"


class Crop(StrEnum):
    CENTER, NONE = "center", "none"


Sources = Annotated[
    list[str],
    typer.Argument(metavar="SRC...", help="Folders, files, globs, tars, Parquet files, lists; or addresses of them."),
]
Output = Annotated[str, typer.Option("-o", "--output", metavar="DST", help="A folder or an address (s3://…).")]
Model = Annotated[str, typer.Option("--model", help="A bundled name, a folder or a hub id.")]
Bits = Annotated[int | None, typer.Option("--bits", help="Bits (digits) to keep of a code. Default: all.")]
Size = Annotated[
    int | None, typer.Option("--size", help="Pixels of the short side. Default: pictures stay as they are.")
]
CropChoice = Annotated[Crop, typer.Option("--crop", help="With --size, whether the square is cut out.")]
Views = Annotated[int, typer.Option("--views", help="Squares of each input: the middle, then random ones.")]
Zoom = Annotated[float, typer.Option("--zoom", help="Smallest side of a random square: part of the short side.")]
Flip = Annotated[float, typer.Option("--flip", help="Chance that a random square is mirrored.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the random squares.")]
Label = Annotated[
    str | None, typer.Option("--label", help="Labels: folder, a suffix in tars (cls), or a Parquet column.")
]
Column = Annotated[str, typer.Option("--column", help="The Parquet column with the pictures.")]
Videos = Annotated[bool, typer.Option("--videos", help="Sources hold videos rather than pictures.")]
Frames = Annotated[int | None, typer.Option("--frames", help="Frames in a row of tokens. Default: 24.")]
FrameRate = Annotated[float | None, typer.Option("--frame-rate", help="Frames a second. Default: the video's own.")]
MaxFrames = Annotated[int | None, typer.Option("--max-frames", help="Only so many first frames.")]
MaxPixels = Annotated[int, typer.Option("--max-pixels", help="Refuse larger inputs.")]
Format = Annotated[Form, typer.Option("--format", help="How shards are stored.")]
ShardSize = Annotated[int, typer.Option("--shard-size", help="Inputs of a shard.")]
BatchSize = Annotated[int | None, typer.Option("--batch", help="Pictures encoded together. Default: 4, on GPUs 64.")]
WorkerCount = Annotated[
    int | None, typer.Option("--workers", help="Default: all there is room for. 0: this process, without Ray.")
]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", metavar="HOST:PORT", help="A Ray cluster. Default: this machine.")
]
DeviceChoice = Annotated[Device, typer.Option("--device", help="Where models compute.")]
PerGpu = Annotated[int, typer.Option("--per-gpu", min=1, help="Workers that share a GPU; each decodes on a CPU.")]
Retry = Annotated[bool, typer.Option("--retry", help="Write shards with failed inputs anew.")]
Stats = Annotated[bool, typer.Option("--stats", help="Count how codes are used, into stats.json.")]


def tokenize(
    sources: Sources,
    output: Output,
    model: Model = "biscuit-s",
    bits: Bits = None,
    size: Size = None,
    crop: CropChoice = Crop.CENTER,
    views: Views = 1,
    zoom: Zoom = 1.0,
    flip: Flip = 0.0,
    seed: Seed = 0,
    label: Label = None,
    column: Column = "image",
    videos: Videos = False,
    frames: Frames = None,
    frame_rate: FrameRate = None,
    max_frames: MaxFrames = None,
    max_pixels: MaxPixels = 200_000_000,
    form: Format = Form.PARQUET,
    shard_size: ShardSize = 1000,
    batch: BatchSize = None,
    workers: WorkerCount = None,
    ray_address: RayAddress = None,
    device: DeviceChoice = Device.AUTO,
    per_gpu: PerGpu = 1,
    retry: Retry = False,
    stats: Stats = False,
) -> None:
    """Turn pictures or videos into shards of tokens."""
    from bsq.bulk.run import Faulty, Request
    from bsq.bulk.run import tokenize as run
    from bsq.bulk.settings import FrameSettings, TokenizeSettings, ViewSettings
    from bsq.bulk.stats import measure
    from bsq.codec.shelf import named_model

    kind = chosen_device(device)
    settings = TokenizeSettings(
        inputs="videos" if videos else "pictures",
        bits=bits,
        shard_size=shard_size,
        format=form.value,
        batch=batch or BATCHES[kind],
        label=label,
        column=column,
        max_pixels=max_pixels,
        views=ViewSettings(size=size, crop=crop.value, views=views, zoom=zoom, flip=flip, seed=seed),
        frames=FrameSettings(frames=frames, frame_rate=frame_rate, max_frames=max_frames),
    )
    request = Request(tuple(sources), output, settings, kind, Faulty.RETRY if retry else Faulty.KEEP)
    with chosen_workers(workers, ray_address, kind, per_gpu) as crew:
        with Progress(settings) as progress, broken_off():
            summary = run(request, named_model(model), crew, progress)
        tell(summary, output, settings, progress)
        for line in measure(summary, output, crew).lines() if stats else ():
            say(line)
    if summary.faults:
        raise typer.Exit(SOME_FAILED)


def chosen_device(device: Device) -> str:
    """cpu or cuda; auto is cuda where there is one."""
    import torch

    match device:
        case Device.AUTO:
            return "cuda" if torch.cuda.is_available() else "cpu"
        case Device.CPU | Device.CUDA:
            return device.value
        case _:
            raise AssertionError(device)


def chosen_workers(
    workers: int | None, address: str | None, device: str, per_gpu: int
) -> AbstractContextManager[Workers]:
    """Raises SettingsError for fewer than no workers, or none of a cluster."""
    from bsq.bulk.spread import Cluster, Here
    from bsq.errors import SettingsError

    if workers is not None and workers < (0 if address is None else 1):
        raise SettingsError(f"--workers {workers}: give 1 or more; 0, without a cluster, is this process")
    return nullcontext(Here()) if workers == 0 else Cluster(address, workers, device, per_gpu)


@contextmanager
def broken_off() -> Iterator[None]:
    """Says after an interrupt what is left."""
    try:
        yield
    except KeyboardInterrupt:
        say("what is written stays; the same command goes on from there")
        raise


def tell(summary: Summary, place: str, settings: TokenizeSettings, progress: Progress) -> None:
    """Say what the folder holds now, how fast it went and what failed."""
    index = summary.index
    say(
        f"{place} holds {index.rows:,} rows of {summary.inputs - summary.faults:,} {settings.inputs} in "
        f"{len(index.shards):,} shards, {size(summary.inputs_bytes)} → {size(summary.bytes)}"
        f"{progress.pace()}"
    )
    for fault in summary.first_faults:
        say(f"failed: {fault.source}: {fault.reason}")
    if summary.faults:
        say(f"{summary.faults:,} of {summary.inputs:,} inputs failed; {place}/errors.jsonl names each with its reason")


class Progress:
    """A bar on terminals, a line now and then elsewhere. Implements `bsq.bulk.run.Listener`."""

    def __init__(self, settings: TokenizeSettings) -> None:
        from rich import progress as rich_progress
        from rich.console import Console

        console = Console(stderr=True)
        self._bar = rich_progress.Progress(
            rich_progress.SpinnerColumn(),
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._noun, self._lines = settings.inputs, not console.is_terminal
        self._task = self._bar.add_task(f"listing {self._noun}", total=None)
        self._total: int | None = None
        self._before = self._done = 0
        self._start = self._told = time.perf_counter()

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._bar.stop()

    def listed(self, inputs: int) -> None:
        self._bar.update(self._task, completed=inputs)

    def begins(self, plan: Plan, done: int, inputs: int) -> None:
        if done:
            say(f"{done:,} of {plan.shards:,} shards are written already")
        self._total, self._before, self._start = plan.inputs, inputs, time.perf_counter()
        self._bar.reset(self._task, total=plan.inputs, completed=inputs, description=f"0 {self._noun}/s")

    def wrote(self, note: Note) -> None:
        """One more shard is whole."""
        self._done += note.inputs
        now = time.perf_counter()
        rate = self._done / max(now - self._start, 1e-9)
        self._bar.update(self._task, completed=self._before + self._done, description=f"{rate:.1f} {self._noun}/s")
        if self._lines and now - self._told > SILENCE:
            self._told = now
            done = f"{self._before + self._done:,} of {self._total or '?'} {self._noun}"
            say(f"{done}, {rate:.1f} a second{self._left(rate)}")

    def pace(self) -> str:
        """How fast this run was, for a sentence; nothing if it had nothing to do."""
        seconds = time.perf_counter() - self._start
        return f", {self._done:,} of them in {seconds:.1f} s ({self._done / seconds:.1f}/s)" if self._done else ""

    def _left(self, rate: float) -> str:
        if self._total is None:
            return ""
        seconds = round((self._total - self._before - self._done) / rate)
        return f", {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"
