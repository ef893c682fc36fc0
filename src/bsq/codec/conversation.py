"""One group's conversation with the prior. What enters: codes of the group, or its chunks. What leaves: the other.

Writer and reader hold the same conversation (`bsq.prior.base`): the writer answers from the codes, the reader from the
chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bsq.codec.chunks import ChunkBuilder, ChunkSink, open_chunk
from bsq.codec.framing import Chunk
from bsq.codec.header import Header
from bsq.codes import Codes
from bsq.errors import DamagedStreamError, NotPortableError, SettingsError, StreamError, WrongModelError
from bsq.prior.base import Conversation, Grid, Prior, Question, reply


def write_group(codes: Codes, prior: Prior, writer: ChunkSink) -> None:
    """Codes (1, T, h, w, kept) of a group → its chunks."""
    digits = codes.digits.reshape(-1, codes.length).cpu().numpy()
    asked = np.zeros(digits.shape, bool)
    builder = ChunkBuilder(writer)
    conversation = prior.converse(Grid(*codes.shape[1:4]), codes.radices)
    question = next(conversation, None)
    while question is not None:
        _check_unasked(asked, question.tokens, question.digit)
        answer = digits[question.tokens, question.digit].astype(np.int64)
        builder.add(question, answer, codes.radices[question.digit])
        question = reply(conversation, answer)
    # A reader takes digits that nobody asks for as 0.
    if digits[~asked].any():
        raise ValueError(f"the {prior.name} prior left {asked.size - asked.sum()} digits unasked")
    builder.close()


@dataclass(frozen=True)
class Table:
    """Digits (n, L) of a group of frames, and which of them are known; filled while reading."""

    digits: np.ndarray
    known: np.ndarray

    def part(self, tokens: slice) -> Table:
        return Table(self.digits[tokens], self.known[tokens])

    def enter(self, question: Question, answer: np.ndarray) -> None:
        """The answers to a question, or to the first tokens of it."""
        tokens = question.tokens[: len(answer)]
        _check_unasked(self.known, tokens, question.digit)
        self.digits[tokens, question.digit] = answer


def read_group(table: Table, prior: Prior, grid: Grid, radices: tuple[int, ...], chunks: Iterable[Chunk]) -> bool:
    """Fill the table from the chunks; False if they run out before the conversation ends. Raises WrongModelError."""
    conversation, question = _begin(prior, grid, radices)
    unread = deque(chunks)
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
        question = reply(conversation, answer)
    if source is not None:
        source.close()
    if end != last + 1 or unread:
        raise DamagedStreamError("the chunks do not fit the digits")
    return True


def mismatch(header: Header, what: str) -> StreamError:
    """Bytes with sound checksums that give no codes or other codes: damage, unless the prior itself may differ."""
    if header.portable:
        return DamagedStreamError(what)
    return NotPortableError(
        f"the {header.prior} prior computes in floating point and came out differently on this machine; "
        "decode where the stream was written, or write it with a portable prior"
    )


def _begin(prior: Prior, grid: Grid, radices: tuple[int, ...]) -> tuple[Conversation, Question | None]:
    """A prior that does not model codes like these did not write the stream, whatever its header says."""
    try:
        conversation = prior.converse(grid, radices)
        return conversation, next(conversation, None)
    except SettingsError as error:
        raise WrongModelError(f"the prior does not fit the stream's codes: {error}") from error


def _check_unasked(asked: np.ndarray, tokens: np.ndarray, digit: int) -> None:
    """Mark digits as asked; a prior that asks twice is broken."""
    if asked[tokens, digit].any():
        raise ValueError(f"the prior asked twice for digit {digit} of a token")
    asked[tokens, digit] = True
