"""Benchmarks: files, figures and tables of two small pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from entries import Row, rows
from PIL import Image

from bsq.bench import codecs, reconstruction
from bsq.bench.classical import (
    AvifSettings,
    Jpeg2000Settings,
    JpegSettings,
    JpegXlSettings,
    WebpSettings,
    classical_codec,
)
from bsq.bench.codecs import CodecBenchSettings, FixedRates
from bsq.bench.compare import compare as beside_anchor
from bsq.bench.ours import OursCodec, OursSettings
from bsq.bench.reconstruction import ReconstructionSettings

ROWS, COLUMNS = np.mgrid[:64, :72]
SMOOTH = np.stack([ROWS * 3, COLUMNS * 3, (ROWS * COLUMNS // 16) % 256], -1).astype(np.uint8)


def encode(settings: Any, folder: Path) -> Any:
    codec = classical_codec(settings)
    qualities = codec.qualities()
    return codec.encode(SMOOTH, qualities[len(qualities) // 2])


def describe(settings: JpegXlSettings, folder: Path) -> Any:
    """The library need not be here."""
    with (
        mock.patch("bsq.bench.classical._jpeg_xl_plugin", return_value=ModuleType("plugin")),
        mock.patch("bsq.bench.classical.version", return_value="any"),
    ):
        return classical_codec(settings).description


def encode_ours(settings: OursSettings, folder: Path) -> Any:
    codec = OursCodec(settings)
    return [codec.encode(SMOOTH, bits) for bits in codec.qualities()]


def encode_uneven(settings: OursSettings, folder: Path) -> Any:
    """A picture that is flat on one side and noise on the other."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 48, 3), dtype=np.uint8)
    return OursCodec(settings).encode(np.concatenate([np.full_like(noise, 90), noise], 1), settings.bits[0])


def write_pictures(folder: Path, shift: int) -> None:
    folder.mkdir()
    for number in range(2):
        Image.fromarray(np.roll(SMOOTH, 9 * number + shift, 0)).save(folder / f"p{number}.png")


def in_folder(settings: Any, folder: Path) -> Any:
    """`settings` with a folder of pictures made for it."""
    path = folder / settings.folder
    write_pictures(path, len(settings.folder.name))
    return settings.model_copy(update={"folder": path})


def compare(settings: CodecBenchSettings, folder: Path) -> Any:
    """Everything but the seconds, and the threads there were."""
    threads: list[int] = []
    report = codecs.run(in_folder(settings, folder), on_picture=lambda *_: threads.append(torch.get_num_threads()))
    files = [dataclasses.replace(file, **dict.fromkeys(SECONDS, 0.0)) for file in report.files]
    return files, [shown.original.pixels for shown in report.shown], beside_anchor(report), threads


def rate(settings: FixedRates, folder: Path) -> Any:
    return compare(CodecBenchSettings(**{**BENCH, "rates": settings}), folder)


def reconstruct(settings: ReconstructionSettings, folder: Path) -> Any:
    report = reconstruction.run(in_folder(settings, folder))
    return [dataclasses.replace(row, decoding_time=0.0) for row in report.rows]


SECONDS = ("encoding_time", "decoding_time", "encoding_cpu", "decoding_cpu")
BENCH: dict[str, Any] = {
    "folder": "pictures",
    "codecs": ({"kind": "jpeg"}, {"kind": "webp", "method": 0}),
    "ours": (),
    "rates": {"kind": "fixed", "bits_per_pixel": (1.0, 2.0, 3.0, 4.0)},
    "perceptual": "none",
}
AGAIN = {"folder": "pictures", "bits": (9,), "priors": (), "perceptual": "none"}

TABLE: list[Row] = [
    *rows(JpegSettings, encode, {}, subsampling="4:4:4"),
    *rows(Jpeg2000Settings, encode, {}, wavelet="5-3", colour="rgb"),
    *rows(WebpSettings, encode, {}, method=0),
    *rows(AvifSettings, encode, {"speed": 10}, speed=6, subsampling="4:4:4"),
    *rows(JpegXlSettings, describe, {}, effort=3),
    *rows(OursSettings, encode_ours, {"bits": (9,), "prior": "raw"}, model="absent", prior="adaptive", bits=(18,)),
    *rows(OursSettings, encode_uneven, {"bits": (18,), "prior": "raw"}, allocate=True),
    *rows(OursSettings, encode_ours, {"bits": (9,), "prior": "raw"}, search=30),
    *rows(FixedRates, rate, BENCH["rates"], bits_per_pixel=(1.0, 2.0, 3.0, 5.0)),
    *rows(CodecBenchSettings, compare, BENCH, folder="others", codecs=({"kind": "jpeg"},), perceptual="lpips-squeeze"),
    *rows(CodecBenchSettings, compare, BENCH, ours=({"bits": (9,), "prior": "raw"},), rates={"kind": "matched"}),
    *rows(CodecBenchSettings, compare, BENCH, anchor="webp", pictures=1, shown=("p1",), threads=2),
    *rows(ReconstructionSettings, reconstruct, AGAIN, folder="others", model="absent", bits=(18,), priors=("raw",)),
    *rows(ReconstructionSettings, reconstruct, AGAIN, perceptual="lpips-squeeze", pictures=1),
]
