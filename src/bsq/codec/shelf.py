"""Which tokenizer and which priors belong to a stream. What enters: names, hashes, tokenizers. What leaves: models.

A model's folder may hold the prior that was trained on its codes, beside the tokenizer.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

from bsq.checkpoint import bundled_models, load
from bsq.checkpoint.decoders import split_decoder
from bsq.checkpoint.load import MODELS
from bsq.codec.info import StreamInfo
from bsq.codec.stream import check_tokenizer, short_hash
from bsq.errors import DamagedStreamError, SettingsError, WrongModelError
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.base import Prior
from bsq.prior.freeze import SETTINGS_FILE, load_prior, read_record
from bsq.prior.uniform import UniformPrior
from bsq.tokenizer import Tokenizer

DEFAULT_MODEL = "biscuit-s"
FRAMES_PER_GROUP = 24

_names: WeakKeyDictionary[Tokenizer, str] = WeakKeyDictionary()
_folders: WeakKeyDictionary[Tokenizer, Path] = WeakKeyDictionary()


def named_model(name: str | Path, device: str = "cpu") -> Tokenizer:
    """The tokenizer of a bundled name, a folder or a hub id, with ":DECODER" behind it or without; bundled ones are
    loaded once. Raises CheckpointError.
    """
    owner, _ = split_decoder(str(name))
    if owner in bundled_models():
        return bundled_model(str(name), device)
    model = load(name, device)
    if Path(owner).is_dir():
        _folders[model] = Path(owner)  # a folder's name is nobody else's business, so it is not kept as the model's
    else:
        _names[model] = owner
    return model


@cache
def bundled_model(name: str, device: str) -> Tokenizer:
    model = load(name, device)
    _names[model], _ = split_decoder(name)
    return model


def name_of(model: Tokenizer) -> str:
    """What a stream may call the model: a bundled name or a hub id, "" for any other."""
    return _names.get(model, "")


def usual_group(model: Tokenizer) -> int:
    """How many frames of a video go together where nobody says: no more than a table of frames has."""
    tables = (model.settings.encoder.positions, model.settings.decoder.positions)
    return min(FRAMES_PER_GROUP, *(getattr(table, "frames", FRAMES_PER_GROUP) for table in tables))


def find_model(info: StreamInfo, device: str = "cpu") -> Tokenizer:
    """The bundled tokenizer that wrote a stream. A name in a stream is never followed to a folder or to the hub."""
    names = bundled_models()
    for name in sorted(names, key=lambda name: name != info.tokenizer):
        model = bundled_model(name, device)
        if short_hash(model.code_hash) == info.code_hash:
            return model
    called = f"the tokenizer {info.tokenizer!r}" if info.tokenizer else "a tokenizer without a name"
    raise WrongModelError(
        f"the stream was written by {called}, hash {info.code_hash.hex()}, which is none of the bundled ones "
        f"({', '.join(names) or 'there are none'}); name its folder or hub id (--model, or tokenizer= in Python)"
    )


def model_of(info: StreamInfo, tokenizer: Tokenizer | str | Path | None, device: str = "cpu") -> Tokenizer:
    """The tokenizer that decodes a stream: the one given or named, else the bundled one that wrote it.

    Raises WrongModelError, CheckpointError, DamagedStreamError.
    """
    match tokenizer:
        case None:
            model = find_model(info, device)
        case Tokenizer():
            model = tokenizer
        case _:
            model = named_model(tokenizer, device)
    check_tokenizer(info, model.code_hash)
    check_fit(info, model)
    return model


def check_fit(info: StreamInfo, model: Tokenizer) -> None:
    """Before a prior is asked about a grid, perhaps a huge one, that the tokenizer never makes: DamagedStreamError."""
    claimed = info.patch, info.radices, (info.grid.height, info.grid.width)
    if claimed != (model.patch, model.radices, model.grid(info.height, info.width)):
        raise DamagedStreamError(
            f"the header claims patches of {info.patch} pixels, {len(info.radices)} digits and {info.grid.height} × "
            f"{info.grid.width} tokens, which the tokenizer that it names never writes"
        )


def priors_for(model: Tokenizer) -> tuple[Prior, ...]:
    """The priors that can code this tokenizer's codes, the best first; the last one is the uniform prior."""
    learned = learned_prior(model)
    untrained = (AdaptivePrior(), UniformPrior())
    return untrained if learned is None else (learned, *untrained)


def smallest_of(model: Tokenizer) -> tuple[Prior, ...]:
    """The priors one of which makes a stream smallest: all but the uniform one."""
    return priors_for(model)[:-1]


def prior_called(name: str | Prior, model: Tokenizer) -> Prior:
    """ "auto" (the best there is), "learned", "adaptive" or "raw", for this tokenizer; a prior as it is.

    Raises SettingsError.
    """
    if not isinstance(name, str):
        return name
    match name:
        case "auto":
            return priors_for(model)[0]
        case "learned":
            prior = learned_prior(model)
            if prior is None:
                reason = foreign_prior(model) or "no prior was trained for this tokenizer"
                raise SettingsError(f"{reason}; choose auto or adaptive, or train one (examples/train_prior.py)")
            return prior
        case "adaptive":
            return AdaptivePrior()
        case "raw":
            return UniformPrior()
        case _:
            raise SettingsError(f"no prior {name!r}; there are auto, learned, adaptive and raw")


def priors_called(name: str | Prior | None, model: Tokenizer) -> tuple[Prior, ...]:
    """Those that may write a stream, the best first: one, or for None and "auto" all that could make it smallest.

    Raises SettingsError.
    """
    if name is None or (isinstance(name, str) and name == "auto"):
        return smallest_of(model)
    return (prior_called(name, model),)


def learned_prior(model: Tokenizer) -> Prior | None:
    """The prior trained on this tokenizer's codes: in its own folder, or with a bundled model of equal hash."""
    folders = [_folders[model]] if model in _folders else [MODELS / name for name in bundled_models()]
    for folder in folders:
        if (folder / SETTINGS_FILE).is_file() and read_record(folder).get("code_hash") == model.code_hash:
            return prior_in(folder.resolve())
    return None


def foreign_prior(model: Tokenizer) -> str:
    """What to say of a prior in the model's folder that is of other codes, as after fine-tuning; "" without one."""
    folder = _folders.get(model)
    if folder is None or not (folder / SETTINGS_FILE).is_file():
        return ""
    if read_record(folder).get("code_hash") == model.code_hash:
        return ""
    return f"the prior in {folder} was trained on the codes of other weights and does not serve this tokenizer"


@cache
def prior_in(folder: Path) -> Prior:
    return load_prior(folder)
