"""What is trained on, and how progress shows. What enters: a recipe. What leaves: batches, and sheets of samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from bsq.checkpoint import load
from bsq.data.dataset import to_pixels
from bsq.data.labels import read_class_names
from bsq.data.loader import Positions, Share, load_batches, open_dataset, open_samples
from bsq.errors import SettingsError, ShapeError
from bsq.generate.folder import GeneratorCard
from bsq.generate.likelihood import code_length
from bsq.generate.network import Generator
from bsq.generate.sampler import Sampler
from bsq.tokenizer import Tokenizer
from bsq.train.generator_recipe import GeneratorRecipe
from bsq.train.logs import progress_bar
from bsq.train.samples import Sheet, draw_sheet, tile
from bsq.train.tokens import StoredRows, encode_pictures, take
from bsq.train.trainer import Trainer


class Material(Protocol):
    """The data of a run."""

    def describe(self) -> str: ...

    def batches(self, share: Share, first: int, last: int) -> Iterator[Any]:
        """This process's micro-batches of whole steps, from position `first` to `last`."""
        ...

    def look_at_samples(self) -> None:
        """Read what sheets are drawn from; the main process does."""
        ...

    def sheet(self, averaged: Any) -> Sheet:
        """What the averaged model does with the samples."""
        ...


class PictureMaterial:
    """Pictures and clips for a tokenizer."""

    def __init__(self, trainer: Trainer) -> None:
        recipe = self.recipe = trainer.recipe
        self.dataset = open_dataset(recipe.data, recipe.seed)
        self.sampled: list[Tensor] = []

    def describe(self) -> str:
        return self.dataset.describe()

    def batches(self, share: Share, first: int, last: int) -> Iterator[Any]:
        return iter(load_batches(self.dataset, share, first, last, self.recipe.data.workers))

    def look_at_samples(self) -> None:
        samples, source = self.recipe.samples, self.dataset
        if samples.source or samples.clips:
            source = open_samples(self.recipe.data, samples.source, samples.clips, self.recipe.seed)
        self.sampled = [to_pixels(stored) for stored in source.central(samples.count)]

    def sheet(self, averaged: Tokenizer) -> Sheet:
        nested = self.recipe.nested
        rates: list[int | None] = [None]
        if nested is not None:
            rates = [*sorted({*nested.choices, len(averaged.radices)})]
        return draw_sheet(averaged, self.sampled, rates)


class CodeMaterial:
    """Codes of pictures for a generator."""

    def __init__(self, recipe: GeneratorRecipe, accelerator: Accelerator) -> None:
        """Raises SettingsError, ShapeError where tokenizer, classes or pictures do not fit the recipe's model."""
        self.recipe, radices = recipe, recipe.model.radices
        self.tokenizer = load(recipe.tokenizer, accelerator.device)
        if self.tokenizer.radices[: len(radices)] != radices:
            raise SettingsError(
                f"model.radices are {len(radices)} digits that {recipe.tokenizer}, with {len(self.tokenizer.radices)} "
                "digits, does not begin with"
            )
        names = () if recipe.data.class_names is None else read_class_names(recipe.data.class_names)
        if recipe.model.classes and recipe.model.classes != len(names):
            raise SettingsError(f"model.classes={recipe.model.classes}, but data.class_names has {len(names)} names")
        kept = names if recipe.model.classes else ()
        self.card = GeneratorCard(
            network=recipe.model, tokenizer=recipe.tokenizer, code_hash=self.tokenizer.code_hash, class_names=kept
        )
        bar = progress_bar(accelerator.is_main_process, "encoding pictures")
        with accelerator.main_process_first(), bar as tell:  # the others find its cache
            self.rows = encode_pictures(recipe.data, recipe.data.source, self.tokenizer, len(radices), tell)
        if tuple(self.rows.digits.shape[1:4]) != recipe.model.grid:
            raise ShapeError(f"the codes have grids {tuple(self.rows.digits.shape[1:4])}, not {recipe.model.grid}")
        if recipe.model.classes and int(self.rows.labels.max()) >= recipe.model.classes:
            raise SettingsError(f"there is a label {int(self.rows.labels.max())}, model.classes={recipe.model.classes}")
        self.held_out: StoredRows | None = None

    def describe(self) -> str:
        return f"codes of {len(self.rows):,} views of pictures"

    def batches(self, share: Share, first: int, last: int) -> Iterator[Any]:
        order: dict[int, np.ndarray] = {}
        for positions in Positions(share, first, last):
            yield take(self.rows, self.recipe.seed, positions, order)

    def look_at_samples(self) -> None:
        data = self.recipe.data
        if source := self.recipe.samples.source:
            alone = data.model_copy(update={"views": 1, "mirrored": "never", "cache": None})
            self.held_out = encode_pictures(alone, source, self.tokenizer, len(self.recipe.model.radices))

    def sheet(self, averaged: Generator) -> Sheet:
        recipe, samples = self.recipe, self.recipe.samples
        classes = recipe.model.classes
        asked = torch.arange(samples.count) * max(1, classes) // samples.count
        codes = Sampler(averaged, samples.sampler).sample(asked, seed=recipe.seed)
        pixels = torch.cat([self.tokenizer.decode(type(codes)(part, codes.radices)) for part in codes.digits.split(16)])
        figures = {}
        if self.held_out is not None:
            labels = self.held_out.labels if classes else torch.full_like(self.held_out.labels, -1)
            known = torch.where(labels < 0, classes, labels)
            bits = code_length(averaged, self.held_out.digits.long(), known, samples.passes, recipe.seed)
            figures["held_out_bits_per_token"] = float(bits.mean()) / self.held_out.digits[0, ..., 0].numel()
        return Sheet(tile(pixels.cpu()), figures, "bits")
