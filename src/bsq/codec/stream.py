"""Streams. What enters: codes and a prior, or a stream's bytes. What leaves: the other.

`write_codes` and `read_codes` hold the same conversation with the prior (`bsq.prior.base`): the writer answers from the
codes, the reader from the chunks. `read_available` takes what is sound of a stream that was cut or damaged.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from bsq.codec.colours import ColourMap
from bsq.codec.container import EXTRA_MINOR, Container, ContainerWriter, read_container
from bsq.codec.conversation import Table, mismatch, read_group, write_group
from bsq.codec.framing import DIGEST_BYTES, RESIDUAL
from bsq.codec.header import Header
from bsq.codec.info import Limits, StreamInfo, check_info
from bsq.codec.residual import Residual
from bsq.codec.residual_bytes import read_residuals, residual_bytes
from bsq.codec.waiting import WaitingChunks
from bsq.codes import Codes
from bsq.errors import CodesError, DamagedStreamError, StreamError, WrongModelError
from bsq.prior.allocated import AllocatedPrior, kept_digits
from bsq.prior.base import Prior
from bsq.prior.uniform import UniformPrior


@dataclass(frozen=True)
class DecodedStream:
    """What a stream holds.

    codes      (1, T, h, w, kept); digits that are missing are 0
    known      (T, h, w, kept) bool: the digits that the stream gave
    kept       (1, T, h, w) int64, how many digits each token keeps, 0 where the stream did not come to say so; None:
               all tokens keep all of them
    residual   what a picture's pixels lack: () nothing, or digits are missing; None: it was said, and is lost
    unchecked  bytes behind the last checksum of a stream that was cut, and used: right unless they were changed, too
    trouble    why digits or the closing digest are missing; None if the stream is whole
    """

    codes: Codes
    known: Tensor
    kept: Tensor | None
    header: Header
    residual: Residual | None
    unchecked: int
    trouble: StreamError | None

    @property
    def info(self) -> StreamInfo:
        return self.header.info

    @property
    def missing(self) -> Tensor:
        """(T, h, w, kept) bool: the digits that the stream should have given and did not."""
        return ~self.known & (torch.arange(self.codes.length) < self.due[..., None])

    @property
    def due(self) -> Tensor:
        """(T, h, w) int64: how many digits of each token the stream should have given, all where it does not say."""
        if self.kept is None:
            return torch.full(self.known.shape[:-1], self.codes.length)
        return self.kept[0].masked_fill(self.kept[0] == 0, self.codes.length)


def write_codes(codes: Codes, info: StreamInfo, prior: Prior) -> bytes:
    """Codes (1, T, h, w, kept) → a `.bsq` stream; where the description has levels, allocated codes
    (`bsq.prior.allocated`).

    Raises CodesError where the codes do not fit the description, or the description contradicts itself.
    """
    return CodedStream(codes, info, prior).stream()


class CodedStream:
    """Codes, coded once; then written as streams whose pixels are set right in one way or another."""

    def __init__(self, codes: Codes, info: StreamInfo, prior: Prior) -> None:
        """Arguments and errors as `write_codes`."""
        check_info(info, CodesError)
        _check_codes(codes, info)
        self.prior = prior
        self._header = Header(info, prior.name, bytes(prior.identity), prior.portable)
        self._digest = closing_digest(codes, info)
        self._chunks = WaitingChunks(io.BytesIO())
        for group in split_groups(codes, info):
            write_group(group, fitting(prior, info), self._chunks)

    @property
    def size(self) -> int:
        """Bytes of the codes alone."""
        return self._chunks.size

    def stream(self, colours: ColourMap | None = None, residual: Residual = ()) -> bytes:
        """The stream with that map of colours, the description's where None is given, and that residual."""
        info = self._header.info
        header = replace(self._header, info=info if colours is None else replace(info, colours=colours))
        check_info(header.info, CodesError)
        lacking = residual_bytes(residual)
        file = io.BytesIO()
        writer = ContainerWriter(header, file, extra=bool(lacking))
        self._chunks.move_to(writer)
        if lacking:
            writer.add_extra(RESIDUAL, lacking)
        writer.finish(self._digest)
        return file.getvalue()


def read_codes(data: bytes, priors: Sequence[Prior] = (), limits: Limits | None = None) -> DecodedStream:
    """A `.bsq` stream → its codes, whole and verified. The uniform prior need not be among `priors`.

    Raises the StreamError that names what is wrong: TruncatedStreamError, DamagedStreamError, WrongModelError (none of
    `priors` wrote it), LimitError, NotPortableError, NewerVersionError, EmptyStreamError, NotABsqStreamError.
    """
    container = read_container(data, limits or Limits())
    prior = choose_prior(container.header, priors)
    if container.trouble is not None:
        raise container.trouble
    decoded = _decode(container, prior)
    if decoded.trouble is not None:
        raise decoded.trouble
    return decoded


