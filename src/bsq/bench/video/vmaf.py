"""VMAF, where an ffmpeg with libvmaf is at hand. What enters: frames and a clip. What leaves: a number a frame.

PyAV's own FFmpeg has no libvmaf. Looked for are `ffmpeg` on the path, and the one that imageio-ffmpeg brings.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

from bsq.bench.video.clips import Clip
from bsq.data.video_files import to_yuv
from bsq.data.videos import import_av
from bsq.errors import MediaError

MISSING = "VMAF is left out: no ffmpeg with libvmaf on the path, nor imageio-ffmpeg; pip install 'bsq[vmaf]'"
LOG = "vmaf.json"
VMAF_MIN_SIDE = 17  # libvmaf refuses 16


@dataclass(frozen=True)
class Vmaf:
    """An ffmpeg that measures VMAF with its default model."""

    program: str
    version: str

    def scores(self, frames: np.ndarray, clip: Clip) -> tuple[float, ...]:
        """Of BT.709 4:4:4 planes. Raises MediaError if the program fails."""
        height, width = clip.size
        kind = ["-f", "rawvideo", "-pix_fmt", "yuv444p", "-s", f"{width}x{height}", "-r", str(clip.rate)]
        with tempfile.TemporaryDirectory() as folder:
            for name, pixels in (("shown.yuv", frames), ("wanted.yuv", clip.frames)):
                (Path(folder) / name).write_bytes(planes(pixels))
            command = [self.program, "-v", "error", "-nostdin", *kind, "-i", "shown.yuv", *kind, "-i", "wanted.yuv"]
            command += ["-lavfi", f"libvmaf=log_fmt=json:log_path={LOG}:n_threads=1", "-f", "null", "-"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            log = Path(folder) / LOG
            if done.returncode or not log.is_file():
                raise MediaError(f"{self.program} cannot measure VMAF: {done.stderr.strip()[-200:]}")
            measured = json.loads(log.read_text())["frames"]
        if len(measured) != len(frames):
            raise MediaError(f"{self.program} measured VMAF of {len(measured)} frames of {len(frames)}")
        return tuple(float(frame["metrics"]["vmaf"]) for frame in measured)


@cache
def find_vmaf() -> Vmaf | None:
    """The first program that has the filter; None if there is none."""
    for program in candidates():
        try:
            done = subprocess.run([program, "-hide_banner", "-filters"], capture_output=True, text=True, check=True)
            told = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            continue
        if " libvmaf " in done.stdout:
            return Vmaf(program, " ".join(told.split()[:3]))
    return None


def candidates() -> list[str]:
    """Programs called ffmpeg, none of them asked yet."""
    found = [shutil.which("ffmpeg")]
    with contextlib.suppress(ImportError, RuntimeError):
        found.append(import_module("imageio_ffmpeg").get_ffmpeg_exe())
    return [program for program in found if program]


def planes(frames: np.ndarray) -> bytes:
    """uint8 RGB (T, H, W, 3) → Y, U and V of one frame after another."""
    av = import_av()
    raws = (av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24") for frame in frames)
    return b"".join(to_yuv(raw, "yuv444p").to_ndarray().tobytes() for raw in raws)
