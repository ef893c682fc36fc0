"""What is trained on, and how progress shows. What enters: a recipe. What leaves: batches, and sheets of samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from bsq.checkpoint import load
from bsq.data.dataset import to_pixels
from bsq.data.labels import read_class_names
from bsq.data.loader import Share, load_batches, open_dataset, open_samples
from bsq.errors import SettingsError, ShapeError
from bsq.generate.folder import GeneratorCard
from bsq.generate.likelihood import code_length
from bsq.generate.network import Generator
from bsq.generate.sampler import Sampler
from bsq.tokenizer import Tokenizer
from bsq.train.generator_recipe import GeneratorRecipe
from bsq.train.live_codes import LiveCodes, LiveCodeSettings
from bsq.train.logs import progress_bar
from bsq.train.samples import Sheet, draw_sheet, tile
from bsq.train.token_folder import FolderCodes, TokenFolderSettings
from bsq.train.tokens import StoredRows, TokenDataSettings, TrainingCodes, encode_pictures
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
        self.codes = self._open(names, accelerator)
        if self.codes.grid != recipe.model.grid:
            raise ShapeError(f"the codes have grids {self.codes.grid}, not {recipe.model.grid}")
        self.held_out: StoredRows | None = None

    def _open(self, names: tuple[str, ...], accelerator: Accelerator) -> TrainingCodes:
        recipe, tokenizer, depth = self.recipe, self.tokenizer, len(self.recipe.model.radices)
        match recipe.data:
            case TokenFolderSettings(folder=folder, mix=mix):
                return FolderCodes(folder, tokenizer, depth, names, recipe.seed, mix)
            case LiveCodeSettings() as live:
                return LiveCodes(live, tokenizer, depth, names, recipe.seed)
            case TokenDataSettings() as once:
                bar = progress_bar(accelerator.is_main_process, "encoding pictures")
                with accelerator.main_process_first(), bar as tell:  # the others find its cache
                    return encode_pictures(once, once.source, tokenizer, depth, tell, recipe.seed)
            case other:
                raise SettingsError(f"no codes from {other!r}")

    def describe(self) -> str:
        return self.codes.describe()

    def batches(self, share: Share, first: int, last: int) -> Iterator[Any]:
        return self.codes.batches(share, first, last)

    def look_at_samples(self) -> None:
        recipe, samples, depth = self.recipe, self.recipe.samples, len(self.recipe.model.radices)
        if samples.tokens is not None:
            self.held_out = FolderCodes(samples.tokens, self.tokenizer, depth, self.card.class_names).every_row()
        elif samples.source:
            assert not isinstance(recipe.data, TokenFolderSettings), "the recipe checks it"
            alone = TokenDataSettings(
                source=samples.source,
                class_names=recipe.data.class_names,
                crop=recipe.data.crop,
                short_side=recipe.data.short_side,
                mirrored="never",
            )
            self.held_out = encode_pictures(alone, samples.source, self.tokenizer, depth)

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
