"""Benchmarks of video: streams and tables of two clips of a few small frames."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from entries import Row, rows

from bsq.bench.video import ablation, compare
from bsq.bench.video.ablation import AblationSettings
from bsq.bench.video.clips import Clip
from bsq.bench.video.compare import VideoBenchSettings
from bsq.bench.video.ours import OursVideoCodec, OursVideoSettings
from bsq.bench.video.rivals import SvtAv1Settings, Vp9Settings, X264Settings, X265Settings, rival_codec
from bsq.data.video_files import write_video

ROWS, COLUMNS = np.mgrid[:64, :80]


def moving(count: int, shift: int = 0) -> np.ndarray:
    """A coloured, noisy pattern that moves, and changes after every other frame."""
    noise = np.random.default_rng(shift).integers(0, 60, (count, 64, 80, 3))
    still = [(ROWS * 3, COLUMNS * 2 + 40 * (t // 2), ((ROWS + 5 * t) * COLUMNS // 16) % 256) for t in range(count)]
    return (np.stack([np.stack(planes, -1) for planes in still]) + noise).clip(0, 255).astype(np.uint8)


CLIP = Clip("moving", moving(6), Fraction(10))


def encode(settings: Any, folder: Path) -> Any:
    codec = rival_codec(settings)
    return codec.encode(CLIP, codec.qualities()[len(codec.qualities()) // 2]).packets


def encode_ours(settings: OursVideoSettings, folder: Path) -> Any:
    codec = OursVideoCodec(settings)
    return codec.label, [codec.encode(CLIP, bits).packets for bits in codec.qualities()]


def search_ours(settings: OursVideoSettings, folder: Path) -> Any:
    return OursVideoCodec(settings).encode(CLIP, 9).packets


def in_folder(settings: Any, folder: Path) -> Any:
    """`settings` with a folder of two clips of four and six frames made for it, 10 a second."""
    path = folder / settings.source[0]
    for number in range(2):
        with write_video(path / f"c{number}.mp4", 10) as video:
            for frame in moving(4 + 2 * number, len(path.name) + number):
                video.write(frame)
    return settings.model_copy(update={"source": (str(path),)})


def contest(settings: VideoBenchSettings, folder: Path) -> Any:
    """Everything but the seconds, and the threads there were."""
    threads: list[int] = []
    report = compare.run(in_folder(settings, folder), on_clip=lambda *_: threads.append(torch.get_num_threads()))
    streams = [dataclasses.replace(one, **dict.fromkeys(SECONDS, 0.0)) for one in report.streams]
    return streams, report.strip.original.frames, report.notes, threads


def ablate(settings: AblationSettings, folder: Path) -> Any:
    report = ablation.run(in_folder(settings, folder))
    return report.clips, report.rows


SECONDS = ("encoding_time", "decoding_time", "encoding_cpu", "decoding_cpu")
OURS = {"bits": (9,), "prior": "raw"}
BENCH: dict[str, Any] = {
    "source": ("clips",),
    "codecs": ({"kind": "x264", "preset": "ultrafast"},),
    "ours": (OURS,),
    "perceptual": "none",
    "vmaf": "none",
    "frames": 2,
}
AGAIN: dict[str, Any] = {
    "source": ("clips",),
    "models": ("biscuit-s",),
    "frames": 2,
    "frame_rate": 10.0,
    "crop": 48,
    "perceptual": "none",
}

TABLE: list[Row] = [
    *rows(X264Settings, encode, {}, preset="ultrafast", b_frames=2, subsampling="4:4:4"),
    *rows(X265Settings, encode, {}, preset="ultrafast", b_frames=2, subsampling="4:4:4"),
    *rows(Vp9Settings, encode, {"speed": 5}, speed=1, subsampling="4:4:4"),
    *rows(SvtAv1Settings, encode, {"preset": 10}, preset=4),
    *rows(OursVideoSettings, encode_ours, OURS, model="absent", label="mine", prior="adaptive", bits=(18,)),
    *rows(OursVideoSettings, encode_ours, OURS, frames_per_group=2),
    *rows(OursVideoSettings, search_ours, OURS, search=30),
    *rows(VideoBenchSettings, contest, BENCH, source=("others",), codecs=(), ours=({"bits": (18,), "prior": "raw"},)),
    *rows(VideoBenchSettings, contest, BENCH, perceptual="lpips-squeeze", vmaf="where available", clips=1, frames=3),
    *rows(VideoBenchSettings, contest, BENCH, shown="c1", threads=2),
    *rows(AblationSettings, ablate, AGAIN, source=("others",), models=("absent",), bits=9, frames=3, frame_rate=5.0),
    *rows(AblationSettings, ablate, AGAIN, crop=32, clips=1, perceptual="lpips-squeeze"),
]
