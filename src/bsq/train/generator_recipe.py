"""The recipe of a generator. What enters: settings. What leaves: them, checked."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from bsq.data.sources import AnySource
from bsq.generate.masking import MaskingSettings
from bsq.generate.network import GeneratorSettings
from bsq.generate.sampler import SamplerSettings
from bsq.settings import Settings
from bsq.train.run_settings import RunSettings
from bsq.train.tokens import TokenDataSettings


class NewSampleSettings(Settings):
    """A sheet of `count` new pictures every `every` pictures, drawn as `sampler` says; and of the pictures in `source`,
    which are not trained on, the bits a token that they would take in `passes` passes.
    """

    every: PositiveInt = 100_000
    count: PositiveInt = 16
    source: AnySource = ()
    passes: PositiveInt = 8
    sampler: SamplerSettings = SamplerSettings()


class GeneratorRecipe(RunSettings):
    """All that determines the training of a generator on the codes of `tokenizer` (a name, folder or hub id)."""

    kind: Literal["generator"]
    tokenizer: str
    model: GeneratorSettings
    data: TokenDataSettings
    masking: MaskingSettings = MaskingSettings()
    samples: NewSampleSettings = NewSampleSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.model.classes and self.data.class_names is None:
            raise ValueError(f"model.classes={self.model.classes} want names: data.class_names=FILE, one a line")
        return self
