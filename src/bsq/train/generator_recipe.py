"""The recipe of a generator. What enters: settings. What leaves: them, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, PositiveInt, Tag, model_validator

from bsq.data.sources import AnySource
from bsq.generate.masking import MaskingSettings
from bsq.generate.network import GeneratorSettings
from bsq.generate.sampler import SamplerSettings
from bsq.settings import Settings
from bsq.train.live_codes import LiveCodeSettings
from bsq.train.run_settings import RunSettings
from bsq.train.token_folder import TokenFolderSettings
from bsq.train.tokens import TokenDataSettings


def kind_of(data: Any) -> str:
    """Pictures that are encoded once, where nothing else is said."""
    return str(data.get("kind", "pictures") if isinstance(data, Mapping) else getattr(data, "kind", "pictures"))


CodeSettings = Annotated[
    Annotated[TokenDataSettings, Tag("pictures")]
    | Annotated[TokenFolderSettings, Tag("tokens")]
    | Annotated[LiveCodeSettings, Tag("live")],
    Discriminator(kind_of),
]


class NewSampleSettings(Settings):
    """A sheet of `count` new pictures every `every` pictures, drawn as `sampler` says; and of the pictures in `source`
    or the folder `tokens` of `bsq tokenize`, which are not trained on, the bits a token that they would take in
    `passes` passes.
    """

    every: PositiveInt = 100_000
    count: PositiveInt = 16
    source: AnySource = ()
    tokens: str | None = None
    passes: PositiveInt = 8
    sampler: SamplerSettings = SamplerSettings()


class GeneratorRecipe(RunSettings):
    """All that determines the training of a generator on the codes of `tokenizer` (a name, folder or hub id)."""

    kind: Literal["generator"]
    tokenizer: str
    model: GeneratorSettings
    data: CodeSettings
    masking: MaskingSettings = MaskingSettings()
    samples: NewSampleSettings = NewSampleSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.model.classes and self.data.class_names is None:
            raise ValueError(f"model.classes={self.model.classes} want names: data.class_names=FILE, one a line")
        if self.samples.source and self.samples.tokens is not None:
            raise ValueError("samples.source and samples.tokens both name what is held out; give one of them")
        if self.samples.source and isinstance(self.data, TokenFolderSettings):
            raise ValueError(
                "samples.source are pictures, and data.folder does not say how to cut them; give samples.tokens"
            )
        return self
