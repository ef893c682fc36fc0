"""Where the inputs of a shard are. What enters: a line of the plan. What leaves: parts of folders, tars, Parquet files.

A piece is small, whatever it holds; the plan is made of them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Piece(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FilesPiece(Piece):
    """Files below `root`, each a name and its bytes (-1: not asked)."""

    kind: Literal["files"] = "files"
    root: str
    files: tuple[tuple[str, int], ...]

    @property
    def count(self) -> int:
        return len(self.files)


class ContainerPiece(Piece):
    """Inputs first … first + count − 1 of a file of many, `size` bytes long, called `key` in the keys of its inputs.

    `count` None: all of it, read in order, however many there are (tars elsewhere, and what could not be searched).
    """

    address: str
    key: str
    size: int
    first: int = 0
    count: int | None = None


class TarPiece(ContainerPiece):
    kind: Literal["tar"] = "tar"


class ParquetPiece(ContainerPiece):
    kind: Literal["parquet"] = "parquet"


AnyPiece = Annotated[FilesPiece | TarPiece | ParquetPiece, Field(discriminator="kind")]
PIECES = TypeAdapter(tuple[AnyPiece, ...])
"""A shard's pieces as a line of JSON, and back."""


def count_of(pieces: tuple[AnyPiece, ...]) -> int | None:
    """How many inputs, None where nobody knows before they are read."""
    counts = [piece.count for piece in pieces]
    return None if None in counts else sum(filter(None, counts))
