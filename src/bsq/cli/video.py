"""Videos on the command line: one of them to a .bsq file, and back. What enters: a job and an open file. What leaves:
a file or folder that is whole, or none.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bsq.cli.batch import Done, Watcher, size, told_search
from bsq.cli.plan import Job, Pipe, Place, check_free, names_a_file, opened, output, place_name, refuse_own_source
from bsq.errors import MediaError, SettingsError

if TYPE_CHECKING:
    import numpy as np

    from bsq.codec.info import Limits
    from bsq.codec.recover import Fill
    from bsq.data.video_files import VideoWriter
    from bsq.prior.base import Prior
    from bsq.tokenizer import Tokenizer

FRAMES = "frames"  # the name of a folder of PNG files among formats
MOMENT = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)s?|(\d+)f")


@dataclass(frozen=True)
class Moment:
    """A moment of a video: seconds, or the number of a frame."""

    seconds: Fraction | None
    frame: int | None

    def at(self, rate: Fraction) -> Fraction:
        """In seconds, of a video of so many frames a second."""
        return self.frame / rate if self.frame is not None else self.seconds or Fraction(0)


def read_moment(text: str | None) -> Moment | None:
    """10, 10s, 1:02.5, 1:00:00, or 240f for frame 240. Raises SettingsError."""
    if text is None:
        return None
    found = MOMENT.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"{text!r} is no moment of a video; write 10s, 1:02.5, 1:00:00, or 240f for frame 240")
    hours, minutes, seconds, frame = found.groups()
    if frame is not None:
        return Moment(None, int(frame))
    return Moment(3600 * int(hours or 0) + 60 * int(minutes or 0) + Fraction(seconds), None)


@dataclass(frozen=True)
class VideoEncoding:
    """How videos are encoded; `prior` is None where the smallest stream decides."""

    tokenizer: Tokenizer
    bits: int | None
    prior: Prior | None
    frames_per_group: int | None
    search: int | None  # None: as usual
    colours: bool
    frame_rate: Fraction | None
    max_pixels: int
    check: bool
    force: bool


def encode_video(job: Job, source: BinaryIO, how: VideoEncoding, watcher: Watcher) -> Done:
    """A video's file → a .bsq file."""
    from bsq.codec.info import Limits
    from bsq.codec.video import compress_video, verify_video
    from bsq.data.steady import SteadyFrames
    from bsq.data.videos import open_video

    start, bytes_read = time.perf_counter(), size_of(source)
    path_or_file = source if isinstance(job.source, Pipe) else job.source
    with open_video(path_or_file, how.max_pixels) as video, output(job.target, how.force) as target:
        frames = SteadyFrames(video, how.frame_rate)
        shown = watched(frames, frames.expected, watcher)
        info = compress_video(
            shown,
            frames.rate,
            target,
            how.tokenizer,
            bits=how.bits,
            prior=how.prior,
            frames_per_group=how.frames_per_group,
            search=how.search,
            told=watcher.search,
            colours=how.colours,
        )
        if how.check:
            verify_video(target, how.tokenizer, Limits(pixels=how.max_pixels))
        written = size_of(target)
        notes = (*video.notes, *frames.notes())
    seconds = time.perf_counter() - start
    duration = info.frames / frames.rate
    told = f"{told_video(info.width, info.height, info.frames, frames.rate)}, {info.kept} bits a token"
    told += f"{told_search(how.search)}, {size(written)}, {told_rate(written, duration)}"
    line = f"{job.name} → {place_name(job.target)}: {told}, {told_speed(info.frames, seconds)}"
    return Done(line, bytes_read, written, notes)


def may_hold_video(source: Place, suffix: str) -> bool:
    """Whether there can be a video; a pipe cannot be looked into twice, so the suffix wanted must tell."""
    from bsq.codec.measure import holds_video
    from bsq.data.video_files import VIDEO_FORMATS

    if isinstance(source, Pipe):
        return suffix.lower() in (*VIDEO_FORMATS, f".{FRAMES}", ".png")
    if not os.path.isfile(source):
        return False
    with opened(source) as file:
        return holds_video(file)


@dataclass(frozen=True)
class VideoDecoding:
    """How videos are decoded; `way` is None where a stream must be whole."""

    tokenizer: Tokenizer | None
    device: str
    limits: Limits
    way: Fill | None
    start: Moment | None
    end: Moment | None
    force: bool


