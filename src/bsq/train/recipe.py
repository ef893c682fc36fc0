"""Recipes. What enters: YAML and dotted overrides. What leaves: a checked `Recipe`, and YAML again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import PositiveInt, ValidationError, model_validator

from bsq.data.loader import DataSettings
from bsq.data.sources import AnySource
from bsq.errors import SettingsError
from bsq.layers.positions import LearnedPositionsSettings
from bsq.losses.adversarial import AdversarialSettings
from bsq.losses.discriminators import AnyDiscriminator, ClipStyleGan2Settings, PatchSettings, StyleGan2Settings
from bsq.losses.structure import TRAINING_MIN_SIDE
from bsq.quantizers import BsqSettings, FsqSettings, LfqSettings, VqSettings, build_quantizer, corner_of
from bsq.quantizers.base import Quantizer
from bsq.settings import Settings, told_faults
from bsq.tokenizer import TokenizerSettings
from bsq.train.generator_recipe import GeneratorRecipe
from bsq.train.objective import LossSettings, NestedSettings
from bsq.train.optimizers import AdamWSettings
from bsq.train.rate import RateSettings
from bsq.train.run_settings import RunSettings

BASE = "base"
"""A recipe may name another to start from; the path is relative to its own file."""


class SampleSettings(Settings):
    """A sheet of `count` pictures and clips and their reconstructions every `every` pictures; from `source` and
    `clips`, which are not trained on, or from the training data where these are empty.
    """

    every: PositiveInt = 100_000
    count: PositiveInt = 8
    source: AnySource = ()
    clips: AnySource = ()


class Recipe(RunSettings):
    """All that determines the training of a tokenizer. Lengths are counted in pictures seen, whatever the batch."""

    kind: Literal["tokenizer"] = "tokenizer"
    model: TokenizerSettings
    data: DataSettings
    loss: LossSettings = LossSettings()
    nested: NestedSettings | None = None
    learns: Literal["all", "decoder"] = "all"  # decoder: codes stay those of `initial`, and files of it decodable
    discriminator_optimizer: AdamWSettings = AdamWSettings()
    recompute: bool = False  # activation checkpointing: less memory, a third more computation, the same numbers
    samples: SampleSettings = SampleSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.data.crop % self.model.patch:
            raise ValueError(f"data.crop={self.data.crop} is not a multiple of model.patch={self.model.patch}")
        for part in (self.model.encoder, self.model.decoder):
            match part.positions:
                case LearnedPositionsSettings(frames=frames) if frames < self.data.frames:
                    raise ValueError(f"data.clips.frames={self.data.frames} is more than positions.frames={frames}")
        if self.samples.clips and self.data.clips is None:
            raise ValueError("samples.clips needs data.clips, which says how long clips are")
        if isinstance(self.loss.adversarial, AdversarialSettings):
            check_judge(self.loss.adversarial.discriminator, self.data)
        if self.loss.reconstruction.ms_ssim and self.data.crop < TRAINING_MIN_SIDE:
            raise ValueError(f"loss.reconstruction.ms_ssim needs data.crop of at least {TRAINING_MIN_SIDE}")
        match self.parallel, self.model.quantizer:
            case "fsdp", VqSettings(update="gradient", revive_below=least) if least:
                raise ValueError("parallel=fsdp cannot replace vectors of a learned codebook: say revive_below=0")
        match self.learns, self.model.quantizer:
            case "decoder", BsqSettings() | LfqSettings() | FsqSettings():
                if self.initial is None:
                    raise ValueError("learns=decoder needs a model whose codes it decodes: initial=")
            case "decoder", other:
                raise ValueError(f"learns=decoder is for bsq, lfq and fsq; {other.kind} changes as it is trained")
        if self.loss.rate is not None:
            check_rate(self.loss.rate, build_quantizer(self.model.quantizer))
        if self.nested is not None:
            quantizer = build_quantizer(self.model.quantizer)
            if not quantizer.can_nest or max(self.nested.choices) > len(quantizer.radices):
                digits = len(quantizer.radices)
                raise ValueError(f"nested.choices={self.nested.choices} do not fit a code of {digits} digits")
        return self


def check_rate(rate: RateSettings, quantizer: Quantizer) -> None:
    """Raises ValueError for settings that no prior can have, and for digits that cannot be counted."""
    try:
        corner_of(quantizer, "loss.rate")
        rate.prior(quantizer.radices, 1)
    except SettingsError as error:
        raise ValueError(str(error)) from error
    except ValidationError as error:
        raise ValueError(told_faults(error, "loss.rate")) from error


def check_judge(judge: AnyDiscriminator, data: DataSettings) -> None:
    """Raises ValueError for a discriminator that cannot look at the crops or clips of these data."""
    name = "loss.adversarial.discriminator"
    match judge:
        case StyleGan2Settings(resolution=side) if side != data.crop:
            raise ValueError(f"{name}.resolution={side} is not data.crop={data.crop}, a power of two from 8")
        case ClipStyleGan2Settings(frames=frames) if data.source or frames != data.frames:
            raise ValueError(f"{name}.frames={frames}: this one takes clips of just so many frames, and no pictures")
        case PatchSettings(min_side=least) if least > data.crop:
            raise ValueError(f"{name}.layers={judge.layers} needs crops of at least {least}, got {data.crop}")


AnyRecipe = Recipe | GeneratorRecipe


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe | GeneratorRecipe:
    """The recipe in a YAML file, changed by overrides such as "model.encoder.width=384".

    Raises SettingsError for a file that is missing or no YAML, and for unknown, missing or impossible settings.
    """
    content = read_yaml(Path(path))
    for override in overrides:
        content = merge(content, parse_override(override))
    return check_recipe(content, f"{path} with {', '.join(overrides)}" if overrides else str(path))


def check_recipe(content: Mapping[str, Any], source: str) -> Recipe | GeneratorRecipe:
    """The recipe of the `kind` it names. Raises SettingsError that names each faulty setting by its dotted path."""
    try:
        match content.get("kind", "tokenizer"):
            case "tokenizer":
                return Recipe.model_validate(content)
            case "generator":
                return GeneratorRecipe.model_validate(content)
            case other:
                raise SettingsError(f"{source}: kind is tokenizer or generator, got {other!r}")
    except ValidationError as error:
        raise SettingsError(f"{source}: {told_faults(error)}") from error


def read_yaml(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping in a YAML file, laid over that of its `base` if it names one; `above` are files it is under."""
    if path.resolve() in above:
        raise SettingsError(f"{path} is its own base")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path} must hold settings by name, got {type(content).__name__}")
    base = content.pop(BASE, None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise SettingsError(f"{path}: base must be the path of a recipe, got {base!r}")
    return merge(read_yaml(path.parent / base, (*above, path.resolve())), content)


def parse_override(text: str) -> dict[str, Any]:
    """ "a.b=1" → {"a": {"b": 1}}; the value is read as YAML."""
    name, equals, value = text.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise SettingsError(f"an override reads like model.encoder.width=384, got {text!r}")
    try:
        content = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SettingsError(f"the value of {name} is not YAML: {value!r}") from error
    for key in reversed(keys):
        content = {key: content}
    return content


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `under`, key by key; a mapping of another `kind` replaces the whole of what it covers."""
    merged = dict(under)
    for key, value in over.items():
        below = under.get(key)
        if (
            isinstance(value, Mapping)
            and isinstance(below, Mapping)
            and value.get("kind", below.get("kind")) == (below.get("kind"))
        ):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def write_recipe(recipe: Recipe | GeneratorRecipe) -> str:
    """The whole recipe, defaults included, as YAML that `load_recipe` reads back to an equal one."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
