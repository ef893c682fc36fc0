"""Pictures on the command line: one of them to a .bsq file, and back. What enters: a job and an open file. What leaves:
a file that is whole, or none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Self

from bsq.cli.batch import Done, Watcher, size, told_search
from bsq.cli.plan import Job, Pipe, Place, check_free, place_name, write
from bsq.errors import SettingsError

if TYPE_CHECKING:
    from bsq.codec.info import Limits
    from bsq.codec.recover import Fill
    from bsq.prior.base import Prior
    from bsq.tokenizer import Tokenizer


@dataclass(frozen=True)
class SizeLimit:
    """How large a picture's file may be: so many bits per pixel, or so many bytes."""

    bits_per_pixel: float | None
    count: int | None

    @classmethod
    def of(cls, bits_per_pixel: float | None, count: int | None) -> Self | None:
        """As typed; None where neither is given. Raises SettingsError for both, and for a rate that is none."""
        if (bits_per_pixel, count) == (None, None):
            return None
        if bits_per_pixel is not None and count is not None:
            raise SettingsError("--target-bpp and --target-bytes both say how large the file may be; give one of them")
        if bits_per_pixel is not None and not 0 < bits_per_pixel < float("inf"):
            raise SettingsError(f"--target-bpp must be a positive number of bits per pixel, got {bits_per_pixel}")
        return cls(bits_per_pixel, count)

    def most(self, height: int, width: int) -> int | None:
        """Bytes."""
        return self.count if self.bits_per_pixel is None else int(self.bits_per_pixel * height * width / 8)


@dataclass(frozen=True)
class PictureEncoding:
    """How pictures are encoded; `target` is None where bits alone decide."""

    tokenizer: Tokenizer
    bits: int | None
    prior: Prior | None  # None: the best
    target: SizeLimit | None
    allocate: bool
    search: int | None  # None: as usual
    colours: bool
    max_pixels: int
    check: bool
    force: bool


def encode_picture(job: Job, file: BinaryIO, how: PictureEncoding, watcher: Watcher) -> Done:
    """A picture's file → a .bsq file."""
    from bsq.codec.info import Limits
    from bsq.codec.measure import inspect
    from bsq.codec.picture import compress, verify
    from bsq.data.pictures import read_picture

    start, source = time.perf_counter(), file.read()
    picture = read_picture(source, how.max_pixels)
    height, width, _ = picture.pixels.shape
    most = None if how.target is None else how.target.most(height, width)
    data = compress(
        picture.pixels,
        how.tokenizer,
        bits=how.bits,
        prior=how.prior,
        max_bytes=most,
        allocate=how.allocate,
        search=how.search,
        told=watcher.search,
        colours=how.colours,
    )
    limits = Limits(pixels=how.max_pixels)
    if how.check:
        verify(data, how.tokenizer, limits)
    write(job.target, data, how.force)
    told = f"{width}×{height}, {inspect(data, limits).info.told_kept} bits a token"
    told += f"{told_search(how.search)}, {size(len(data))}, {8 * len(data) / (height * width):.3f} bpp"
    line = f"{job.name} → {place_name(job.target)}: {told}, {time.perf_counter() - start:.1f} s"
    return Done(line, len(source), len(data), picture.notes)


@dataclass(frozen=True)
class PictureDecoding:
    """How pictures are decoded; `way` is None where a stream must be whole, `suffix` the format of pipes."""

    tokenizer: Tokenizer | None
    device: str
    limits: Limits
    way: Fill | None
    suffix: str
    force: bool


def decode_picture(job: Job, file: BinaryIO, how: PictureDecoding) -> Done:
    """A picture's .bsq file → a picture."""
    from bsq.codec.picture import Recovered, decompress, recover
    from bsq.data import pictures

    start, source, kind = time.perf_counter(), file.read(), kind_of(job.target, how.suffix)
    pictures.check_format(kind)
    check_free(job.target, how.force)
    if how.way is not None:
        found = recover(source, how.tokenizer, how.device, how.limits, how.way)
    else:
        found = Recovered(decompress(source, how.tokenizer, how.device, how.limits), None)
    data = pictures.encode_picture(found.picture, kind)
    write(job.target, data, how.force)
    height, width, _ = found.picture.shape
    line = f"{job.name} → {place_name(job.target)}: {width}×{height}, {time.perf_counter() - start:.1f} s"
    return Done(line, len(source), len(data), () if found.missing is None else (found.missing,))


def kind_of(target: Place, default: str) -> str:
    """The suffix that chooses the picture's format."""
    return default if isinstance(target, Pipe) else target.suffix
