"""Evaluation: what is measured of two small pictures, clips and sets of samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from entries import Row, rows
from PIL import Image

from bsq.data.stored import Kind
from bsq.evaluate import processes
from bsq.evaluate.data import open_samples
from bsq.evaluate.generation import GenerationSettings, evaluate_generation
from bsq.evaluate.protocols import Protocol
from bsq.evaluate.run import evaluate
from bsq.evaluate.settings import EvaluationSettings

ROWS, COLUMNS = np.mgrid[:40, :48]
PICTURE = np.stack([ROWS * 6, COLUMNS * 5, ROWS * COLUMNS % 256], -1).astype(np.uint8)


def write_pictures(folder: Path, shift: int) -> str:
    folder.mkdir()
    for number in range(2):
        Image.fromarray(np.roll(PICTURE, 9 * number + shift, 0)).save(folder / f"p{number}.png")
    return str(folder)


def write_videos(folder: Path) -> str:
    import av

    folder.mkdir()
    with av.open(str(folder / "film.mkv"), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 40, 48, "bgr0"
        for moment in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(PICTURE, moment, 1), format="rgb24")))
        container.mux(stream.encode(None))
    return str(folder)


def prepare(protocol: Protocol, folder: Path) -> Any:
    """What a picture and a clip become, and what is written of the protocol."""
    clips = open_samples((write_videos(folder / "films"),), Kind.VIDEOS, protocol)
    return protocol.prepare(PICTURE), clips.read(0), protocol.for_reports()


def compare(settings: EvaluationSettings, folder: Path) -> Any:
    """Numbers, pictures, which threads and processes there were; of seconds only how often they were taken."""
    makers = {"pictures": lambda path: write_pictures(path, 0), "others": lambda path: write_pictures(path, 5)}
    makers["films"] = write_videos
    source = tuple(makers[name](folder / name) for name in settings.data)
    threads: list[int] = []
    shares: list[int] = []
    whole = processes.measure

    def counted(work: Any, count: int, total: int, on_sample: Any) -> Any:
        shares.append(count)
        return whole(work, 1, total, on_sample)  # starting processes takes seconds, and is tested elsewhere

    with mock.patch("bsq.evaluate.run.measure", counted):
        changed = settings.model_copy(update={"data": source})
        found = evaluate(changed, lambda *_: threads.append(torch.get_num_threads()))
    speeds = [(one.speed.rounds, one.speed.samples, one.speed.batch) if one.speed else None for one in found.systems]
    return [(one.name, one.scores) for one in found.systems], found.shown, speeds, threads, shares


def generate(settings: GenerationSettings, folder: Path) -> Any:
    makers = {"pictures": 0, "others": 5, "more": 11}
    paths = {name: write_pictures(folder / name, shift) for name, shift in makers.items()}
    threads: list[int] = []
    shares: list[int] = []
    whole = processes.measure

    def counted(work: Any, count: int, total: int, on_sample: Any) -> Any:
        shares.append(count)
        return whole(work, 1, total, on_sample)

    with mock.patch("bsq.evaluate.generation.measure", counted):
        changed = {
            "samples": tuple(paths.get(name, name) for name in settings.samples),
            "reference": paths.get(settings.reference, settings.reference),
        }
        asked = settings.model_copy(update=changed)
        found = evaluate_generation(asked, lambda *_: threads.append(torch.get_num_threads()))
    return [one.scores for one in found.sets], found.references, threads, shares


PROTOCOL: dict[str, Any] = {"resize": "lanczos", "short_side": 20, "crop": 16, "frames": 3, "frame_rate": 5.0}
EVALUATION: dict[str, Any] = {
    "systems": ("jpeg@q30",),
    "data": ("pictures",),
    "lpips": "none",
    "features": "none",
    "shown": 1,
    "timed": 1,
    "rounds": 1,
}
GENERATION: dict[str, Any] = {"samples": ("pictures",), "reference": "others", "shown": 1}

TABLE: list[Row] = [
    *rows(Protocol, prepare, PROTOCOL, name="mine", resize="bicubic", short_side=24, crop=12, frames=4, frame_rate=8.0),
    *rows(Protocol, prepare, PROTOCOL, samples=7, reference="others", published=("kodak",), remarks="none"),
    *rows(Protocol, prepare, PROTOCOL, rounding="uint8"),
    *rows(EvaluationSettings, compare, EVALUATION, systems=("webp@q30",), data=("others",), kind=Kind.VIDEOS),
    *rows(EvaluationSettings, compare, EVALUATION, protocol=Protocol(crop=32), lpips="squeeze", features="squeeze"),
    *rows(
        EvaluationSettings, compare, EVALUATION, first=1, shown=2, timed=2, batch=2, rounds=2, threads=2, processes=2
    ),
    *rows(EvaluationSettings, compare, EVALUATION, device="abacus"),
    *rows(GenerationSettings, generate, GENERATION, samples=("more",), reference="more", first=1, shown=2),
    *rows(GenerationSettings, generate, GENERATION, protocol=Protocol(crop=32), features="none", device="abacus"),
    *rows(GenerationSettings, generate, GENERATION, threads=2, processes=2),
]
