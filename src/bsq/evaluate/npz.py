"""Sample files as guided-diffusion (ADM) exchanges them. What enters: an `.npz`, or pictures. What leaves: the other.

`arr_0` holds uint8 pictures (N, H, W, 3), `arr_1`, if there, int64 labels (N,); reference batches also hold the moments
mu, sigma (pooled) and mu_s, sigma_s (spatial), here with `network`, the name of what gave them. Arrays are read from
the zip piece by piece and never whole; nothing is ever unpickled.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from bsq.data.files import Existing, drafting
from bsq.data.pictures import check_picture
from bsq.errors import DataError, EvaluationError, ShapeError

PICTURES, LABELS, NETWORK = "arr_0", "arr_1", "network"
MOMENTS = ("mu", "sigma", "mu_s", "sigma_s")


@dataclass(frozen=True)
class ArrayHeader:
    """What a member says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype


class SampleFile:
    """The pictures of an `.npz`. Reading in ascending order passes through the file once."""

    def __init__(self, path: Path | str) -> None:
        """Raises DataError for a file that is missing, no `.npz`, or holds no uint8 pictures."""
        self.path = Path(path)
        header = read_header(self.path, PICTURES)
        if header is None:
            raise DataError(f"{self.path} holds no samples: there is no array {PICTURES}")
        if header.dtype != np.uint8 or len(header.shape) != 4 or header.shape[3] != 3 or 0 in header.shape:
            raise DataError(
                f"{self.path}: samples must be uint8 (N, H, W, 3), none of them 0; got {header.dtype} {header.shape}"
            )
        self.count, self.height, self.width = header.shape[:3]
        self._stream: IO[bytes] | None = None
        self._next = 0

    def __len__(self) -> int:
        return self.count

    def read(self, number: int) -> np.ndarray:
        """uint8 (H, W, 3). Raises DataError if the file ends before it, EvaluationError where the checksum of all
        samples does not hold, which shows at the last one: no sample can be trusted then.
        """
        if not 0 <= number < self.count:
            raise IndexError(number)
        length = self.height * self.width * 3
        try:
            if self._stream is None or number < self._next:
                self.close()
                self._stream, _ = open_array(self.path, PICTURES)
                self._next = 0
            while self._next < number:
                skip(self._stream, length)
                self._next += 1
            data = self._stream.read(length)
        except zipfile.BadZipFile as error:
            raise EvaluationError(
                f"{self.path.name} is damaged, nobody knows at which of its {self.count} samples: {error}. "
                "Fetch or write it again."
            ) from error
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise DataError(f"{self.path.name} is damaged at sample {number}: {error}") from error
        if len(data) != length:
            raise DataError(f"{self.path.name} ends at sample {number} of {self.count}")
        self._next += 1
        return np.frombuffer(data, np.uint8).reshape(self.height, self.width, 3)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __getstate__(self) -> dict[str, object]:
        """Other processes open the file themselves."""
        return self.__dict__ | {"_stream": None, "_next": 0}


def read_header(path: Path, name: str) -> ArrayHeader | None:
    """Of an array of the file; None if it is not there. Raises DataError for what is no `.npz`."""
    if not path.is_file():
        raise DataError(f"no file {path}; expected samples (.npz with {PICTURES})")
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                return None
        stream, header = open_array(path, name)
        stream.close()
        return header
    except (OSError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise DataError(f"{path} cannot be read as .npz: {error}") from error


def open_array(path: Path, name: str) -> tuple[IO[bytes], ArrayHeader]:
    """A stream of the array's values, row by row. ValueError for objects, which only a pickle could hold."""
    archive = zipfile.ZipFile(path)
    stream = archive.open(f"{name}.npy")
    version = npy.read_magic(stream)
    match version:
        case (1, 0):
            shape, columns_first, dtype = npy.read_array_header_1_0(stream)
        case (2, 0):
            shape, columns_first, dtype = npy.read_array_header_2_0(stream)
        case _:
            raise ValueError(f"{name} is an array of version {version}")
    if dtype.hasobject or columns_first:
        raise ValueError(f"{name} holds {'objects' if dtype.hasobject else 'columns first'}")
    return stream, ArrayHeader(tuple(shape), dtype)


def skip(stream: IO[bytes], length: int) -> None:
    while length and (read := len(stream.read(min(length, 1 << 20)))):
        length -= read


def has_moments(path: Path) -> bool:
    """Whether a reference file holds mu and sigma."""
    return read_header(path, "mu") is not None and read_header(path, "sigma") is not None


def read_network(path: Path) -> str | None:
    """The network that a file of ours names for its moments; None if it names none, as guided-diffusion's."""
    if read_header(path, NETWORK) is None:
        return None
    with np.load(path, allow_pickle=False) as found:
        return str(found[NETWORK])


def write_samples(
    path: str | os.PathLike[str],
    pictures: Iterable[np.ndarray],
    count: int,
    extra: dict[str, np.ndarray] | None = None,
    existing: Existing = Existing.REFUSE,
    labels: Sequence[int] | None = None,
) -> None:
    """Mirror of `SampleFile`: `count` pictures uint8 (H, W, 3) of one size, streamed; `extra` arrays beside them.

    Raises ShapeError for other sizes or another number of pictures, DataError for none, MediaError as `write_file`.
    """
    if count < 1:
        raise DataError("there are no pictures to write")
    if labels is not None and len(labels) != count:
        raise ShapeError(f"{count} pictures and {len(labels)} labels")
    arrays = dict(extra or {}) | ({} if labels is None else {LABELS: np.asarray(labels, np.int64)})
    with drafting(path, existing) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        with archive.open(f"{PICTURES}.npy", "w", force_zip64=True) as member:
            for data in _as_npy(pictures, count):
                member.write(data)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)


def _as_npy(pictures: Iterable[np.ndarray], count: int) -> Iterator[bytes]:
    """Header and rows of (count, H, W, 3)."""
    shape: tuple[int, ...] | None = None
    written = 0
    for picture in pictures:
        check_picture(picture)
        if shape is None:
            shape = picture.shape
            yield _header((count, *shape))
        if picture.shape != shape:
            raise ShapeError(
                f"samples in one file have one size: {_size(picture.shape)} after {_size(shape)}; a protocol with a "
                "resize and a crop makes them equal"
            )
        written += 1
        yield picture.tobytes()
    if written != count:
        raise ShapeError(f"{written} pictures were given, {count} announced")


def _header(shape: tuple[int, ...]) -> bytes:
    import io

    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}"
