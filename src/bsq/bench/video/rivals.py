"""Classical video codecs through PyAV. What enters: a clip and a quality. What leaves: an elementary stream, and back.

Quality is the encoder's constant rate factor (CRF), negative so that larger is better. Frames are converted to YUV by
BT.709 in limited range, and back by what the stream says of itself. Sides are made even, and at least 64 pixels (the
least of SVT-AV1), by repeating the last row and column; these are cut off again. One clip is one run of the encoder,
with key frames where the encoder itself sets them. Where a side is a single coding tree unit of 64, x265 (4.2) writes
different streams from run to run; there it gets units of 32.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import Field, NonNegativeInt

from bsq.bench.video.clips import Clip
from bsq.bench.video.elementary import (
    VideoStream,
    without_av1_delimiters,
    without_avc_messages,
    without_hevc_messages,
)
from bsq.data.upright import to_rgb
from bsq.data.video_files import LIMITED, MATRIX, to_yuv
from bsq.data.videos import import_av
from bsq.errors import MediaError, MissingDependencyError, SettingsError
from bsq.settings import Settings

LEAST_SIDE = 64
Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]
Subsampling = Literal["4:2:0", "4:4:4"]
PIXELS = {"4:2:0": "yuv420p", "4:4:4": "yuv444p"}


class VideoCodec(Protocol):
    """Something that turns clips into streams. Larger qualities give larger streams."""

    name: str  # "x264"; one of a kind in a comparison
    label: str  # "H.264 (x264)", as tables and plots write it
    description: str  # how streams are written

    def qualities(self) -> Sequence[float]:
        """All settings of quality, in ascending order."""

    def encode(self, clip: Clip, quality: float) -> VideoStream: ...

    def decode(self, stream: VideoStream, clip: Clip) -> np.ndarray:
        """Mirror of `encode`: uint8 (T, H, W, 3). Of the clip only its sizes are used."""


class X264Settings(Settings):
    kind: Literal["x264"] = "x264"
    preset: Preset = "medium"
    b_frames: NonNegativeInt = 0  # none, as in the paper
    subsampling: Subsampling = "4:2:0"


class X265Settings(Settings):
    kind: Literal["x265"] = "x265"
    preset: Preset = "medium"
    b_frames: NonNegativeInt = 0
    subsampling: Subsampling = "4:2:0"


class Vp9Settings(Settings):
    kind: Literal["vp9"] = "vp9"
    speed: int = Field(default=1, ge=0, le=8)  # cpu-used
    subsampling: Subsampling = "4:2:0"


class SvtAv1Settings(Settings):
    """SVT-AV1 writes 4:2:0 alone."""

    kind: Literal["av1"] = "av1"
    preset: int = Field(default=6, ge=0, le=13)


AnyVideoCodecSettings = X264Settings | X265Settings | Vp9Settings | SvtAv1Settings
VideoCodecSettings = Annotated[AnyVideoCodecSettings, Field(discriminator="kind")]


@dataclass(frozen=True)
class Way:
    """How one encoder of FFmpeg is driven: `factors` are its CRFs, the worst first."""

    encoder: str
    decoder: str
    pixels: str
    options: dict[str, str]
    factors: tuple[float, ...]
    strip: Callable[[bytes], bytes]
    small: dict[str, str] = field(default_factory=dict)  # options in place of these where a side is at most LEAST_SIDE


class RivalCodec:
    """One encoder of FFmpeg, and a decoder for what it writes."""

    def __init__(self, name: str, label: str, words: str, way: Way, threads: int) -> None:
        """Raises MissingDependencyError where this PyAV lacks one of them."""
        self._av = import_av()
        self.name, self.label = name, label
        self._way, self._threads = way, threads
        for coder, mode in ((way.encoder, "w"), (way.decoder, "r")):
            try:
                self._av.codec.Codec(coder, mode)
            except (self._av.FFmpegError, ValueError) as error:
                raise MissingDependencyError(f"{label} is left out: this build of PyAV has no {coder}") from error
        avcodec = ".".join(map(str, self._av.library_versions["libavcodec"]))
        self.description = f"{way.encoder} in PyAV {self._av.__version__} (libavcodec {avcodec}), {words}, constant CRF"
        self.description += f"; decoded by {way.decoder}"

    def qualities(self) -> Sequence[float]:
        return tuple(-factor for factor in self._way.factors)

    def encode(self, clip: Clip, quality: float) -> VideoStream:
        """Raises MediaError for what the encoder refuses."""
        os.environ.setdefault("SVT_LOG", "1")  # else it writes its settings to stderr
        context = self._context(clip, quality)
        try:
            with same_priority():
                packets = []
                for number, frame in enumerate(clip.frames):
                    raw = self._av.VideoFrame.from_ndarray(padded(frame), format="rgb24")
                    raw.pts, raw.time_base = number, 1 / clip.rate
                    packets += context.encode(to_yuv(raw, self._way.pixels))
                packets += context.encode(None)
        except (self._av.FFmpegError, ValueError) as error:
            height, width = clip.size
            raise MediaError(f"{self.label} cannot hold {clip.name}, {width}×{height}: {error}") from error
        return VideoStream(tuple(self._way.strip(bytes(packet)) for packet in packets))

    def decode(self, stream: VideoStream, clip: Clip) -> np.ndarray:
        """Raises MediaError if frames are missing."""
        context: Any = self._av.CodecContext.create(self._way.decoder, "r")
        context.thread_count = self._threads
        try:
            frames = [frame for data in stream.packets for frame in context.decode(self._av.Packet(data))]
            frames += context.decode(None)
        except self._av.FFmpegError as error:
            raise MediaError(f"{self.label} cannot read what it wrote of {clip.name}: {error}") from error
        height, width = clip.size
        if len(frames) != len(clip.frames):
            raise MediaError(f"{self.label} gave {len(frames)} frames of {len(clip.frames)} back")
        return np.stack([to_rgb(frame)[:height, :width] for frame in frames])

    def _context(self, clip: Clip, quality: float) -> Any:
        height, width, _ = padded(clip.frames[0]).shape
        context: Any = self._av.CodecContext.create(self._way.encoder, "w")
        context.width, context.height, context.pix_fmt = width, height, self._way.pixels
        context.time_base, context.framerate = 1 / clip.rate, clip.rate
        context.color_range, context.colorspace = LIMITED, MATRIX
        context.color_primaries, context.color_trc = MATRIX, MATRIX
        context.thread_count = self._threads
        small = self._way.small if min(height, width) <= LEAST_SIDE else {}
        context.options = {**self._way.options, **small, "crf": f"{-quality:g}"}
        return context


@contextmanager
def same_priority() -> Iterator[None]:
    """The thread leaves with the priority that it came with: SVT-AV1 makes it a real-time one where it may (root)."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, priority)


