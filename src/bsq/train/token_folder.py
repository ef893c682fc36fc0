"""Codes that `bsq tokenize` made. What enters: its folder. What leaves: batches of a run, from any position on.

The folder's rows are dealt out to the processes by `bsq.data.TokenDataset`; views, cuts and mirrored, are rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from bsq.data.loader import Positions, Share
from bsq.data.tokens import TokenDataset
from bsq.errors import CheckpointError, SettingsError
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer
from bsq.train.tokens import StoredRows, TokenBatch


class TokenFolderSettings(Settings):
    """A folder of tokens.

    folder       what `bsq tokenize -o` wrote, here or at an address
    class_names  a file with the name of each class, one a line; labels of the folder are these names, or their numbers
    mix          rows are mixed within so many shards at a time, which are kept in memory
    """

    kind: Literal["tokens"] = "tokens"
    folder: str
    class_names: str | None = None
    mix: PositiveInt = 8


class FolderCodes:
    """The first `depth` digits of the rows of a folder."""

    def __init__(
        self, place: str, tokenizer: Tokenizer, depth: int, names: tuple[str, ...], seed: int = 0, mix: int = 8
    ) -> None:
        """Raises DataError for a folder that is none, CheckpointError for codes of another tokenizer, SettingsError
        for codes that were cut shorter than `depth`.
        """
        self.place, self.depth, self.names, self.seed, self.mix = place, depth, names, seed, mix
        self.tokens = self._open(0, 1)
        meaning = self.tokens.meaning
        if meaning.code_hash != tokenizer.code_hash:
            raise CheckpointError(
                f"the tokens in {place} are of the tokenizer {meaning.code_hash[:12]} ({meaning.model}), the recipe's "
                f"is {tokenizer.code_hash[:12]}; name that one, or tokenize anew"
            )
        if len(meaning.radices) < depth:
            raise SettingsError(
                f"the tokens in {place} keep {len(meaning.radices)} digits of a code, model.radices are {depth}; "
                "tokenize with more --bits, or model fewer"
            )

    def describe(self) -> str:
        return f"{self.tokens.index.rows:,} rows of tokens"

    @property
    def grid(self) -> tuple[int, ...]:
        """Of the first row."""
        return tuple(self.tokens[0].digits.shape[:3])

    def batches(self, share: Share, first: int, last: int) -> Iterator[TokenBatch]:
        """Micro-batches of one process; its n-th sample is that of its own n-th position in the folder."""
        mine = self._open(share.process, share.processes)
        for positions in Positions(share, first, last):
            steps = [divmod(position, share.batch) for position in positions]
            own = [step * share.local + within - share.process * share.local for step, within in steps]
            batch = mine.collate([mine[place] for place in own])
            yield TokenBatch(batch.codes.digits[..., : self.depth], batch.labels, torch.tensor(positions))

    def every_row(self) -> StoredRows:
        """All of it, in memory, in any order."""
        batch = self.tokens.collate([self.tokens[place] for place in range(len(self.tokens))])
        digits: Tensor = batch.codes.digits
        return StoredRows(digits[..., : self.depth], batch.labels)

    def _open(self, rank: int, ranks: int) -> TokenDataset:
        return TokenDataset(self.place, self.seed, rank, ranks, self.mix, self.names or None)
