"""Bulk runs: what the rows of a folder of tokens depend on."""

from __future__ import annotations

import hashlib
import io
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from entries import Row, rows
from PIL import Image

from bsq.bulk.run import Request, tokenize
from bsq.bulk.settings import FrameSettings, TokenizeSettings, ViewSettings
from bsq.bulk.spread import Here
from bsq.data.token_files import Format, read_shard
from bsq.tokenizer import Tokenizer, TokenizerSettings


class Deaf:
    """Listens to nothing."""

    def listed(self, inputs: int) -> None: ...
    def begins(self, plan: Any, done: int, inputs: int) -> None: ...
    def wrote(self, note: Any) -> None: ...


@cache
def model() -> Tokenizer:
    torch.manual_seed(0)
    side = {"width": 16, "depth": 1, "head_width": 16}
    settings = {"patch": 8, "quantizer": {"kind": "bsq", "bits": 6}, "encoder": side, "decoder": side}
    return Tokenizer(TokenizerSettings.model_validate(settings)).eval()


def encoded(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_inputs(folder: Path) -> None:
    """A tar, a Parquet file of two columns and a video."""
    import av
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tarfile.open(folder / "a.tar", "w") as tar:
        for number in range(3):
            for suffix, data in (("png", encoded(number)), ("cls", b"1")):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    table = pa.table({"image": [encoded(3)], "other": [encoded(4)], "cls": [2]})
    pq.write_table(table, folder / "b.parquet")
    with av.open(str(folder / "c.mkv"), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 24, 40, "bgr0"
        for moment in range(10):
            pixels = np.full((24, 40, 3), 20 * moment, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def run(settings: TokenizeSettings, folder: Path) -> Any:
    """Shards, and what is said of inputs that gave none; how many pictures the model saw at once."""
    source = folder / "in"
    source.mkdir()
    write_inputs(source)
    seen: list[tuple[int, ...]] = []
    hook = model().encoder.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape)))
    try:
        request = Request((str(source),), str(folder / "out"), settings)
        summary = tokenize(request, model(), Here(), Deaf())
    finally:
        hook.remove()
    shards = {p.name: hashlib.sha256(tells(p, folder)).hexdigest() for p in sorted((folder / "out").glob("shard-*"))}
    return shards, [fault.reason for fault in summary.first_faults], seen


def tells(path: Path, folder: Path) -> bytes:
    """What is in a shard, without the folder it was made in and the video's hash, which differ each time."""
    with open(path, "rb") as file:
        shard = read_shard(file, Format.of(path.name), path.name)
    told = []
    for number in range(len(shard)):
        head = shard[number].head.model_dump(exclude={"source_sha256"})
        told.append((str(head).replace(str(folder), ""), shard[number].codes.pack()))
    return repr(told).encode()


def view(settings: ViewSettings, folder: Path) -> Any:
    return run(TokenizeSettings(views=settings), folder)


def watch(settings: FrameSettings, folder: Path) -> Any:
    return run(TokenizeSettings(inputs="videos", frames=settings), folder)


SQUARES = {"size": 16, "views": 3, "zoom": 0.9, "flip": 0.2}

TABLE: list[Row] = [
    *rows(
        TokenizeSettings,
        run,
        {},
        inputs="videos",
        bits=3,
        shard_size=2,
        format="webdataset",
        batch=2,
        label="cls",
        column="other",
        max_pixels=100,
        views={"size": 16},
    ),
    *rows(TokenizeSettings, run, {"inputs": "videos"}, frames={"frames": 3}),
    *rows(ViewSettings, view, {"size": 16}, size=24, crop="none", views=2),
    *rows(ViewSettings, view, SQUARES, zoom=0.5, flip=0.9, seed=1),
    *rows(FrameSettings, watch, {}, frames=3, frame_rate=5.0, max_frames=4),
]