def padded(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) with even sides of at least 64, its last row and column repeated."""
    height, width, _ = frame.shape
    more = [max(LEAST_SIDE, side + side % 2) - side for side in (height, width)]
    return np.ascontiguousarray(np.pad(frame, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge"))


def rival_codec(settings: AnyVideoCodecSettings, threads: int = 1) -> RivalCodec:
    """The codec that `settings` describe, on so many threads.

    Raises MissingDependencyError where this build of PyAV lacks it, or PyAV itself.
    """
    match settings:
        case X264Settings(preset=preset, b_frames=b_frames, subsampling=chroma):
            options = {"preset": preset, "bf": str(b_frames)}
            words = f"preset {preset}, {_count(b_frames)}, {chroma}"
            way = Way("libx264", "h264", PIXELS[chroma], options, _quarters(51), without_avc_messages)
            return RivalCodec("x264", "H.264 (x264)", words, way, threads)
        case X265Settings(preset=preset, b_frames=b_frames, subsampling=chroma):
            inner = (
                f"bframes={b_frames}:info=0:log-level=none:frame-threads=1:pools={threads if threads > 1 else 'none'}"
            )
            words = f"preset {preset}, {_count(b_frames)}, {chroma}"
            options = {"preset": preset, "x265-params": inner}
            small = {"x265-params": f"{inner}:ctu=32"}
            way = Way("libx265", "hevc", PIXELS[chroma], options, _quarters(51), without_hevc_messages, small)
            return RivalCodec("x265", "H.265 (x265)", words, way, threads)
        case Vp9Settings(speed=speed, subsampling=chroma):
            options = {"b": "0", "deadline": "good", "cpu-used": str(speed)}
            way = Way("libvpx-vp9", "vp9", PIXELS[chroma], options, _wholes(), bytes)
            return RivalCodec("vp9", "VP9 (libvpx)", f"good, cpu-used {speed}, one pass, {chroma}", way, threads)
        case SvtAv1Settings(preset=speed):
            options = {"preset": str(speed), "svtav1-params": f"lp={threads}"}
            way = Way("libsvtav1", "libdav1d", PIXELS["4:2:0"], options, _wholes(), without_av1_delimiters)
            return RivalCodec("av1", "AV1 (SVT-AV1)", f"preset {speed}, 4:2:0", way, threads)
        case _:
            raise SettingsError(f"no codec for {settings!r}")


def _count(b_frames: int) -> str:
    return f"up to {b_frames} B-frames" if b_frames else "no B-frames"


def _quarters(worst: int) -> tuple[float, ...]:
    """CRFs down to 1 by quarters; 0 would be lossless."""
    return tuple(factor / 4 for factor in range(4 * worst, 3, -1))


def _wholes() -> tuple[float, ...]:
    """63 … 1: libvpx and SVT-AV1 take whole numbers."""
    return tuple(float(factor) for factor in range(63, 0, -1))
