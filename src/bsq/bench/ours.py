"""`.bsq` files in the same harness. What enters: uint8 (H, W, 3) and bits a code. What leaves: a stream, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import PositiveInt

from bsq.codec.picture import compress, decompress
from bsq.codec.shelf import named_model, prior_called
from bsq.errors import SettingsError
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer

PriorName = Literal["auto", "learned", "adaptive", "raw"]  # auto: the best one there is for the tokenizer


def shown_name(model: str) -> str:
    """What reports call a model: folders by their last name, since reports are for other machines too."""
    return Path(model).resolve().name if Path(model).is_dir() else model


class OursSettings(Settings):
    """A tokenizer, a prior, and the numbers of bits a code at which files are written."""

    kind: Literal["bsq"] = "bsq"
    model: str = "biscuit-s"  # a bundled name, a folder or a hub id
    prior: PriorName = "auto"
    bits: tuple[PositiveInt, ...] | None = None  # None: quarters of a code's length


class OursCodec:
    """Quality is the number of bits a code keeps."""

    def __init__(self, settings: OursSettings, tokenizer: Tokenizer | None = None) -> None:
        """`tokenizer` is used in place of `settings.model`. SettingsError for bits or a prior it does not have."""
        self.tokenizer = tokenizer or named_model(settings.model)
        self._prior = prior_called(settings.prior, self.tokenizer)
        length = len(self.tokenizer.radices)
        self._bits = tuple(sorted(settings.bits or {max(1, length * quarter // 4) for quarter in (1, 2, 3, 4)}))
        if self._bits[-1] > length:
            raise SettingsError(f"bits go up to {length} for {settings.model}, got {self._bits[-1]}")
        self.name = "bsq" if settings.prior == "auto" else f"bsq-{settings.prior}"
        self.label = f"bsq ({self._prior.name})"
        self.description = (
            f"model {shown_name(settings.model)}, prior {self._prior.name}, {list(self._bits)} bits a code"
        )

    def qualities(self) -> Sequence[float]:
        return self._bits

    def encode(self, picture: np.ndarray, quality: float) -> bytes:
        return compress(picture, self.tokenizer, bits=int(quality), prior=self._prior)

    def decode(self, data: bytes) -> np.ndarray:
        return decompress(data, self.tokenizer, priors=(self._prior,))
