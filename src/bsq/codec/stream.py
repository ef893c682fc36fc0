"""Streams. What enters: codes and a prior, or a stream's bytes. What leaves: the other.

`write_codes` and `read_codes` hold the same conversation with the prior (`bsq.prior.base`): the writer answers from the
codes, the reader from the chunks. `read_available` takes what is sound of a stream that was cut short. `inspect` only
measures.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bsq.codec.chunks import ChunkBuilder, open_chunk
from bsq.codec.container import DIGEST_BYTES, Chunk, Container, ContainerWriter, read_container
from bsq.codec.header import Header, Limits, StreamInfo, check_info
from bsq.codes import Codes, digit_bits
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

    codes    (1, T, h, w, kept); digits that are missing are 0
    known    (T, h, w, kept) bool: the digits that the stream gave
    trouble  why digits or the closing digest are missing; None if the stream is whole
    """

    codes: Codes
    known: Tensor
    header: Header
    trouble: StreamError | None

    @property
    def info(self) -> StreamInfo:
        return self.header.info


@dataclass(frozen=True)
class StreamParts:
    """Sizes of a stream's parts, in bytes unless they say otherwise.

    header    with magic, version and checksum
    payload   of the chunks: the coded digits
    framing   tags, lengths and checksums of the chunks
    closing   end mark and digest
    raw_bits  what the digits would take uncoded
    """

    info: StreamInfo
    prior: str
    identity: bytes
    portable: bool
    total: int
    header: int
    payload: int
    framing: int
    closing: int
    raw_bits: int
    chunks: tuple[Chunk, ...] = field(repr=False)
    trouble: StreamError | None

    @property
    def overhead(self) -> int:
        """Bytes that are no coded digits."""
        return self.header + self.framing + self.closing


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
    """As `read_codes`, but a stream that ends early or has a damaged chunk gives the digits before that place.

    The header must be whole. A stream that is whole must be sound too. Where the digest is missing, digits by a prior
    that is not portable are unverified.
    """
    container = read_container(data, limits or Limits())
    return _decode(container, choose_prior(container.header, priors))


def inspect(data: bytes, limits: Limits | None = None) -> StreamParts:
    """Measure a stream without decoding it. Raises for trouble in the header; later trouble is in the result."""
    container = read_container(data, limits or Limits())
    header, chunks = container.header, container.chunks
    payload = sum(len(chunk.payload) for chunk in chunks)
    return StreamParts(
        info=header.info,
        prior=header.prior,
        identity=header.identity,
        portable=header.portable,
        total=len(data),
        header=container.header_bytes,
        payload=payload,
        framing=sum(chunk.framed for chunk in chunks) - payload,
        closing=0 if container.digest is None else 1 + DIGEST_BYTES,
        raw_bits=header.info.grid.tokens * sum(map(digit_bits, header.info.kept_radices)),
        chunks=chunks,
        trouble=container.trouble,
    )


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
    builder = ChunkBuilder(writer, codes.digits[..., 0].numel() * codes.bits_per_code // 8)
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


def _read_group(
    digits: np.ndarray, known: np.ndarray, conversation: Conversation, radices: tuple[int, ...], chunks: deque[Chunk]
) -> bool:
    """Fill `digits` and `known` (n, L) from the chunks; False if they run out before the conversation ends."""
    question = _first_question(conversation)
    source, end, last = None, 0, -1
    while question is not None:
        if question.chunk >= end:
            if source is not None:
                source.close()
            if not chunks:
                return False
            chunk = chunks.popleft()
            end += chunk.steps
            if question.chunk >= end:
                raise DamagedStreamError("a chunk holds no digits")
            source = open_chunk(chunk)
        assert source is not None
        answer = source.read(question, radices[question.digit])
        _check_unasked(known, question.tokens, question.digit)
        digits[question.tokens, question.digit] = answer
        last = question.chunk
        question = _answer(conversation, answer)
    if source is not None:
        source.close()
    if end != last + 1:
        raise DamagedStreamError("the chunks do not fit the digits")
    return True


def _decode(container: Container, prior: Prior) -> DecodedStream:
    info = container.header.info
    grid, radices = info.grid, info.kept_radices
    digits = np.zeros((grid.tokens, info.kept), np.uint8 if max(radices) <= 256 else np.int32)
    known = np.zeros(digits.shape, bool)
    chunks = deque(container.chunks)
    start, whole = 0, True
    for group in info.groups:
        part = slice(start, start + group.tokens)
        start += group.tokens
        # Without a chunk the prior, which may be slow, is not even asked.
        try:
            conversation = prior.converse(group, radices)
            whole = bool(chunks) and _read_group(digits[part], known[part], conversation, radices, chunks)
        except DamagedStreamError as error:
            raise _mismatch(container.header, str(error)) from error
        if not whole:
            break
    if chunks or (not whole and container.trouble is None):
        raise DamagedStreamError("the chunks do not fit the digits")
    shape = (grid.frames, grid.height, grid.width, info.kept)
    codes = Codes(torch.from_numpy(digits).reshape(1, *shape), radices)
    if container.digest is not None and container.digest != closing_digest(codes, info):
        raise _mismatch(container.header, "the closing digest does not hold: these are not the codes that were written")
    return DecodedStream(codes, torch.from_numpy(known).reshape(shape), container.header, container.trouble)


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
