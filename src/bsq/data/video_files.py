"""Writing videos. What enters: uint8 RGB frames, one by one, and a frame rate. What leaves: a file or folder, whole.

| suffix | coding | what is kept |
|---|---|---|
| .mp4  | H.264, CRF 16; 4:2:0 for even sizes, 4:4:4 for odd ones, which fewer players open | size, rate |
| .webm | VP9, CRF 24; 4:2:0, 4:4:4 for odd sizes | size, rate |
| .gif  | 256 colours a frame, times rounded to 0.01 s | size, mean rate up to 100 |
| none  | a folder of PNG files, 000000.png …, and frames.json with the rate | every value |
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from bsq.data.files import Existing, make_folder, plain_reason, publish
from bsq.data.pictures import check_picture, encode_picture
from bsq.data.videos import import_av
from bsq.errors import MediaError, SettingsError, ShapeError

VIDEO_FORMATS = (".mp4", ".webm", ".gif", "")
MATRIX, LIMITED = 1, 1  # BT.709 and limited range, in FFmpeg's numbers
FASTEST_GIF = 100
OURS = re.compile(r"\d{6,}\.png|frames\.json")


def check_video_format(suffix: str) -> None:
    """Raises MediaError for a suffix that `write_video` does not know; "" is a folder of PNG files."""
    if suffix.lower() not in VIDEO_FORMATS:
        raise MediaError(f"cannot write videos as '{suffix}'; known: mp4, webm, gif, or no suffix for a folder of PNGs")


def write_video(
    path: str | os.PathLike[str], rate: Fraction | int, existing: Existing = Existing.REFUSE
) -> VideoWriter:
    """A writer for the kind of file that the suffix names, to be used in a `with` block:

        with write_video("clip.mp4", Fraction(30000, 1001)) as video:
            for frame in frames:
                video.write(frame)

    An exception inside leaves nothing behind. Raises MediaError (unknown suffix, file exists, cannot be written, no
    frames), SettingsError (rate), MissingDependencyError without PyAV.
    """
    path, rate = Path(path), Fraction(rate)
    check_video_format(path.suffix)
    if rate <= 0 or (path.suffix.lower() == ".gif" and rate > FASTEST_GIF):
        raise SettingsError(f"the frame rate must be above 0 (and at most {FASTEST_GIF} for a GIF), got {rate}")
    if path.suffix:
        return CodedWriter(path, rate, existing)
    return FolderWriter(path, rate, existing)


class VideoWriter(ABC):
    """Frames to a draft beside the target, which takes its name when the `with` block ends without an exception."""

    _refusals: tuple[type[Exception], ...] = (ValueError,)

    def __init__(self, path: Path, rate: Fraction, existing: Existing) -> None:
        self.path, self.rate, self.existing = path, rate, existing
        self.count = 0
        self._shape: tuple[int, ...] | None = None
        self._target = Path(os.path.realpath(path))
        self._draft = self._target.parent / f".bsq-{secrets.token_hex(6)}.part"
        with self._plainly():
            if existing is Existing.REFUSE and self._target.exists():
                raise FileExistsError(17, "exists")
            make_folder(self._target.parent)

    def write(self, frame: np.ndarray) -> None:
        """uint8 (H, W, 3), every frame of the same size. Raises ShapeError, MediaError."""
        check_picture(frame)
        if self._shape is None:
            self._shape = frame.shape
            with self._plainly():
                self._begin(*frame.shape[:2])
        if frame.shape != self._shape:
            raise ShapeError(f"frames of one video have one size: got {frame.shape} after {self._shape}")
        with self._plainly():
            self._write(frame)
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None and not self.count:
                raise MediaError(f"{self.path} was not written: there are no frames")
            if self.count:
                with self._plainly(), contextlib.nullcontext() if kind is None else contextlib.suppress(Exception):
                    self._end()
            if kind is None:
                with self._plainly():
                    self._publish()
        finally:
            self._discard()

    @contextlib.contextmanager
    def _plainly(self) -> Any:
        """Whatever the system or the coder says becomes a MediaError."""
        try:
            yield
        except OSError as error:
            raise MediaError(f"cannot write {self.path}: {plain_reason(error)}") from error
        except self._refusals as error:
            raise MediaError(f"cannot write {self.path}: {error}") from error

    @abstractmethod
    def _begin(self, height: int, width: int) -> None: ...

    @abstractmethod
    def _write(self, frame: np.ndarray) -> None: ...

    @abstractmethod
    def _end(self) -> None: ...

    @abstractmethod
    def _publish(self) -> None: ...

    @abstractmethod
    def _discard(self) -> None: ...


class CodedWriter(VideoWriter):
    """mp4, webm or gif through PyAV."""

    def __init__(self, path: Path, rate: Fraction, existing: Existing) -> None:
        self._av = import_av()
        self._refusals = (ValueError, self._av.FFmpegError)  # few of PyAV's errors are of Python's kinds
        super().__init__(path, rate, existing)

    def _begin(self, height: int, width: int) -> None:
        pixels = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        self._graph = None
        match self.path.suffix.lower():
            case ".mp4":
                kind, codec, options = "mp4", "libx264", {"crf": "16", "preset": "medium"}
            case ".webm":
                kind, codec, options = "webm", "libvpx-vp9", {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"}
            case ".gif":
                kind, codec, options, pixels = "gif", "gif", {}, "pal8"
                self._graph = palette_graph(height, width, 1 / self.rate)
            case other:
                raise AssertionError(other)
        index_first = {"movflags": "+faststart"} if kind == "mp4" else {}
        self._container = self._av.open(str(self._draft), "w", format=kind, options=index_first)
        self._stream = self._container.add_stream(codec, rate=self.rate, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, pixels
        self._stream.time_base = 1 / self.rate
        if kind != "gif":
            context = self._stream.codec_context
            context.color_range, context.colorspace = LIMITED, MATRIX
            context.color_primaries, context.color_trc = MATRIX, MATRIX

    def _write(self, frame: np.ndarray) -> None:
        raw = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        raw.pts, raw.time_base = self.count, 1 / self.rate
        if self._graph is None:
            self._mux(to_yuv(raw, self._stream.pix_fmt))
        else:
            self._graph.push(raw)
            self._mux(self._graph.pull())

    def _mux(self, raw: Any) -> None:
        for packet in self._stream.encode(raw):
            self._container.mux(packet)

    def _end(self) -> None:
        try:
            self._mux(None)
        finally:
            self._container.close()
        with open(self._draft, "rb") as file:
            os.fsync(file.fileno())

    def _publish(self) -> None:
        publish(self._draft, self._target, self.existing)

    def _discard(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._draft.unlink()


class FolderWriter(VideoWriter):
    """A folder of PNG files."""

    def _begin(self, height: int, width: int) -> None:
        self._draft.mkdir()

    def _write(self, frame: np.ndarray) -> None:
        (self._draft / f"{self.count:06d}.png").write_bytes(encode_picture(frame, ".png"))

    def _end(self) -> None:
        facts = {"rate": str(self.rate), "frames": self.count}
        (self._draft / "frames.json").write_text(json.dumps(facts) + "\n")

    def _publish(self) -> None:
        """Only a folder that holds nothing but frames is ever replaced."""
        if self._target.exists():
            strange = [path.name for path in self._target.iterdir() if not OURS.fullmatch(path.name)]
            if strange:
                raise MediaError(f"{self.path} holds more than frames ({strange[0]}); name another folder")
            shutil.rmtree(self._target)
        self._draft.rename(self._target)

    def _discard(self) -> None:
        shutil.rmtree(self._draft, ignore_errors=True)


def to_yuv(raw: Any, pixels: str) -> Any:
    """rgb24 → YUV by BT.709, limited range."""
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP | Interpolation.BITEXACT
    return raw.reformat(
        format=pixels,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=flags,
        threads=1,
    )


def palette_graph(height: int, width: int, time_base: Fraction) -> Any:
    """FFmpeg's filters that give each frame the 256 colours that suit it, frame by frame."""
    from av import VideoFormat
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=width, height=height, format=VideoFormat("rgb24", width, height), time_base=time_base
    )
    split = graph.add("split")
    colours = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    apply = graph.add("paletteuse", "new=1:dither=sierra2_4a")
    source.link_to(split)
    split.link_to(apply, 0, 0)
    split.link_to(colours, 1, 0)
    colours.link_to(apply, 0, 1)
    apply.link_to(graph.add("buffersink"))
    graph.configure()
    return graph