def read_available(data: bytes, priors: Sequence[Prior] = (), limits: Limits | None = None) -> DecodedStream:
    """As `read_codes`, but a stream that ends early or has damaged chunks gives the digits before that place.

    Of each group of frames there are the digits before its first trouble. The header must be whole; a stream that
    is whole must be sound. Where the digest is missing, digits by a prior that is not portable are unverified.
    """
    container = read_container(data, limits or Limits())
    return _decode(container, choose_prior(container.header, priors))


def choose_prior(header: Header, priors: Sequence[Prior]) -> Prior:
    """The prior that wrote the stream. Raises WrongModelError."""
    for prior in (*priors, UniformPrior()):
        if header.written_with(prior):
            return prior
    had = ", ".join(f"{prior.name} {bytes(prior.identity).hex()}" for prior in priors) or "none"
    raise WrongModelError(
        f"the stream was written with the {header.prior} prior {header.identity.hex()}; at hand: {had}; "
        "load the model that wrote it"
    )


def fitting(prior: Prior, info: StreamInfo) -> Prior:
    """The prior as it codes what the stream holds of a token."""
    return AllocatedPrior(prior, info.levels) if info.levels else prior


def check_tokenizer(info: StreamInfo, code_hash: str) -> None:
    """Raise WrongModelError unless the stream's codes are those of the tokenizer with this hash (hex)."""
    if short_hash(code_hash) != info.code_hash:
        named = f" {info.tokenizer!r}" if info.tokenizer else ""
        raise WrongModelError(
            f"the stream was written by the tokenizer{named} {info.code_hash.hex()}, this one is "
            f"{short_hash(code_hash).hex()}; load the tokenizer that wrote it"
        )


def short_hash(code_hash: str) -> bytes:
    """The 8 bytes that a stream stores of a tokenizer's hash (hex)."""
    return bytes.fromhex(code_hash)[:8]


def split_groups(codes: Codes, info: StreamInfo) -> Iterator[Codes]:
    """The codes of each conversation, in order."""
    start = 0
    for grid in info.groups:
        yield Codes(codes.digits[:, start : start + grid.frames], codes.radices)
        start += grid.frames


def closing_digest(codes: Codes, info: StreamInfo) -> bytes:
    """First 8 bytes of the SHA-256 of the groups' hashes (`Codes.hash`, 32 bytes each) one after another."""
    digest = hashlib.sha256()
    for group in split_groups(codes, info):
        digest.update(bytes.fromhex(group.hash()))
    return digest.digest()[:DIGEST_BYTES]


def _check_codes(codes: Codes, info: StreamInfo) -> None:
    grid = info.grid
    wanted = (1, grid.frames, grid.height, grid.width, len(info.coded_radices))
    if codes.shape != wanted:
        raise CodesError(f"codes must be (1, T, h, w, kept) = {wanted} as the description says, got {codes.shape}")
    if codes.radices != info.coded_radices:
        raise CodesError(f"codes have radices {codes.radices[:8]}, the description {info.coded_radices[:8]}")


def _decode(container: Container, prior: Prior) -> DecodedStream:
    info = container.header.info
    grid, radices = info.grid, info.coded_radices
    prior = fitting(prior, info)
    digits = np.zeros((grid.tokens, len(radices)), np.uint8 if max(radices) <= 256 else np.int32)
    table = Table(digits, np.zeros(digits.shape, bool))
    start, whole = 0, True
    of_groups = {group: list(chunks) for group, chunks in groupby(container.chunks, lambda chunk: chunk.group)}
    for number, group in enumerate(info.groups):
        part = table.part(slice(start, start + group.tokens))
        start += group.tokens
        chunks = of_groups.get(number, [])
        # Without a chunk the prior, which may be slow, is not even asked.
        try:
            whole &= bool(chunks) and read_group(part, prior, group, radices, chunks)
        except DamagedStreamError as error:
            raise mismatch(container.header, str(error)) from error
    if not whole and container.trouble is None:
        raise DamagedStreamError("the chunks do not fit the digits")
    shape = (grid.frames, grid.height, grid.width, len(radices))
    codes = Codes(torch.from_numpy(digits).reshape(1, *shape), radices)
    if container.trouble is None and container.digest != closing_digest(codes, info):
        raise mismatch(container.header, "the closing digest does not hold: these are not the codes that were written")
    unchecked = sum(len(chunk.payload) - chunk.checked for chunk in container.chunks)
    known, kept = torch.from_numpy(table.known).reshape(shape), None
    if info.levels:
        kept = kept_digits(codes, info.levels) * known[None, ..., -1]
    residual, trouble = _read_residual(container) if whole else ((), container.trouble)
    return DecodedStream(
        codes if not info.levels else codes.first(info.kept),
        known[..., : info.kept],
        kept,
        container.header,
        residual,
        unchecked,
        trouble,
    )


def _read_residual(container: Container) -> tuple[Residual | None, StreamError | None]:
    """What the pixels of a stream that has all its digits lack, and the first trouble."""
    info, trouble = container.header.info, container.trouble
    if info.kind != "picture":
        return (), trouble
    if trouble is not None and container.minor >= EXTRA_MINOR and not container.residuals:
        return None, trouble
    try:
        return read_residuals(container.residuals, info), trouble
    except DamagedStreamError as error:
        return None, trouble or error
