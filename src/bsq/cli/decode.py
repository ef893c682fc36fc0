"""`bsq decode`: .bsq files to pictures and videos. What enters: names. What leaves: files."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bsq.cli.batch import Done, Manner, Watcher, run_batch
from bsq.cli.failures import debugging
from bsq.cli.options import SUFFIX, Device, Force, MaxPixels, Output, Quiet, Sources, choose_device
from bsq.cli.picture import PictureDecoding, decode_picture, kind_of
from bsq.cli.plan import Job, Naming, Renaming, is_folder, opened, plan, refuse_terminal
from bsq.cli.video import Moment, VideoDecoding, VideoHome, decode_video, may_hold_video, read_moment
from bsq.errors import SettingsError


class FillChoice(StrEnum):
    """What stands for tokens that are missing, by the names the command line gives it."""

    prior = "prior"
    zero = "zero"


class Format(StrEnum):
    """What `bsq decode` writes where no file name tells: pictures as the first seven, videos as the others."""

    png = "png"
    webp = "webp"
    tif = "tif"
    bmp = "bmp"
    ppm = "ppm"
    jpg = "jpg"
    avif = "avif"
    mp4 = "mp4"
    webm = "webm"
    gif = "gif"
    frames = "frames"


Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Where the file's model is, if it is not a bundled one.")
]
Decoder = Annotated[
    str | None,
    typer.Option("--decoder", metavar="NAME", help="faithful (default) or perceptual, which is made for the eye."),
]
AskedFormat = Annotated[
    Format | None, typer.Option("--format", help="Of results whose name is not given; default: png, of videos mp4.")
]
Start = Annotated[str | None, typer.Option("--start", metavar="T", help="Of a video, from here on: 10s, 1:02.5, 240f.")]
End = Annotated[str | None, typer.Option("--end", metavar="T", help="Of a video, up to here.")]
AllowTruncated = Annotated[
    bool, typer.Option("--allow-truncated", help="Decode what there is of files that were cut short or damaged.")
]
AskedFill = Annotated[
    FillChoice | None,
    typer.Option("--fill", help="What stands for tokens that are missing; default: what the prior expects."),
]


def decode(
    ctx: typer.Context,
    sources: Sources,
    output: Output = None,
    model: Model = None,
    decoder: Decoder = None,
    format: AskedFormat = None,
    start: Start = None,
    end: End = None,
    allow_truncated: AllowTruncated = False,
    fill: AskedFill = None,
    device: Device = "auto",
    force: Force = False,
    max_pixels: MaxPixels = None,
    quiet: Quiet = False,
) -> None:
    """Turn .bsq files into pictures and videos."""
    from bsq.codec.info import Limits
    from bsq.codec.measure import holds_video
    from bsq.codec.recover import Fill
    from bsq.codec.shelf import DEFAULT_MODEL, named_model
    from bsq.data.pictures import MAX_PIXELS

    if fill is not None and not allow_truncated:
        raise SettingsError("--fill says what to do about missing tokens; it needs --allow-truncated")
    suffix = ".png" if format is None else f".{format.value}"
    jobs = plan(sources, output, frozenset({SUFFIX}), Naming(picture_name(suffix), picture_name(suffix)))
    refuse_terminal(jobs)
    check_formats(jobs, suffix)
    place = choose_device(device)
    named = model if decoder is None else name_with_decoder(model or DEFAULT_MODEL, decoder)
    tokenizer = None if named is None else named_model(named, place)
    limits = Limits(pixels=MAX_PIXELS if max_pixels is None else max_pixels)
    way = Fill(fill or FillChoice.prior) if allow_truncated else None
    span = read_moment(start), read_moment(end)
    pictures = PictureDecoding(tokenizer, place, limits, way, suffix, force)
    videos = VideoDecoding(tokenizer, place, limits, way, *span, force)
    home = VideoHome(output, sources, None if format is None else format.value, suffix)

    def work(job: Job, watcher: Watcher) -> Done:
        with opened(job.source) as file:
            if holds_video(file):
                return decode_video(home.place(job), file, videos, watcher)
            refuse_for_pictures(job, span)
            return decode_picture(job, file, pictures)

    run_batch(jobs, work, Manner("decoded", quiet, debugging(ctx)))


def picture_name(suffix: str) -> Renaming:
    """photo.bsq → photo.png; photo.jpg.bsq → photo.jpg.png; photo.old → photo.old.png."""
    return lambda path: path.with_name((path.stem if path.suffix == SUFFIX else path.name) + suffix)


def name_with_decoder(model: str, decoder: str) -> str:
    """MODEL:DECODER. Raises SettingsError for a name that no decoder has, or two decoders."""
    from bsq.checkpoint.decoders import NAME, split_decoder

    if NAME.fullmatch(decoder) is None:
        raise SettingsError(f"no decoder can be called {decoder!r}; the bundled model has faithful and perceptual")
    owner, chosen = split_decoder(model)
    if owner != model and chosen != decoder:
        raise SettingsError(f"--model {model} and --decoder {decoder} name two decoders; give one of them")
    return f"{owner}:{decoder}"


def check_formats(jobs: list[Job], suffix: str) -> None:
    """Raises MediaError for a target that no picture can be written to, unless a video may go there."""
    from bsq.data.pictures import check_format

    for job in jobs:
        if not is_folder(job.source) and not may_hold_video(job.source, kind_of(job.target, suffix)):
            check_format(kind_of(job.target, suffix))


def refuse_for_pictures(job: Job, span: tuple[Moment | None, Moment | None]) -> None:
    """Raises SettingsError for what only videos can have."""
    if span != (None, None):
        raise SettingsError(f"--start and --end are for videos, {job.name} holds none")
