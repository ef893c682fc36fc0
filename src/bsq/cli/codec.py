"""`bsq encode` and `bsq decode`: pictures and videos to .bsq files and back. What enters: names. What leaves: files."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bsq.cli.batch import Done, Manner, Watcher, run_batch, size
from bsq.cli.failures import debugging, say
from bsq.cli.plan import (
    Job,
    Naming,
    Pipe,
    Place,
    Renaming,
    check_free,
    is_folder,
    opened,
    place_name,
    plan,
    refuse_terminal,
    write,
)
from bsq.cli.video import (
    VideoDecoding,
    VideoEncoding,
    VideoHome,
    decode_video,
    encode_video,
    may_hold_video,
    read_moment,
    read_rate,
)
from bsq.errors import SettingsError

if TYPE_CHECKING:
    from bsq.codec.info import StreamInfo

SUFFIX = ".bsq"


class PriorChoice(StrEnum):
    """Priors by the names the command line gives them."""

    auto = "auto"
    learned = "learned"
    adaptive = "adaptive"
    raw = "raw"


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


def encode(
    ctx: typer.Context,
    sources: Sources,
    output: Output = None,
    bits: Annotated[
        int | None, typer.Option("--bits", "-b", metavar="K", help="Keep the first K bits of each code; default: all.")
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Bundled name, folder or hub id.")] = "biscuit-s",
    prior: Annotated[
        PriorChoice,
        typer.Option(
            "--prior",
            help="What drives the entropy coder; auto: of pictures the learned one, of videos the best.",
        ),
    ] = PriorChoice.auto,
    target_bpp: Annotated[
        float | None,
        typer.Option("--target-bpp", metavar="X", help="Keep as many bits as fit into X bits per pixel of file."),
    ] = None,
    target_bytes: Annotated[
        int | None, typer.Option("--target-bytes", metavar="N", min=1, help="Keep as many bits as fit into N bytes.")
    ] = None,
    allocate: Annotated[
        bool,
        typer.Option(
            "--allocate",
            help="Let each token keep as many bits as pay, in a file no larger than --bits or a target makes.",
        ),
    ] = False,
    search: Annotated[
        int,
        typer.Option(
            "--search",
            metavar="N",
            min=0,
            help="Look for better codes in N steps, 20 to 80: a better picture, about as many bytes, much more time.",
        ),
    ] = 0,
    group: Annotated[
        int | None,
        typer.Option("--group", metavar="N", min=1, help="Frames of a video that go together; default: the model's."),
    ] = None,
    frame_rate: Annotated[
        str | None,
        typer.Option("--frame-rate", metavar="R", help="Of a video: 12.5, 30000/1001; default: its own."),
    ] = None,
    device: Device = "auto",
    force: Force = False,
    check: Annotated[bool, typer.Option("--verify", help="Read each file back before reporting it.")] = False,
    max_pixels: MaxPixels = None,
    quiet: Quiet = False,
) -> None:
    """Turn pictures and videos into .bsq files."""
    from bsq.codec.info import Limits
    from bsq.codec.measure import inspect
    from bsq.codec.picture import compress, verify
    from bsq.codec.search import check_search
    from bsq.codec.shelf import foreign_prior, named_model, prior_called
    from bsq.data.kinds import is_video
    from bsq.data.pictures import MAX_PIXELS, PICTURE_SUFFIXES, read_picture
    from bsq.data.videos import VIDEO_SUFFIXES

    target = choose_target(target_bpp, target_bytes)
    if allocate and bits is None and (target_bpp, target_bytes) == (None, None):
        raise SettingsError("--allocate needs --bits, --target-bpp or --target-bytes: how large the file may be")
    if allocate and search:
        raise SettingsError("choose --search or --allocate")
    naming = Naming(lambda path: path.with_suffix(SUFFIX), lambda path: path.with_name(path.name + SUFFIX))
    jobs = plan(sources, output, PICTURE_SUFFIXES | VIDEO_SUFFIXES, naming)
    refuse_terminal(jobs)
    tokenizer = named_model(model, choose_device(device))
    check_search(search, tokenizer)
    chosen, limit = prior_called(prior.value, tokenizer), MAX_PIXELS if max_pixels is None else max_pixels
    limits = Limits(pixels=limit)
    if prior is PriorChoice.auto and (note := foreign_prior(tokenizer)):
        say(f"note: {note}; the adaptive prior takes its place")
    rate = None if frame_rate is None else read_rate(frame_rate)
    of_videos = None if prior is PriorChoice.auto else chosen
    videos = VideoEncoding(tokenizer, bits, of_videos, group, search, rate, limit, check, force)

    def work(job: Job, watcher: Watcher) -> Done:
        check_free(job.target, force)
        with opened(job.source) as file:
            if is_video(file, job.name):
                if (target_bpp, target_bytes) != (None, None):
                    raise SettingsError("--target-bpp and --target-bytes are for pictures; a video takes --bits")
                if allocate:
                    raise SettingsError("--allocate is for pictures; all tokens of a video keep as many bits")
                return encode_video(job, file, videos, watcher)
            start, source = time.perf_counter(), file.read()
        picture = read_picture(source, limit)
        most = target(*picture.pixels.shape[:2])
        data = compress(picture.pixels, tokenizer, bits, chosen, most, allocate, search, watcher.search)
        if check:
            verify(data, tokenizer, limits)
        write(job.target, data, force)
        line = encoded_line(job, inspect(data, limits).info, len(data), time.perf_counter() - start)
        return Done(line, len(source), len(data), picture.notes)

    run_batch(jobs, work, Manner("encoded", quiet, debugging(ctx)))


def decode(
    ctx: typer.Context,
    sources: Sources,
    output: Output = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Where the file's model is, if it is not a bundled one.")
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option("--decoder", metavar="NAME", help="faithful (default) or perceptual, which is made for the eye."),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option("--format", help="Of results whose name is not given; default: png, of videos mp4."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="T", help="Of a video, from here on: 10s, 1:02.5, 240f.")
    ] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="T", help="Of a video, up to here.")] = None,
    allow_truncated: Annotated[
        bool, typer.Option("--allow-truncated", help="Decode what there is of files that were cut short or damaged.")
    ] = False,
    fill: Annotated[
        FillChoice | None,
        typer.Option("--fill", help="What stands for tokens that are missing; default: what the prior expects."),
    ] = None,
    device: Device = "auto",
    force: Force = False,
    max_pixels: MaxPixels = None,
    quiet: Quiet = False,
) -> None:
    """Turn .bsq files into pictures and videos."""
    from bsq.codec.info import Limits
    from bsq.codec.measure import holds_video
    from bsq.codec.picture import Recovered, decompress, recover
    from bsq.codec.recover import Fill
    from bsq.codec.shelf import DEFAULT_MODEL, named_model
    from bsq.data.pictures import MAX_PIXELS, check_format, encode_picture

    if fill is not None and not allow_truncated:
        raise SettingsError("--fill says what to do about missing tokens; it needs --allow-truncated")

    suffix = ".png" if format is None else f".{format.value}"
    jobs = plan(sources, output, frozenset({SUFFIX}), Naming(picture_name(suffix), picture_name(suffix)))
    refuse_terminal(jobs)
    for job in jobs:
        if not is_folder(job.source) and not may_hold_video(job.source, kind_of(job.target, suffix)):
            check_format(kind_of(job.target, suffix))
    place = choose_device(device)
    named = model if decoder is None else f"{model or DEFAULT_MODEL}:{decoder}"
    tokenizer = None if named is None else named_model(named, place)
    limits = Limits(pixels=MAX_PIXELS if max_pixels is None else max_pixels)
    way = Fill(fill or FillChoice.prior) if allow_truncated else None
    span = read_moment(start), read_moment(end)
    videos = VideoDecoding(tokenizer, place, limits, way, *span, force)
    home = VideoHome(output, sources, None if format is None else format.value, suffix)

    def work(job: Job, watcher: Watcher) -> Done:
        with opened(job.source) as file:
            if holds_video(file):
                return decode_video(home.place(job), file, videos, watcher)
            begin, source = time.perf_counter(), file.read()
        if span != (None, None):
            raise SettingsError(f"--start and --end are for videos, {job.name} holds none")
        check_format(kind_of(job.target, suffix))
        check_free(job.target, force)
        if way is not None:
            found = recover(source, tokenizer, place, limits, way)
        else:
            found = Recovered(decompress(source, tokenizer, place, limits), None)
        data = encode_picture(found.picture, kind_of(job.target, suffix))
        write(job.target, data, force)
        height, width, _ = found.picture.shape
        line = f"{job.name} → {place_name(job.target)}: {width}×{height}, {time.perf_counter() - begin:.1f} s"
        return Done(line, len(source), len(data), () if found.missing is None else (found.missing,))

    run_batch(jobs, work, Manner("decoded", quiet, debugging(ctx)))


def kind_of(target: Place, default: str) -> str:
    """The suffix that chooses the picture's format."""
    return default if isinstance(target, Pipe) else target.suffix


def picture_name(suffix: str) -> Renaming:
    """photo.bsq → photo.png; photo.jpg.bsq → photo.jpg.png; photo.old → photo.old.png."""
    return lambda path: path.with_name((path.stem if path.suffix == SUFFIX else path.name) + suffix)


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


def choose_target(bits_per_pixel: float | None, count: int | None) -> Callable[[int, int], int | None]:
    """How many bytes a picture of (H, W) pixels may take; None: any number. Raises SettingsError."""
    if bits_per_pixel is None:
        return lambda height, width: count
    if count is not None:
        raise SettingsError("--target-bpp and --target-bytes both say how large the file may be; give one of them")
    if not 0 < bits_per_pixel < float("inf"):
        raise SettingsError(f"--target-bpp must be a positive number of bits per pixel, got {bits_per_pixel}")
    return lambda height, width: int(bits_per_pixel * height * width / 8)


def encoded_line(job: Job, info: StreamInfo, written: int, seconds: float) -> str:
    rate = 8 * written / (info.height * info.width)
    told = f"{info.width}×{info.height}, {info.told_kept} bits a token, {size(written)}, {rate:.3f} bpp"
    return f"{job.name} → {place_name(job.target)}: {told}, {seconds:.1f} s"
