"""Files that the page hands out. What enters: names and bytes. What leaves: paths, the oldest of which go away."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from bsq.data.pictures import encode_picture
from bsq.data.video_files import write_video

KEPT = 64


class Scratch:
    """A folder of small folders, one a file, so that files keep their names; no more than `KEPT` at a time."""

    def __init__(self, folder: Path, kept: int = KEPT) -> None:
        self._folder, self._kept = folder, kept
        self._homes: deque[Path] = deque()
        self._lock = threading.Lock()

    def place(self, name: str) -> Path:
        """A path for a new file, its name made harmless."""
        home = self._folder / secrets.token_hex(8)
        home.mkdir(parents=True)
        with self._lock:
            self._homes.append(home)
            old = [self._homes.popleft() for _ in range(len(self._homes) - self._kept)]
        for one in old:
            shutil.rmtree(one, ignore_errors=True)
        return home / (re.sub(r"[^\w.() -]", "_", name)[-100:] or "file")

    def write(self, name: str, data: bytes) -> str:
        path = self.place(name)
        path.write_bytes(data)
        return str(path)

    def show(self, stem: str, frames: Sequence[np.ndarray], rate: Fraction | None) -> str:
        """A picture as PNG, a clip as mp4."""
        if rate is None:
            return self.write(f"{stem}.png", encode_picture(frames[0]))
        path = self.place(f"{stem}.mp4")
        with write_video(path, rate) as video:
            for frame in frames:
                video.write(frame)
        return str(path)
