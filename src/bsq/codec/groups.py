"""Streams group by group. What enters: codes as they come, or a file. What leaves: a file, or codes; a group in memory.

How many frames there are stands in the header, and every checksum continues the header's. So a writer keeps the chunks
in a file without a name until it knows, and then writes the stream from its first byte to its last.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Self, cast

import numpy as np
import torch

from bsq.codec.colours import ColourMap
from bsq.codec.container import ContainerWriter, read_head
from bsq.codec.conversation import Table, mismatch, read_group, write_group
from bsq.codec.fields import FieldReader, FileBytes
from bsq.codec.framing import DIGEST_BYTES, Chunk
from bsq.codec.header import Header
from bsq.codec.info import Limits, StreamInfo, check_info, check_limits
from bsq.codec.stream import DecodedStream
from bsq.codec.waiting import WaitingChunks
from bsq.codec.walk import ChunkWalk
from bsq.codes import Codes
from bsq.errors import CodesError, DamagedStreamError, StreamError
from bsq.prior.base import Prior

IN_MEMORY = 1 << 20  # bytes of chunks; more go to a file


class GroupWriter:
    """Codes of one group after another → a stream. To be used in a `with` block.

    `info` describes a full group; only the last may have fewer frames. Of several priors all code every group, and the
    stream is that of the one that made it smallest. Chunks wait in a file a prior in `folder` (default: where temporary
    files go).
    """

    def __init__(self, info: StreamInfo, priors: Sequence[Prior], folder: Path | None = None) -> None:
        """Raises CodesError where the description contradicts itself, or is not of a video's group."""
        check_info(info, CodesError)
        assert info.frame_rate is not None
        assert info.frames_per_group is None
        self._info = info
        self._digest = hashlib.sha256()
        self._frames = 0
        self._waiting = [(prior, WaitingChunks(temporary_file(folder))) for prior in priors]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for _, chunks in self._waiting:
            chunks.close()

    def add(self, codes: Codes) -> None:
        """The next group: (1, T, h, w, kept), T as described, or less in the last group."""
        info, grid = self._info, self._info.grid
        wanted = (1, grid.frames, grid.height, grid.width, info.kept)
        fits = codes.shape[0] == 1 and codes.shape[2:] == wanted[2:] and 1 <= codes.shape[1] <= grid.frames
        if not fits or codes.radices != info.kept_radices or self._frames % grid.frames:
            raise CodesError(f"a group must have codes {wanted}, fewer frames only in the last one; got {codes.shape}")
        for prior, chunks in self._waiting:
            write_group(codes, prior, chunks)
        self._digest.update(bytes.fromhex(codes.hash()))
        self._frames += codes.shape[1]

    def finish(self, target: BinaryIO, colours: ColourMap = ()) -> StreamInfo:
        """Write the stream, front to back, with that map of its colours; what its header says."""
        size = self._info.frames
        several = size if size < self._frames else None
        info = replace(self._info, frames=self._frames, frames_per_group=several, colours=colours)
        check_info(info, CodesError)
        prior, chunks = min(self._waiting, key=lambda one: one[1].size)
        writer = ContainerWriter(Header(info, prior.name, bytes(prior.identity), prior.portable), target)
        chunks.move_to(writer)
        writer.finish(self._digest.digest()[:DIGEST_BYTES])
        return info


class GroupReader:
    """An open stream, read group by group.

    header, minor, size   of the stream; `size` in bytes
    trouble               the first met so far; None if there is none
    """

    def __init__(self, file: BinaryIO, limits: Limits | None = None) -> None:
        """`file` can be searched and stays the caller's. Raises what is wrong with the header; `limits`: a group's."""
        data = FileBytes(file)
        self._fields, self.size = FieldReader(data), len(data)
        self._head = read_head(self._fields)
        self.header, self.minor = self._head.header, self._head.minor
        check_limits(self.info.of_group(0), limits or Limits())
        self.trouble: StreamError | None = None

    @property
    def info(self) -> StreamInfo:
        return self.header.info

    def groups(self, prior: Prior, first: int = 0, last: int | None = None) -> Iterator[DecodedStream]:
        """Groups `first` … `last` − 1 (default: all), each as a stream of its own; `trouble` is None if it is whole.

        Of a group with trouble there is what was before it, perhaps nothing; a stream that is cut has fewer groups.
        When all were read, the closing digest is compared. Raises DamagedStreamError or NotPortableError for bytes that
        say something else than was written, although their checksums hold.
        """
        last = self.info.group_count if last is None else last
        self._fields.move(self._head.size)
        walk = ChunkWalk(self._fields, self._head.crc, self.info.group_count, first)
        digest, count = hashlib.sha256(), 0
        for number, chunks in numbered(walk, first, last):
            group = self._decode(number, chunks, prior)
            self.trouble = walk.trouble
            if group.trouble is not None and walk.trouble is not None:
                group = replace(group, trouble=walk.trouble)
            elif group.trouble is not None:
                raise group.trouble
            digest.update(bytes.fromhex(group.codes.hash()))
            count += 1
            yield group
        self.trouble = walk.trouble
        if walk.trouble is not None:
            return
        if count != last - first:
            raise DamagedStreamError(f"the header claims {last - first} groups of frames, {count} are there")
        if count == self.info.group_count and walk.digest != digest.digest()[:DIGEST_BYTES]:
            raise mismatch(self.header, "the closing digest does not hold: these are not the codes that were written")

    def _decode(self, number: int, chunks: list[Chunk], prior: Prior) -> DecodedStream:
        info = self.info.of_group(number)
        grid, radices = info.grid, info.kept_radices
        digits = np.zeros((grid.tokens, info.kept), np.uint8 if max(radices) <= 256 else np.int32)
        table = Table(digits, np.zeros(digits.shape, bool))
        try:
            # Without a chunk the prior, which may be slow, is not even asked.
            whole = bool(chunks) and read_group(table, prior, grid, radices, chunks)
        except DamagedStreamError as error:
            raise mismatch(self.header, str(error)) from error
        shape = (grid.frames, grid.height, grid.width, info.kept)
        return DecodedStream(
            Codes(torch.from_numpy(digits).reshape(1, *shape), radices),
            torch.from_numpy(table.known).reshape(shape),
            None,
            replace(self.header, info=info),
            (),
            sum(len(chunk.payload) - chunk.checked for chunk in chunks),
            None if whole else DamagedStreamError("the chunks do not fit the digits"),
        )


def temporary_file(folder: Path | None) -> BinaryIO:
    """A file without a name, in memory as long as it is small."""
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(IN_MEMORY, dir=None if folder is None else str(folder)))


def numbered(chunks: Iterable[Chunk], first: int, last: int) -> Iterator[tuple[int, list[Chunk]]]:
    """The chunks of each group `first` … `last` − 1 up to the last that has any; none for a group that was lost."""
    following = first
    for number, of_group in groupby(chunks, lambda chunk: chunk.group):
        if number >= last:
            break
        for lost in range(following, number):
            yield lost, []
        yield number, list(of_group)
        following = number + 1
