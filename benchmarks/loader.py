"""Loading beside learning: samples a second from tars, a folder and videos, and what one training step takes.

Pictures and videos are made here: photographs of scikit-image cut to 256 pixels as WebP, and videos that pan over them
as H.264 of 192×144 pixels, 24 frames.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import Row
from bsq.data.loader import DataSettings, Share, load_batches, open_dataset
from bsq.data.video_files import write_video
from bsq.train.recipe import Recipe, load_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "biscuit-s.yaml"
BATCH, STEP, SECONDS, PICTURES, VIDEOS = 16, 4, 4.0, 200, 24
CLIPS = {"frames": 8, "frame_rate": 8}


def rows() -> Iterator[Row]:
    """The loader must not be the bottleneck: with one worker it is to deliver more than a step takes."""
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder) / "pictures", Path(folder) / "pictures.tar")
        write_videos(Path(folder) / "videos")
        sources: dict[str, dict[str, object]] = {
            "pictures from a tar": {"source": f"{folder}/pictures.tar"},
            "pictures from a folder": {"source": f"{folder}/pictures"},
            "pictures from a piped tar": {"source": f"pipe:cat {folder}/pictures.tar"},
            "clips of 8 frames from videos": {"clips": {"source": f"{folder}/videos", **CLIPS}},
        }
        consumed = {}
        for name, source in sources.items():
            kind = "clips" if "clips" in source else "pictures"
            if kind not in consumed:
                consumed[kind] = consumption(source)
                yield Row(f"training step of biscuit-s takes, {kind}", f"{consumed[kind]:.1f} a second")
            for workers in (1, 2):
                rate = delivery(source, workers)
                target = f"> {consumed[kind]:.1f}, what a step takes"
                yield Row(f"{name}, {workers} worker(s)", f"{rate:.0f} a second", target, rate > consumed[kind])


def delivery(source: dict[str, object], workers: int) -> float:
    """Crops of 128 pixels a second, decoded, cut and handed over in batches, once the workers are warm."""
    settings = DataSettings.model_validate({"crop": 128, "flip": 0.5, "workers": workers, **source})
    batches = iter(load_batches(open_dataset(settings, 0), Share(BATCH, BATCH), 0, 10**6, workers))
    for _ in range(8 * workers):  # what was loaded in advance while the workers started
        next(batches)
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < SECONDS:
        next(batches)
        count += BATCH
    return count / passed


def consumption(source: dict[str, object]) -> float:
    """Samples a second that training steps of the default model take, with nothing to wait for."""
    from accelerate import Accelerator

    from bsq.train.trainer import Trainer

    recipe = check(source)
    trainer = Trainer(recipe, Accelerator(mixed_precision="no"))
    (batch,) = load_batches(open_dataset(recipe.data, 0), Share(STEP, STEP), 0, STEP, 0)
    trainer.train_step([batch])
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < SECONDS:
        trainer.train_step([batch])
        count += STEP
    return count / passed


def check(source: dict[str, object]) -> Recipe:
    content = load_recipe(RECIPE, ["data.source=x"]).model_dump(mode="json")
    content["data"] = {"crop": 128, **source}
    return Recipe.model_validate(content)


def photographs() -> list[Image.Image]:
    from skimage import data

    return [Image.fromarray(picture()) for picture in (data.astronaut, data.chelsea, data.coffee, data.rocket)]


def write_pictures(folder: Path, tar_path: Path) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    with tarfile.open(tar_path, "w") as tar:
        for number in range(PICTURES):
            photograph = photographs()[number % 4]
            left, top = (int(random.integers(size - 256)) for size in photograph.size)
            buffer = io.BytesIO()
            photograph.crop((left, top, left + 256, top + 256)).save(buffer, "WEBP", quality=92)
            (folder / f"{number:04d}.webp").write_bytes(buffer.getvalue())
            info = tarfile.TarInfo(f"{number:04d}.webp")
            info.size = len(buffer.getvalue())
            tar.addfile(info, io.BytesIO(buffer.getvalue()))


def write_videos(folder: Path) -> None:
    for number in range(VIDEOS):
        picture = np.asarray(photographs()[number % 4])
        with write_video(folder / f"{number:04d}.mp4", 12) as video:
            for moment in range(24):
                video.write(np.ascontiguousarray(picture[40 + moment : 184 + moment, 2 * moment : 2 * moment + 192]))
