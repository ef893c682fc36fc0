"""Data: crops, clips, and what a run gets to see of a source."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from entries import Row, rows
from PIL import Image

from bsq.data.clips import ClipSettings
from bsq.data.hub import HuggingFaceSettings, open_rows
from bsq.data.loader import DataSettings, Share, load_batches, open_dataset
from bsq.data.transforms import CropSettings, random_crop

ROWS, COLUMNS = np.mgrid[:40, :48]
PICTURE = np.stack([ROWS * 6, COLUMNS * 5, ROWS * COLUMNS % 256], -1).astype(np.uint8)


def cut(settings: CropSettings, folder: Path) -> Any:
    return [random_crop(PICTURE, settings, np.random.default_rng(seed)) for seed in range(3)]


def write_pictures(folder: Path, shift: int = 0) -> Path:
    folder.mkdir()
    for number in range(6):
        Image.fromarray(np.roll(PICTURE, 7 * number + shift, 0)).save(folder / f"{number}.png")
    return folder


def write_videos(folder: Path, count: int = 30) -> Path:
    """Two videos of three seconds."""
    import av

    folder.mkdir()
    for number in range(2):
        with av.open(str(folder / f"{number}.mkv"), "w") as container:
            stream: Any = container.add_stream("ffv1", rate=10)
            stream.height, stream.width, stream.pix_fmt = 40, 48, "bgr0"
            for moment in range(count):
                frame = av.VideoFrame.from_ndarray(np.roll(PICTURE, moment + 9 * number, 1), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return folder


def load(settings: DataSettings, folder: Path) -> Any:
    """Four steps of two samples; names in the settings are those of folders made here."""
    makers = {"pictures": write_pictures, "others": lambda path: write_pictures(path, 20), "videos": write_videos}
    source = tuple(str(makers[name](folder / name)) for name in settings.source)
    clips = settings.clips
    if clips is not None:
        clips = clips.model_copy(update={"source": tuple(str(makers[name](folder / name)) for name in clips.source)})
    settings = settings.model_copy(update={"source": source, "clips": clips})
    data = open_dataset(settings, 0)
    batches = load_batches(data, Share(2, 2), 0, 8, settings.workers)
    kept = [items.has_kept for items in data.kinds]
    return [batch.stored for batch in batches], batches.num_workers, kept, data.shuffle


def watch(settings: ClipSettings, folder: Path) -> Any:
    return load(DataSettings(source=("pictures",), clips=settings, crop=16, workers=0), folder)


def ask_hub(settings: HuggingFaceSettings, folder: Path) -> Any:
    """A data set in this folder, of two splits and two columns, as `save_to_disk` writes it."""
    import datasets

    def encoded(shift: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.roll(PICTURE, shift, 0)).save(buffer, "PNG")
        return buffer.getvalue()

    def split(shift: int) -> Any:
        columns = {name: [encoded(shift + 9 * i + j) for j in range(3)] for i, name in enumerate(("image", "depth"))}
        return datasets.Dataset.from_dict(columns)

    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": split(0), "test": split(20)}).save_to_disk(str(folder / "set"))
    opened = open_rows(settings.model_copy(update={"path": str(folder / settings.path)}))
    return type(opened).__name__, [item.read() for item in (opened.epoch(0, 0, 1) if settings.streaming else opened)]


def ask_library(settings: HuggingFaceSettings, folder: Path) -> Any:
    """What the library is asked for where nothing lies on the disk."""
    from bsq.data.hub import load as ask

    class Library:
        asked: Any = None

        def load_dataset(self, *given: Any, **named: Any) -> None:
            self.asked = given, named

    library = Library()
    ask(library, settings)  # type: ignore[arg-type]
    return library.asked


CROP = {"crop": 16}
CUTS = {"crop": 24, "short_side": 20, "zoom": (1.5, 2.0), "flip": 1.0, "grey": 1.0, "recolour": 1.0}
DATA = {"source": "pictures", "crop": 16, "workers": 0}
CLIPS = {"source": "videos", "frames": 3, "frame_rate": 5.0}

TABLE: list[Row] = [
    *rows(CropSettings, cut, CROP, **CUTS),
    *rows(DataSettings, load, DATA, **CUTS, source="others", clips=CLIPS, workers=1, cache_gib=0.01, shuffle=7),
    *rows(ClipSettings, watch, CLIPS, source="others", frames=4, frame_rate=2.5, share=0.2),
    *rows(
        HuggingFaceSettings, ask_hub, {"path": "set"}, path="elsewhere", split="test", column="depth", streaming=True
    ),
    *rows(HuggingFaceSettings, ask_library, {"path": "set"}, name="small", revision="main"),
]
