"""Codes to train a generator on. What enters: pictures and a tokenizer. What leaves: digits and labels, made once.

`encode_pictures` makes them when a run begins: of each picture some views, cut as `bsq.data.transforms` says, each as
it is and mirrored if asked for. Other ways to codes: a folder of `bsq tokenize` (`token_folder`), and codes made as
they are needed (`live_codes`).
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
import torch
from pydantic import PositiveInt, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from bsq.data.dataset import as_clip, to_pixels
from bsq.data.files import Existing, write_file
from bsq.data.labels import labels_of, read_class_names
from bsq.data.loader import Positions, Share
from bsq.data.pictures import open_picture
from bsq.data.sources import AnySource, open_source
from bsq.data.stored import Kind, Stored
from bsq.data.streams import Refused
from bsq.data.transforms import CropSettings, central_crop, random_crop
from bsq.errors import BsqError, DataError
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer

ORDER, VIEWS = 0, 9
"""Which streams of random numbers orders and cuts are drawn from (others: see `bsq.data`)."""
PORTION = 32
SHOWN = 3  # pictures that cannot be read, of which more are only counted


class LabelledPictures(Settings, ABC):
    """Pictures that become codes. `class_names`: a file with the name of each class, one a line."""

    source: AnySource
    class_names: str | None = None

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if not self.source:
            raise ValueError("data.source names nothing; give folders or tars of pictures")
        return self


class TokenDataSettings(LabelledPictures):
    """Pictures, and the views of each that are encoded.

    views        squares of `crop` pixels: the first from the middle, others at random
    mirrored     each view also mirrored left and right
    cache        a folder that keeps the codes for other runs; None: they are made again for each run
    """

    kind: Literal["pictures"] = "pictures"
    crop: PositiveInt = 128
    short_side: PositiveInt | None = None
    views: PositiveInt = 1
    mirrored: Literal["also", "never"] = "also"
    cache: str | None = None

    @property
    def crops(self) -> CropSettings:
        return CropSettings(crop=self.crop, short_side=self.short_side)


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """`digits` (B, T, h, w, L), `labels` (B,) int64 (−1: none), `positions` (B,) int64 in the run."""

    digits: Tensor
    labels: Tensor
    positions: Tensor
    unreadable: tuple[object, ...] = ()


class TrainingCodes(Protocol):
    """What a generator is trained on."""

    def describe(self) -> str: ...

    @property
    def grid(self) -> tuple[int, ...]:
        """Frames, rows and columns of tokens."""
        ...

    def batches(self, share: Share, first: int, last: int) -> Iterator[TokenBatch]:
        """One process's micro-batches of whole steps, from position `first` to `last`."""
        ...


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows in memory: digits (N, T, h, w, L), labels (N,), which come in an order of their own in each epoch; pictures
    that gave none.
    """

    digits: Tensor
    labels: Tensor
    seed: int = 0
    refused: tuple[Refused, ...] = ()

    def __len__(self) -> int:
        return len(self.digits)

    def describe(self) -> str:
        told = f"codes of {len(self):,} views of pictures"
        if not self.refused:
            return told
        shown = "; ".join(map(str, self.refused[:SHOWN])) + ("; …" if len(self.refused) > SHOWN else "")
        return f"{told}, without {len(self.refused):,} that cannot be read: {shown}"

    @property
    def grid(self) -> tuple[int, ...]:
        return tuple(self.digits.shape[1:4])

    def batches(self, share: Share, first: int, last: int) -> Iterator[TokenBatch]:
        order: dict[int, np.ndarray] = {}
        for positions in Positions(share, first, last):
            chosen = torch.tensor([row_at(self, self.seed, position, order) for position in positions])
            yield TokenBatch(self.digits[chosen], self.labels[chosen], torch.tensor(positions))


def row_at(rows: Sized, seed: int, position: int, order: dict[int, np.ndarray]) -> int:
    """Which row stands at a position: each epoch has a permutation of its own. `order` keeps the last one."""
    epoch, place = divmod(position, len(rows))
    if epoch not in order:
        order.clear()
        order[epoch] = np.random.default_rng((seed, ORDER, epoch)).permutation(len(rows))
    return int(order[epoch][place])


def encode_pictures(
    settings: TokenDataSettings,
    source: AnySource,
    tokenizer: Tokenizer,
    bits: int,
    say: Callable[[int, int], None] = lambda done, total: None,
    seed: int = 0,
) -> StoredRows:
    """All views of the pictures of `source` that can be read, from the cache if they lie there; they will come in an
    order that follows from `seed`.

    Raises DataError if there are none, or streams, which can only be tokenized beforehand.
    """
    items = stored_pictures(source)
    names = () if settings.class_names is None else read_class_names(settings.class_names)
    labels = labels_of(items, names)
    name = _key(settings, items, labels, tokenizer, bits)
    cache = None if settings.cache is None else Path(settings.cache) / name
    if cache is not None and cache.exists():
        try:
            tensors = load_file(cache)
            return StoredRows(tensors["digits"], tensors["labels"], seed)
        except (OSError, SafetensorError, KeyError):
            pass  # a file that is damaged is made again
    rows = replace(_encode_all(settings, items, labels, tokenizer, bits, say), seed=seed)
    if cache is not None:
        write_file(cache, save({"digits": rows.digits, "labels": rows.labels}), Existing.REPLACE)
    return rows


def stored_pictures(source: AnySource) -> list[Stored]:
    """Raises DataError for streams, which can only be read in their own order."""
    found = open_source(source, Kind.PICTURES)
    if not isinstance(found, Sequence) or not all(isinstance(item, Stored) for item in found):
        raise DataError("a generator is trained on stored pictures; turn streams into tokens beforehand: bsq tokenize")
    return [item for item in found if isinstance(item, Stored)]


def _encode_all(
    settings: TokenDataSettings,
    items: Sequence[Stored],
    labels: Sequence[int],
    tokenizer: Tokenizer,
    bits: int,
    say: Callable[[int, int], None],
) -> StoredRows:
    digits: list[Tensor] = []
    numbers: list[int] = []
    waiting: list[Tensor] = []
    refused: list[Refused] = []
    for number, item in enumerate(items):
        try:
            views = list(_views(settings, item, number))
        except (BsqError, OSError) as error:
            refused.append(Refused(item.name, str(error)))
            views = []
        waiting += views
        numbers += [labels[number]] * len(views)
        is_last = number == len(items) - 1
        if waiting and (len(waiting) >= PORTION or is_last):
            digits.append(tokenizer.encode(to_pixels(torch.stack(waiting)), bits).digits.cpu())
            waiting = []
        say(number + 1, len(items))
    if not digits:
        raise DataError(f"none of {len(items)} pictures can be read, the first not because {refused[0].reason}")
    return StoredRows(torch.cat(digits), torch.tensor(numbers), refused=tuple(refused))


def _views(settings: TokenDataSettings, item: Stored, number: int) -> Iterator[Tensor]:
    """uint8 (3, 1, crop, crop)."""
    picture = open_picture(item.read())
    for view in range(settings.views):
        random = np.random.default_rng((VIEWS, number, view))
        cut = random_crop(picture, settings.crops, random) if view else central_crop(picture, settings.crops)
        yield as_clip(cut)
        if settings.mirrored == "also":
            yield as_clip(np.ascontiguousarray(cut[:, ::-1]))


def _key(
    settings: TokenDataSettings, items: Sequence[Stored], labels: Sequence[int], tokenizer: Tokenizer, bits: int
) -> str:
    """A file name that says what the codes were made of."""
    told = settings.model_dump(mode="json", exclude={"source", "cache", "class_names"})
    times = {path: _changed(path) for path in {item.path for item in items}}
    places = [[i.path, i.offset, i.length, i.member, times[i.path]] for i in items]
    facts = [told, bits, tokenizer.code_hash, places, list(labels)]
    return f"codes-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]}.safetensors"


def _changed(path: str) -> int | None:
    """When a file was last written, in nanoseconds; None for what is elsewhere."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None
