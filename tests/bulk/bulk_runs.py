"""What tests of bulk runs share: small pictures of every source, a run without Ray, a folder's hashes."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bsq.bulk.encoding import Note
from bsq.bulk.plan import Plan
from bsq.bulk.run import Faulty, Request, Summary, tokenize
from bsq.bulk.settings import TokenizeSettings
from bsq.bulk.spread import Here, Workers
from bsq.tokenizer import Tokenizer

CORRUPT = b"\x89PNG\r\n\x1a\nno picture at all"


def png(number: int, size: tuple[int, int] = (24, 20)) -> bytes:
    """Noise of its own for each number."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(folder: Path, count: int, corrupt: tuple[int, ...] = ()) -> Path:
    """Pictures in two folders, "even" and "odd"."""
    for number in range(count):
        path = folder / ("odd" if number % 2 else "even") / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CORRUPT if number in corrupt else png(number))
    return folder


def write_tar(path: Path, numbers: range, mode: str = "w") -> Path:
    """Samples of a picture and its class, as WebDataset has them."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for number in numbers:
            for suffix, data in (("png", png(number)), ("cls", str(number % 3).encode())):
                member = tarfile.TarInfo(f"part/{number:05d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def write_parquet(path: Path, numbers: range, group: int = 4) -> Path:
    """Pictures as Hugging Face data sets store them, in row groups of `group`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": png(number), "path": f"{number}.png"} for number in numbers]
    pq.write_table(pa.table({"image": cells, "class": [n % 3 for n in numbers]}), path, row_group_size=group)
    return path


class Listening:
    """Remembers what it was told; can break the run off after some shards."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.listings: list[int] = []
        self.plan: Plan | None = None
        self.done = self.inputs = 0
        self.notes: list[Note] = []
        self.stop_after = stop_after

    def listed(self, inputs: int) -> None:
        self.listings.append(inputs)

    def begins(self, plan: Plan, done: int, inputs: int) -> None:
        self.plan, self.done, self.inputs = plan, done, inputs

    def wrote(self, note: Note) -> None:
        self.notes.append(note)
        if len(self.notes) == self.stop_after:
            raise KeyboardInterrupt


def settings_of(**changes: Any) -> TokenizeSettings:
    return TokenizeSettings.model_validate({"shard_size": 4, "views": {"size": 16}, **changes})


def run(
    sources: Any,
    place: Any,
    model: Tokenizer,
    listener: Listening | None = None,
    workers: Workers | None = None,
    faulty: Faulty = Faulty.KEEP,
    **changes: Any,
) -> Summary:
    """In this process, if nobody says where; shards of 4 pictures of 16 × 16 pixels, if nobody says how."""
    names = (str(sources),) if isinstance(sources, str | Path) else tuple(map(str, sources))
    request = Request(names, str(place), settings_of(**changes), faulty=faulty)
    return tokenize(request, model, workers or Here(), listener or Listening())


def hashes(place: Path) -> dict[str, str]:
    """SHA-256 of all that a run leaves, by name."""
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
