"""Small streams for the tests: a prior that depends on what it was told, descriptions, and files of several kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch

from bsq.codec.info import StreamInfo
from bsq.codec.residual import Layer, Residual
from bsq.codec.stream import CodedStream
from bsq.codes import Codes
from bsq.prior.base import TOTAL_FREQUENCY, Conversation, Grid, Prior, Question
from bsq.prior.uniform import UniformPrior

SOME_LAYER = Layer(16, 8, np.arange(-5, 7).reshape(3, 2, 2))


@dataclass(frozen=True)
class EchoPrior:
    """Expects each digit to be like the one before it, so that a wrong digit spoils all that follows; two chunks a
    digit."""

    name: str = "echo"
    identity: bytes = b"echo-001"
    portable: bool = True
    certainty: int = 60000

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        tokens = np.arange(grid.tokens, dtype=np.int64)
        last = np.zeros(grid.tokens, np.int64)
        for digit, radix in enumerate(radices):
            for half in (0, 1):
                part = tokens[half::2]
                if len(part):
                    last[part] = yield Question(part, digit, self._frequencies(last[part], radix), 2 * digit + half)

    def _frequencies(self, last: np.ndarray, radix: int) -> np.ndarray:
        if radix == 2:
            return np.where(last > 0, self.certainty, TOTAL_FREQUENCY - self.certainty).astype(np.uint16)
        share = max(1, (TOTAL_FREQUENCY - self.certainty) // (radix - 1))
        rows = np.full((len(last), radix), share, np.uint32)
        rows[np.arange(len(last)), last % radix] = 0
        rows[np.arange(len(last)), last % radix] = TOTAL_FREQUENCY - rows.sum(1)
        return rows


@dataclass(frozen=True)
class Sample:
    """Codes, what they mean, the prior, and the stream."""

    codes: Codes
    info: StreamInfo
    prior: Prior
    residual: Residual = ()

    @property
    def data(self) -> bytes:
        return CodedStream(self.codes, self.info, self.prior).stream(residual=self.residual)


def describe(radices: tuple[int, ...], kept: int | None = None, **fields: object) -> StreamInfo:
    sizes = {"height": 19, "width": 30, "patch": 8} | fields
    return StreamInfo(radices=radices, kept=kept or len(radices), code_hash=bytes(range(8)), **sizes)  # type: ignore[arg-type]


def likely_codes(info: StreamInfo, seed: int = 0) -> Codes:
    """Codes whose digits mostly echo the one before, as `EchoPrior` expects."""
    grid, generator = info.grid, torch.Generator().manual_seed(seed)
    columns, last = [], torch.zeros(grid.tokens, dtype=torch.int64)
    for radix in info.kept_radices:
        fresh = torch.randint(0, radix, (grid.tokens,), generator=generator)
        keep = torch.rand(grid.tokens, generator=generator) < 0.85
        last = torch.where(keep & (last < radix), last, fresh)
        columns.append(last)
    return Codes(torch.stack(columns, -1).reshape(1, grid.frames, grid.height, grid.width, -1), info.kept_radices)


def sample(radices: tuple[int, ...], prior: Prior | None = None, **fields: object) -> Sample:
    info = describe(radices, **fields)
    return Sample(likely_codes(info), info, prior or EchoPrior())


def samples() -> dict[str, Sample]:
    video = {"frames": 5, "frame_rate": Fraction(30000, 1001)}
    return {
        "raw picture": sample((2,) * 9, UniformPrior()),
        "coded picture": sample((2,) * 36, kept=30, tokenizer="biscuit-s"),
        "coloured picture": sample((2,) * 12, colours=(9, -300, 0, 1, 0, -64, 7, -2, 0, 5, 90, 200)),
        "picture with a residual": replace(sample((2,) * 12), residual=(SOME_LAYER,)),
        "levels": sample((8, 8, 5, 3, 1000), height=40, width=40),
        "video": sample((2,) * 8, **video),
        "grouped video": sample((2,) * 8, frames_per_group=2, **video),
        "least grid": sample((2,) * 8, least_rows=6, least_columns=5),
    }
