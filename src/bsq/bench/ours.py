"""`.bsq` files in the same harness. What enters: uint8 (H, W, 3) and bits a code. What leaves: a stream, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from bsq.codec.picture import compress, decompress
from bsq.codec.seeking import told_search
from bsq.codec.shelf import named_model, prior_called
from bsq.errors import SettingsError
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer

PriorName = Literal["auto", "learned", "adaptive", "raw"]  # auto: the best one there is for the tokenizer
PRIOR_WORDS = {"masked": "learned", "adaptive": "adaptive", "uniform": "raw"}  # a prior's kind, as users ask for it


def shown_name(model: str) -> str:
    """What reports call a model: folders by their last name, since reports are for other machines too.

    The folder "model" of a training run goes by the run's name.
    """
    if not Path(model).is_dir():
        return model
    folder = Path(model).resolve()
    return folder.parent.name if folder.name == "model" and folder.parent.name else folder.name


class OursSettings(Settings):
    """A tokenizer, a prior, and the bits a code to write files at: eighths of a code's length, all numbers, or any;
    with `allocate` each of these files' bytes are shared out among the tokens, with `search` the codes are searched for
    in so many steps (None: as `bsq encode` does unasked).
    """

    kind: Literal["bsq"] = "bsq"
    model: str = "biscuit-s"  # a bundled name, a folder or a hub id
    prior: PriorName = "auto"
    bits: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | Literal["eighths", "all"] = "eighths"
    allocate: bool = False
    search: NonNegativeInt | None = None


class OursCodec:
    """Quality is the number of bits a code keeps."""

    def __init__(self, settings: OursSettings, tokenizer: Tokenizer | None = None) -> None:
        """`tokenizer` is used in place of `settings.model`. SettingsError for bits or a prior it does not have."""
        self.tokenizer = tokenizer or named_model(settings.model)
        self._prior = prior_called(settings.prior, self.tokenizer)
        self._bits = chosen_bits(settings, len(self.tokenizer.radices))
        words = PRIOR_WORDS.get(self._prior.name, self._prior.name)
        self._allocate, self._search = settings.allocate, settings.search
        manners = ["allocated"] if settings.allocate else []
        manners += [] if settings.search is None else [f"searched {settings.search}"]
        self.name = "bsq" if settings.prior == "auto" else f"bsq-{settings.prior}"
        self.label = f"bsq, {words} prior"
        for manner in manners:
            self.name += f"-{manner.replace(' ', '-')}"
            self.label += f", {manner}"
        self.description = f"model {shown_name(settings.model)}, {words} prior {bytes(self._prior.identity).hex()}"
        self.description += f", {told_search(settings.search)}"

    def qualities(self) -> Sequence[float]:
        return self._bits

    def encode(self, picture: np.ndarray, quality: float) -> bytes:
        return compress(
            picture,
            self.tokenizer,
            bits=int(quality),
            prior=self._prior,
            allocate=self._allocate,
            search=self._search,
        )

    def decode(self, data: bytes) -> np.ndarray:
        return decompress(data, self.tokenizer, priors=(self._prior,))

    def charged(self, data: bytes) -> int:
        """All of the file: unlike the others, ours is charged for its header, framing and digest."""
        return len(data)


def chosen_bits(settings: OursSettings, length: int) -> tuple[int, ...]:
    """Numbers of bits in ascending order, for codes of `length` digits. SettingsError for more than there are."""
    match settings.bits:
        case "eighths":
            return tuple(sorted({max(1, length * eighth // 8) for eighth in range(1, 9)}))
        case "all":
            return tuple(range(1, length + 1))
        case bits:
            if max(bits) > length:
                raise SettingsError(f"bits go up to {length} for {settings.model}, got {max(bits)}")
            return tuple(sorted(set(bits)))
