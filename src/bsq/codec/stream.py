"""Streams. What enters: codes and a prior, or a stream's bytes. What leaves: the other.

`write_codes` and `read_codes` hold the same conversation with the prior (`bsq.prior.base`): the writer answers from the
codes, the reader from the chunks. `read_available` takes what is sound of a stream that was cut or damaged.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from bsq.codec.chunks import ChunkBuilder, open_chunk
from bsq.codec.container import Container, ContainerWriter, read_container
from bsq.codec.framing import DIGEST_BYTES, Chunk
from bsq.codec.header import Header, Limits, StreamInfo, check_info
from bsq.codes import Codes
from bsq.errors import (
    CodesError,
    DamagedStreamError,
    NotPortableError,
    SettingsError,
    StreamError,
    WrongModelError,
)
from bsq.prior.base import Conversation, Grid, Prior, Question
from bsq.prior.uniform import UniformPrior


@dataclass(frozen=True)
class DecodedStream:
    """What a stream holds.

    codes      (1, T, h, w, kept); digits that are missing are 0
    known      (T, h, w, kept) bool: the digits that the stream gave
    unchecked  bytes behind the last checksum of a stream that was cut, and used: right unless they were changed, too
    trouble    why digits or the closing digest are missing; None if the stream is whole
    """

    codes: Codes
    known: Tensor
    header: Header
    unchecked: int
    trouble: StreamError | None

    @property
    def info(self) -> StreamInfo:
        return self.header.info


def write_codes(codes: Codes, info: StreamInfo, prior: Prior) -> bytes:
    """Codes (1, T, h, w, kept) → a `.bsq` stream.

    Raises CodesError where the codes do not fit the description, or the description contradicts itself.
    """
    check_info(info, CodesError)
    _check_codes(codes, info)
    header = Header(info, prior.name, bytes(prior.identity), prior.portable)
    writer = ContainerWriter(header)
    for group in split_groups(codes, info):
        _write_group(group, prior, writer)
    return writer.finish(closing_digest(codes, info))


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
    wanted = (1, grid.frames, grid.height, grid.width, info.kept)
    if codes.shape != wanted:
        raise CodesError(f"codes must be (1, T, h, w, kept) = {wanted} as the description says, got {codes.shape}")
    if codes.radices != info.kept_radices:
        raise CodesError(f"codes have radices {codes.radices[:8]}, the description {info.kept_radices[:8]}")


def _write_group(codes: Codes, prior: Prior, writer: ContainerWriter) -> None:
    digits = codes.digits.reshape(-1, codes.length).cpu().numpy()
    asked = np.zeros(digits.shape, bool)
    builder = ChunkBuilder(writer)
    conversation = prior.converse(Grid(*codes.shape[1:4]), codes.radices)
    question = next(conversation, None)
    while question is not None:
        _check_unasked(asked, question.tokens, question.digit)
        answer = digits[question.tokens, question.digit].astype(np.int64)
        builder.add(question, answer, codes.radices[question.digit])
        question = _answer(conversation, answer)
    if not asked.all():
        raise ValueError(f"the {prior.name} prior left {asked.size - asked.sum()} digits unasked")
    builder.close()


@dataclass(frozen=True)
class _Table:
    """Digits (n, L) of a group of frames, and which of them are known; filled while reading."""

    digits: np.ndarray
    known: np.ndarray

    def part(self, tokens: slice) -> _Table:
        return _Table(self.digits[tokens], self.known[tokens])

    def enter(self, question: Question, answer: np.ndarray) -> None:
        """The answers to a question, or to the first tokens of it."""
        tokens = question.tokens[: len(answer)]
        _check_unasked(self.known, tokens, question.digit)
        self.digits[tokens, question.digit] = answer


def _read_group(table: _Table, conversation: Conversation, radices: tuple[int, ...], chunks: Iterable[Chunk]) -> bool:
    """Fill the table from the chunks; False if they run out before the conversation ends."""
    question, unread = _first_question(conversation), deque(chunks)
    source, end, last = None, 0, -1
    while question is not None:
        if question.chunk >= end:
            if source is not None:
                source.close()
            if not unread:
                return False
            chunk = unread.popleft()
            end += chunk.steps
            if question.chunk >= end:
                raise DamagedStreamError("a chunk holds no digits")
            source = open_chunk(chunk)
        assert source is not None
        answer = source.read(question, radices[question.digit])
        table.enter(question, answer)
        if len(answer) < len(question.tokens):
            return False
        last = question.chunk
        question = _answer(conversation, answer)
    if source is not None:
        source.close()
    if end != last + 1 or unread:
        raise DamagedStreamError("the chunks do not fit the digits")
    return True


def _decode(container: Container, prior: Prior) -> DecodedStream:
    info = container.header.info
    grid, radices = info.grid, info.kept_radices
    digits = np.zeros((grid.tokens, info.kept), np.uint8 if max(radices) <= 256 else np.int32)
    table = _Table(digits, np.zeros(digits.shape, bool))
    start, whole = 0, True
    of_groups = {group: list(chunks) for group, chunks in groupby(container.chunks, lambda chunk: chunk.group)}
    for number, group in enumerate(info.groups):
        part = table.part(slice(start, start + group.tokens))
        start += group.tokens
        chunks = of_groups.get(number, [])
        # Without a chunk the prior, which may be slow, is not even asked.
        try:
            whole &= bool(chunks) and _read_group(part, prior.converse(group, radices), radices, chunks)
        except DamagedStreamError as error:
            raise _mismatch(container.header, str(error)) from error
    if not whole and container.trouble is None:
        raise DamagedStreamError("the chunks do not fit the digits")
    shape = (grid.frames, grid.height, grid.width, info.kept)
    codes = Codes(torch.from_numpy(digits).reshape(1, *shape), radices)
    if container.trouble is None and container.digest != closing_digest(codes, info):
        raise _mismatch(container.header, "the closing digest does not hold: these are not the codes that were written")
    unchecked = sum(len(chunk.payload) - chunk.checked for chunk in container.chunks)
    return DecodedStream(
        codes, torch.from_numpy(table.known).reshape(shape), container.header, unchecked, container.trouble
    )


def _mismatch(header: Header, what: str) -> StreamError:
    """Bytes with sound checksums that give no codes or other codes: damage, unless the prior itself may differ."""
    if header.portable:
        return DamagedStreamError(what)
    return NotPortableError(
        f"the {header.prior} prior computes in floating point and came out differently on this machine; "
        "decode where the stream was written, or write it with a portable prior"
    )


def _first_question(conversation: Conversation) -> Question | None:
    """A prior that does not model codes like these did not write the stream, whatever its header says."""
    try:
        return next(conversation, None)
    except SettingsError as error:
        raise WrongModelError(f"the prior does not fit the stream's codes: {error}") from error


def _answer(conversation: Conversation, answer: np.ndarray) -> Question | None:
    """The next question, None when the conversation is over."""
    try:
        return conversation.send(answer)
    except StopIteration:
        return None


def _check_unasked(asked: np.ndarray, tokens: np.ndarray, digit: int) -> None:
    """Mark digits as asked; a prior that asks twice is broken."""
    if asked[tokens, digit].any():
        raise ValueError(f"the prior asked twice for digit {digit} of a token")
    asked[tokens, digit] = True
