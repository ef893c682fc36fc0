"""Video files. What enters: a file of any common kind. What leaves: uint8 RGB frames and their times, one by one.

How videos are converted: the rotation or mirroring that a phone notes is applied; YUV becomes RGB by the matrix and
range that the file names (where it names none, by BT.709 from 720 lines on, BT.601 below, limited range); 10 and more
bits are scaled to 8; transparency and sound are left out, with a note; times are counted from the first frame, whatever
the frame rate does. Packets that cannot be decoded are counted, and the rest is read. One frame is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bsq.data.pictures import MAX_PIXELS, Source, name_of
from bsq.data.searchable import open_bytes
from bsq.data.tags import is_cover, length_by_tag
from bsq.data.upright import Turn, to_rgb, turn_of
from bsq.errors import LimitError, MediaError, MissingDependencyError

if TYPE_CHECKING:
    import av

VIDEO_SUFFIXES = frozenset(
    f".{kind}"
    for kind in (
        *("3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg"),
        *("mpg", "mts", "ogv", "ts", "vob", "webm", "wmv", "y4m"),
    )
)
"""What counts as a video when a folder is searched; a GIF counts as a picture there."""

CONTAINERS = (
    "mov,mp4,matroska,webm,avi,gif,apng,mpegts,mpeg,flv,ogg,asf,ivf,yuv4mpegpipe,h264,hevc,m4v,mpegvideo,obu,"
    "mp3,wav,flac,aac"
)
"""The demuxers that may open a file. Playlists are left out: they can name other files and addresses."""

SLACK = Fraction(1, 2)
"""Seconds that a video may be shorter than it says without a note."""

WIDE_TRANSFERS = (16, 18)  # AVColorTransferCharacteristic: PQ, HLG


def import_av() -> ModuleType:
    """PyAV. Raises MissingDependencyError without it."""
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError("videos need PyAV, which is not installed; pip install 'bsq[video]'") from error
    return av


@dataclass(frozen=True, eq=False)
class Frame:
    """`pixels` uint8 (H, W, 3), upright, sRGB or BT.709; `time` in seconds since the first frame, rising; `duration`
    how long it is shown, if the file says.
    """

    pixels: np.ndarray
    time: Fraction
    duration: Fraction | None = None


@dataclass(frozen=True, eq=False)
class Timed:
    """A decoded frame, not yet converted, and its time."""

    raw: av.VideoFrame
    time: Fraction


class Video:
    """An open video: iterate for its frames, in a `with` block. `corrupt` and `notes` grow while it is read.

    `rate` is the mean frame rate that the file names (Fraction, frames a second) or None; `duration` its length in
    seconds, or None; `frames` how many it claims to hold, 0 if it says nothing. `width` and `height` are of upright
    frames.
    """

    def __init__(self, source: Source, limit: int = MAX_PIXELS) -> None:
        """Errors as `open_video`."""
        self.name, self.limit = name_of(source, "the video"), limit
        self.corrupt = 0  # packets and frames that could not be decoded whole
        self.notes: list[str] = []
        self._av = import_av()
        self._file = open_bytes(source, self.name)
        self._own = self._file is not source
        try:
            self._container = self._open_container()
            self._stream = self._open_stream()
            self._packets = 0
            self._turn = Turn(False, False, False)
            self._from_start = self._times(self._decoded())
            self._first = self._read_first()
        except BaseException:
            self._close_file()
            raise
        self.height, self.width = self._turn.size(self._first.raw.height, self._first.raw.width)
        self.rate: Fraction | None = self._stream.average_rate or self._stream.guessed_rate or None
        self.duration = self._length()
        self.frames = self._stream.frames

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()
        self._close_file()

    def _close_file(self) -> None:
        """A file that the caller opened stays open."""
        if self._own:
            self._file.close()

    def __iter__(self) -> Iterator[Frame]:
        """All frames from the first on, once. Raises MediaError where the size changes, LimitError where it grows."""
        last = self._first
        yield self._convert(last)
        for last in self._from_start:
            yield self._convert(last)
        if self._packets < self.frames:
            self.notes.append(f"ends early: {self._packets} of {self.frames} frames are there")
        end, named = last.time + (last.raw.duration or 0) * self._stream.time_base, length_by_tag(self._stream)
        if named is not None and self._start + end + SLACK < named:
            self.notes.append(f"ends early: {float(end):.2f} of {float(named):.2f} s are there")
        if self.corrupt:
            self.notes.append(f"{self.corrupt} packets or frames were damaged")

    def length(self) -> Fraction:
        """Seconds to the end of the last frame: as the file names it, or, if it does not, counted by its packets."""
        if self.duration is not None:
            return self.duration
        step = 1 / self.rate if self.rate else Fraction(0)
        packets = [packet.pts for packet in self._container.demux(self._stream) if packet.size]
        stamps = [stamp for stamp in packets if stamp is not None]
        if not stamps:  # the first has been read to open the video
            return self._packets * step + len(packets) * step
        return max(stamps) * self._stream.time_base - self._start + step

    def at(self, times: Sequence[Fraction]) -> Iterator[np.ndarray]:
        """What is on the screen at each of these rising times: uint8 (H, W, 3). Only these frames are converted.

        Raises MediaError if the video ends before the last of them.
        """
        frames = self._since(times[0])
        shown = next(frames)
        step = 1 / self.rate if self.rate else Fraction(1, 10)
        converted: tuple[Timed, np.ndarray] | None = None
        upcoming: Timed | None = next(frames, None)
        for time in times:
            while upcoming is not None and upcoming.time <= time:
                step = max(step, upcoming.time - shown.time)
                shown, upcoming = upcoming, next(frames, None)
            if upcoming is None and time >= shown.time + 2 * step:
                raise MediaError(f"{self.name} ends at {float(shown.time + step):.2f} s, before {float(time):.2f} s")
            if converted is None or converted[0] is not shown:
                converted = shown, self._convert(shown).pixels
            yield converted[1]

    # Opening, step by step

    def _open_container(self) -> Any:
        try:
            options = {"format_whitelist": CONTAINERS}
            return self._av.open(self._file, "r", options=options, metadata_errors="ignore")
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{self.name} {self._why_not(error)}") from error

    def _why_not(self, error: Exception) -> str:
        self._file.seek(0)
        head = self._file.read(12)
        if not head:
            return "is empty, 0 bytes"
        if head[4:8] in (b"ftyp", b"moov", b"mdat"):
            return "is a cut-off or damaged mp4: its index (moov) cannot be read; was it copied whole?"
        if isinstance(error, self._av.InvalidDataError | ValueError):
            return "is not a video, or not of a kind that is read (mp4, mov, mkv, webm, avi, gif, ts, flv, ogg, wmv)"
        return f"cannot be opened as a video: {error}"

    def _open_stream(self) -> Any:
        streams = [stream for stream in self._container.streams.video if not is_cover(stream)]
        if not streams:
            sound = bool(self._container.streams.audio)
            raise MediaError(f"{self.name} holds {'only sound' if sound else 'no video stream'}; a video is needed")
        stream = streams[0]
        if len(streams) > 1:
            self.notes.append(f"has {len(streams)} video streams; only the first is used")
        if self._container.streams.audio:
            self.notes.append("its sound is left out")
        context = stream.codec_context
        if context is None:
            raise MediaError(f"{self.name} is coded in a way that this FFmpeg cannot decode")
        self._check_size(context.width, context.height)
        self._prepare(stream)
        return stream

    def _prepare(self, stream: Any) -> None:
        stream.codec_context.options = {"max_pixels": str(max(16, self.limit))}
        stream.codec_context.thread_count = 1  # a frame a thread would be in memory

    def _read_first(self) -> Timed:
        first = next(self._from_start, None)
        if first is None:
            found = f"{self._packets} packets, none of which can be decoded" if self._packets else "no frames"
            raise MediaError(f"{self.name} holds {found}; it is empty, cut off or damaged")
        self._turn = turn_of(first.raw)
        self._note_kind(first.raw)
        return first

    def _note_kind(self, raw: av.VideoFrame) -> None:
        if raw.color_trc in WIDE_TRANSFERS:
            self.notes.append("is HDR; its colours are taken as standard ones and look flat")
        if any(component.is_alpha for component in raw.format.components) and self._container.format.name != "gif":
            self.notes.append("its transparency is left out")
        depth = max(component.bits for component in raw.format.components)
        if depth > 8:
            self.notes.append(f"has {depth} bits a colour; they are scaled to 8")
        if (self._stream.sample_aspect_ratio or 1) != 1:
            self.notes.append(f"its pixels are {self._stream.sample_aspect_ratio} wide, not square; none is added")

    def _length(self) -> Fraction | None:
        if self._stream.duration:
            return self._stream.duration * self._stream.time_base
        return Fraction(self._container.duration, 1_000_000) if self._container.duration else None

    # Reading, step by step

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Frames as the decoder gives them; what it refuses is counted."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (self._av.FFmpegError, OSError):
                self.corrupt += 1
                packet = None
            try:
                frames = self._stream.codec_context.decode(packet) if packet is None or packet.size else []
            except self._av.FFmpegError:
                self.corrupt += 1
                frames = []
            self._packets += packet is not None and bool(packet.size)
            for frame in frames:
                self.corrupt += bool(frame.is_corrupt)
                yield frame
            if packet is None:
                return

    def _times(self, frames: Iterator[av.VideoFrame], start: Fraction | None = None) -> Iterator[Timed]:
        """Times since the first frame. A frame without one, or one that is not later, follows after 1 / rate."""
        last: Fraction | None = None
        for frame in frames:
            rate = self._stream.average_rate or 25
            stamp = None if frame.pts is None else frame.pts * self._stream.time_base
            if start is None:
                start = stamp or Fraction(0)
                self._start = start
            time = None if stamp is None else stamp - start
            if last is not None and (time is None or time <= last):
                time = last + 1 / Fraction(rate)
            last = time or Fraction(0)
            yield Timed(frame, last)

    def _since(self, time: Fraction) -> Iterator[Timed]:
        """Frames from a key frame at or before `time` on; from the first where the file cannot be searched.

        Transport streams are searched by guessing, and a guess may end anywhere: only a frame's own time tells where.
        """
        for target in (time, Fraction(0)):
            stamp = int((self._start + target) / self._stream.time_base)
            try:
                self._container.seek(stamp, stream=self._stream, backward=True)
            except (self._av.FFmpegError, OSError):
                continue
            frames = self._times(self._decoded(), self._start)
            first = next(frames, None)
            if first is not None and first.raw.pts is not None and first.time <= time:
                return chained(first, frames)
        return self._again()

    def _again(self) -> Iterator[Timed]:
        """Frames from the first on, of a file that is read at another place by now."""
        number = self._stream.index
        self._container.close()
        self._file.seek(0)
        self._container = self._open_container()
        self._stream = self._container.streams[number]
        self._prepare(self._stream)
        return self._times(self._decoded(), self._start)

    def _convert(self, timed: Timed) -> Frame:
        raw, first = timed.raw, self._first.raw
        if (raw.width, raw.height) != (first.width, first.height):
            raise MediaError(
                f"{self.name} changes its size from {first.width}×{first.height} to {raw.width}×{raw.height} at "
                f"{float(timed.time):.2f} s; cut it there"
            )
        self._check_size(raw.width, raw.height)
        duration = raw.duration * self._stream.time_base if raw.duration else None
        return Frame(self._turn.apply(to_rgb(raw)), timed.time, duration)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.limit:
            raise LimitError(f"{self.name} has frames of {width}×{height}; the limit is {self.limit:,} pixels")


def open_video(source: Source, limit: int = MAX_PIXELS) -> Video:
    """A path, bytes or binary file as a `Video`; its first frame is decoded at once.

    Raises MediaError (missing, empty, no video, only sound, no frame that can be decoded, an mp4 without its index),
    LimitError for frames of more than `limit` pixels, MissingDependencyError without PyAV.
    """
    return Video(source, limit)


def chained(first: Timed, rest: Iterator[Timed]) -> Iterator[Timed]:
    yield first
    yield from rest
