"""`bsq encode`: pictures and videos to .bsq files. What enters: names. What leaves: files."""

from __future__ import annotations

from typing import Annotated

import typer

from bsq.cli.batch import Done, Manner, Watcher, run_batch
from bsq.cli.failures import debugging, say
from bsq.cli.options import SUFFIX, Device, Force, MaxPixels, Output, PriorChoice, Quiet, Sources, choose_device
from bsq.cli.picture import PictureEncoding, SizeLimit, encode_picture
from bsq.cli.plan import Job, Naming, check_free, opened, plan, refuse_terminal
from bsq.cli.video import VideoEncoding, encode_video, read_rate
from bsq.errors import SettingsError

Bits = Annotated[
    int | None, typer.Option("--bits", "-b", metavar="K", help="Keep the first K bits of each code; default: all.")
]
Model = Annotated[str, typer.Option("--model", "-m", help="Bundled name, folder or hub id.")]
Prior = Annotated[
    PriorChoice,
    typer.Option(
        "--prior", help="What drives the entropy coder; auto: of pictures the learned one, of videos the best."
    ),
]
TargetRate = Annotated[
    float | None,
    typer.Option("--target-bpp", metavar="X", help="Keep as many bits as show it best in X bits per pixel of file."),
]
TargetBytes = Annotated[
    int | None, typer.Option("--target-bytes", metavar="N", min=1, help="Keep as many bits as show it best in N bytes.")
]
Allocate = Annotated[
    bool,
    typer.Option(
        "--allocate", help="Let each token keep as many bits as pay, in a file no larger than --bits or a target makes."
    ),
]
Search = Annotated[
    int | None,
    typer.Option(
        "--search",
        metavar="N",
        min=0,
        help="Look for better codes in N steps: 1 to 3 take seconds, 20 to 80 far longer; 0 takes the encoder's. "
        "Default: 1 for pictures, 0 for huge ones, videos and models that cannot be searched.",
    ),
]
Colours = Annotated[
    bool,
    typer.Option(
        "--colours/--no-colours",
        help="Decode what was encoded, and keep how to set it right: 14 bytes, and of pictures 2 to 5 % of the file.",
    ),
]
Group = Annotated[
    int | None,
    typer.Option("--group", metavar="N", min=1, help="Frames of a video that go together; default: the model's."),
]
FrameRate = Annotated[
    str | None, typer.Option("--frame-rate", metavar="R", help="Of a video: 12.5, 30000/1001; default: its own.")
]
Verify = Annotated[bool, typer.Option("--verify", help="Read each file back before reporting it.")]


def encode(
    ctx: typer.Context,
    sources: Sources,
    output: Output = None,
    bits: Bits = None,
    model: Model = "biscuit-s",
    prior: Prior = PriorChoice.auto,
    target_bpp: TargetRate = None,
    target_bytes: TargetBytes = None,
    allocate: Allocate = False,
    search: Search = None,
    colours: Colours = True,
    group: Group = None,
    frame_rate: FrameRate = None,
    device: Device = "auto",
    force: Force = False,
    check: Verify = False,
    max_pixels: MaxPixels = None,
    quiet: Quiet = False,
) -> None:
    """Turn pictures and videos into .bsq files."""
    from bsq.codec.search import check_search
    from bsq.codec.shelf import foreign_prior, named_model, prior_called
    from bsq.data.kinds import is_video
    from bsq.data.pictures import MAX_PIXELS, PICTURE_SUFFIXES
    from bsq.data.videos import VIDEO_SUFFIXES

    target = SizeLimit.of(target_bpp, target_bytes)
    if allocate and bits is None and target is None:
        raise SettingsError("--allocate needs --bits, --target-bpp or --target-bytes: how large the file may be")
    naming = Naming(lambda path: path.with_suffix(SUFFIX), lambda path: path.with_name(path.name + SUFFIX))
    jobs = plan(sources, output, PICTURE_SUFFIXES | VIDEO_SUFFIXES, naming)
    refuse_terminal(jobs)
    tokenizer = named_model(model, choose_device(device))
    if search is not None:
        check_search(search, tokenizer)
    chosen = None if prior is PriorChoice.auto else prior_called(prior.value, tokenizer)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if prior is PriorChoice.auto and (note := foreign_prior(tokenizer)):
        say(f"note: {note}; the adaptive prior takes its place")
    rate = None if frame_rate is None else read_rate(frame_rate)
    pictures = PictureEncoding(tokenizer, bits, chosen, target, allocate, search, colours, limit, check, force)
    videos = VideoEncoding(tokenizer, bits, chosen, group, search, colours, rate, limit, check, force)

    def work(job: Job, watcher: Watcher) -> Done:
        check_free(job.target, force)
        with opened(job.source) as file:
            if not is_video(file, job.name):
                return encode_picture(job, file, pictures, watcher)
            refuse_for_videos(target, allocate)
            return encode_video(job, file, videos, watcher)

    run_batch(jobs, work, Manner("encoded", quiet, debugging(ctx)))


def refuse_for_videos(target: SizeLimit | None, allocate: bool) -> None:
    """Raises SettingsError for what only pictures can have."""
    if target is not None:
        raise SettingsError("--target-bpp and --target-bytes are for pictures; a video takes --bits")
    if allocate:
        raise SettingsError("--allocate is for pictures; all tokens of a video keep as many bits")
