"""New pictures on the page. What enters: a generator's folder, a class, a mask. What leaves: pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bsq.data.pictures import to_pixels, to_uint8
from bsq.demo.drawing import squared
from bsq.errors import SettingsError
from bsq.generate.edit import Editor
from bsq.generate.folder import TrainedGenerator, load_generator
from bsq.generate.guidance import LinearGuidance
from bsq.generate.sampler import SamplerSettings
from bsq.tokenizer import Tokenizer

ANY_CLASS = "any"


@dataclass(frozen=True)
class Manner:
    """How pictures are made: looks of the network at each, weight of the class, seed."""

    steps: int
    guidance: float
    seed: int


@dataclass(frozen=True, eq=False)
class Maker:
    """A generator beside its tokenizer."""

    trained: TrainedGenerator
    tokenizer: Tokenizer

    def editor(self, manner: Manner) -> Editor:
        settings = SamplerSettings(steps=manner.steps, guidance=LinearGuidance(weight=manner.guidance))
        return Editor(self.trained, self.tokenizer, settings)

    @property
    def side(self) -> tuple[int, int]:
        """(H, W) of what it makes."""
        _, rows, columns = self.trained.network.settings.grid
        return rows * self.tokenizer.patch, columns * self.tokenizer.patch

    @property
    def classes(self) -> list[str]:
        """What can be asked for: any class, then each by its name, or its number where it has none."""
        known = self.trained.network.settings.classes
        return [ANY_CLASS, *(self.trained.card.class_names or map(str, range(known)))]

    def number(self, label: str) -> int | None:
        """Of a class in `classes`; None for any."""
        if label not in self.classes:
            raise SettingsError(f"no class {label!r}; choose one of the list")
        return None if label == ANY_CLASS else self.classes.index(label) - 1


def load_maker(folder: str, model: Tokenizer) -> Maker:
    """Raises CheckpointError for no generator, or one of another tokenizer."""
    trained = load_generator(folder, next(model.parameters()).device)
    trained.check(model)
    return Maker(trained, model)


def make(maker: Maker, label: str, count: int, manner: Manner) -> list[np.ndarray]:
    """So many new pictures, uint8 (H, W, 3); of a generator of clips, their first frames."""
    number, editor = maker.number(label), maker.editor(manner)
    none = editor.network.settings.classes
    pictures = []
    for place in range(count):
        codes = editor.sampler.sample(torch.tensor([none if number is None else number]), manner.seed, place)
        pictures.append(to_uint8(maker.tokenizer.decode(codes)[:, :, 0]))
    return pictures


def fitted(maker: Maker, picture: np.ndarray) -> np.ndarray:
    """The middle of a picture in the size that the generator makes."""
    return squared(picture, *maker.side)


def inpaint(maker: Maker, picture: np.ndarray, mask: np.ndarray, label: str, manner: Manner) -> np.ndarray:
    """A picture of the generator's size with what is True in the mask (H, W) made anew.

    Raises SettingsError for an empty mask, ShapeError for one of another size.
    """
    pixels, hidden = to_pixels(picture), torch.from_numpy(mask)
    edited = maker.editor(manner).inpaint(pixels, hidden, maker.number(label), seed=manner.seed)
    height, width, _ = picture.shape
    return to_uint8(edited.pixels(maker.tokenizer)[:, :, 0, :height, :width])


def brushed(layers: list[np.ndarray]) -> np.ndarray:
    """What was painted, bool (H, W): wherever one of the layers, uint8 (H, W, 4), is not transparent."""
    if not layers:
        raise SettingsError("paint over what is to be made anew, then ask for it")
    return np.any([layer[..., 3] > 0 for layer in layers], axis=0)