def decode_video(video_job: VideoJob, source: BinaryIO, how: VideoDecoding, watcher: Watcher) -> Done:
    """A video's .bsq file → a video."""
    from bsq.codec.groups import GroupReader
    from bsq.codec.video import decompress_video, recover_video
    from bsq.data.video_files import check_video_format

    place = video_job.target
    check_video_format(video_job.suffix.removesuffix(f".{FRAMES}"))
    begin, bytes_read = time.perf_counter(), size_of(source)
    rate = GroupReader(source, how.limits).info.frame_rate
    assert rate is not None
    start, end = (None if moment is None else moment.at(rate) for moment in (how.start, how.end))
    if how.way is None:
        video = decompress_video(source, how.tokenizer, how.device, how.limits, (), start, end)
    else:
        video = recover_video(source, how.tokenizer, how.device, how.limits, how.way, start, end)
    with video_output(video_job, rate, how.force) as target:
        for frame in watched(video.frames, len(video.span), watcher):
            target.write(frame)
        count = target.count
    seconds = time.perf_counter() - begin
    told = told_video(video.info.width, video.info.height, count, rate)
    line = f"{video_job.job.name} → {place_name(place)}: {told}, {told_speed(count, seconds)}"
    return Done(line, bytes_read, 0 if isinstance(place, Pipe) else size_at(place), tuple(video.missing))


def watched(frames: Iterable[np.ndarray], total: int | None, watcher: Watcher) -> Iterator[np.ndarray]:
    start = time.perf_counter()
    for number, frame in enumerate(frames, 1):
        yield frame
        watcher.frames(number, total, time.perf_counter() - start)


@contextmanager
def video_output(job: VideoJob, rate: Fraction, force: bool) -> Iterator[VideoWriter]:
    """A writer of a file or folder that is whole or not there; for a pipe, of a temporary file."""
    from bsq.data.files import Existing
    from bsq.data.video_files import write_video

    place = job.target
    if isinstance(place, Pipe):
        if not job.suffix.removeprefix(f".{FRAMES}"):
            raise SettingsError("a pipe takes no folder of frames; use -o FOLDER, or --format mp4, webm or gif")
        with tempfile.TemporaryDirectory(prefix="bsq-") as folder:
            path = Path(folder) / f"video{job.suffix}"
            with write_video(path, rate) as video:
                yield video
            with open(path, "rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
            sys.stdout.buffer.flush()
        return
    check_free(place, force)
    if place.is_dir() and any(place.iterdir()) and not force:
        raise MediaError(
            f"{place} is a folder with files in it; name a new one for PNG files, or --format mp4 for a file inside it"
        )
    with write_video(place, rate, Existing.REPLACE if force or place.is_dir() else Existing.REFUSE) as video:
        yield video


@dataclass(frozen=True)
class VideoHome:
    """Where videos go. `output` and `sources` as typed, `asked` a format or None, `placeholder` the suffix that was
    planned for pictures.
    """

    output: str | None
    sources: list[str]
    asked: str | None
    placeholder: str

    def place(self, job: Job) -> VideoJob:
        """A name that was given, in its own format; a folder, for a lone video without a format, of PNG files; else
        the name of the source.
        """
        kind = "mp4" if self.asked is None else self.asked
        if isinstance(job.target, Pipe):
            return VideoJob(job, job.target, f".{kind}")
        target, lone = job.target, len(self.sources) == 1 and not os.path.isdir(self.sources[0])
        if self.output is not None and lone and self.asked is None and not names_a_file(self.output, self.sources):
            target = Path(self.output)
        elif self.output is None or not names_a_file(self.output, self.sources):
            stem = str(job.target).removesuffix(self.placeholder)
            target = Path(stem if kind == FRAMES else f"{stem}.{kind}")
        refuse_own_source([Job(job.source, target)])
        return VideoJob(job, target, target.suffix)


@dataclass(frozen=True)
class VideoJob:
    """A job, and where its video goes, in the format of which suffix; "" is a folder of PNG files."""

    job: Job
    target: Place
    suffix: str


def read_rate(text: str) -> Fraction:
    """12.5 or 30000/1001, frames a second. Raises SettingsError."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise SettingsError(f"--frame-rate must be above 0, as 25, 12.5 or 30000/1001; got {text!r}")
    return rate


def told_video(width: int, height: int, frames: int, rate: Fraction) -> str:
    return f"{width}×{height}, {frames} frames, {float(rate):.5g} a second, {float(frames / rate):.2f} s"


def told_rate(count: int, duration: Fraction) -> str:
    return f"{float(8 * count / duration / 1000):.1f} kb/s"


def told_speed(frames: int, seconds: float) -> str:
    return f"{seconds:.1f} s ({frames / max(seconds, 1e-9):.1f} frames/s)"


def size_of(file: BinaryIO) -> int:
    """Bytes of a file that can be searched; left at its beginning."""
    count = file.seek(0, 2)
    file.seek(0)
    return count


def size_at(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
