"""Further decoders of the same codes. What enters: "biscuit-s:perceptual". What leaves: a tokenizer that has that one.

A model's folder may hold, beside model.safetensors, decoder-NAME.safetensors: the decoder's tensors, and in the file's
metadata the `code_hash` of the codes they were trained on and the `decoder`'s own settings (JSON), which may be others
than those in config.json: deeper, or wider. Without any it is built as config.json says.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from pydantic import ValidationError

from bsq.errors import CheckpointError
from bsq.folders import CODE_HASH, DECODER_FILES, read_fact, read_tensors, write_tensors
from bsq.settings import told_faults
from bsq.tokenizer import Tokenizer
from bsq.vit.decoder import DecoderSettings

SETTINGS = "decoder"  # the fact in such a file that says how it is built
FAITHFUL = "faithful"
"""The decoder that came out of the training of the whole, in model.safetensors."""

NAME = re.compile(r"[a-z][a-z0-9-]{1,31}")  # two characters at least: "c:" is a drive

_faithful: WeakKeyDictionary[Tokenizer, Tokenizer] = WeakKeyDictionary()


def split_decoder(name: str) -> tuple[str, str]:
    """ "MODEL:DECODER" → (model, decoder); a model alone has the faithful one. Paths that are there are whole."""
    model, colon, decoder = name.rpartition(":")
    if not colon or not model or NAME.fullmatch(decoder) is None or os.path.exists(name):
        return name, FAITHFUL
    return model, decoder


def decoder_file(decoder: str) -> str:
    """Its name in a model's folder."""
    return DECODER_FILES.replace("*", decoder)


def decoders_in(folder: Path) -> list[str]:
    """Names of the decoders of the model in `folder`, the faithful one first."""
    further = (path.stem.removeprefix("decoder-") for path in sorted(folder.glob(DECODER_FILES)))
    return [FAITHFUL, *further]


def save_decoder(tokenizer: Tokenizer, folder: Path, decoder: str, dtype: torch.dtype = torch.float32) -> Path:
    """Write the tokenizer's decoder beside the model in `folder`, as its decoder of that name.

    Raises CheckpointError: a name that is none, or a folder that cannot be written.
    """
    if NAME.fullmatch(decoder) is None or decoder == FAITHFUL:
        raise CheckpointError(f"no name for a further decoder: {decoder!r}; small letters, digits and - make one")
    path = folder / decoder_file(decoder)
    draft = path.with_suffix(".draft")
    try:
        facts = {CODE_HASH: tokenizer.code_hash, SETTINGS: tokenizer.settings.decoder.model_dump_json()}
        write_tensors(draft, tokenizer.decoder.state_dict(), dtype, facts)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {path}: {error}") from error
    return path


def with_decoder(tokenizer: Tokenizer, folder: Path, decoder: str) -> Tokenizer:
    """The tokenizer, loaded from `folder`, with the decoder of that name in place of its own.

    Raises CheckpointError: there is none, it is of other codes, or it does not fit.
    """
    if decoder == FAITHFUL:
        return tokenizer
    path = folder / decoder_file(decoder)
    if not path.is_file():
        raise CheckpointError(f"no decoder {decoder!r} in {folder.name}: there are {', '.join(decoders_in(folder))}")
    if read_fact(path, CODE_HASH) != tokenizer.code_hash:
        raise CheckpointError(f"{path} was trained on the codes of other weights and does not serve this tokenizer")
    settings = tokenizer.settings.model_copy(update={"decoder": _settings(path) or tokenizer.settings.decoder})
    tensors = {name: tensor for name, tensor in tokenizer.state_dict().items() if not name.startswith("decoder.")}
    tensors |= {f"decoder.{name}": tensor for name, tensor in read_tensors(folder, path.name).items()}
    other = Tokenizer.of_weights(settings, tensors, path)
    if other.grid(1, 1) != tokenizer.grid(1, 1):
        raise CheckpointError(f"{path} is for other grids than those of the tokenizer: its positions are learned ones")
    other.origin = tokenizer.origin
    _faithful[other] = tokenizer
    return other


def faithful_of(tokenizer: Tokenizer) -> Tokenizer:
    """The model that a tokenizer was loaded as another decoder of, on its device, as long as both have the same codes;
    any other one itself.
    """
    faithful = _faithful.get(tokenizer)
    if faithful is None or faithful.code_hash != tokenizer.code_hash:
        return tokenizer
    return faithful.to(next(tokenizer.parameters()).device)


def _settings(path: Path) -> DecoderSettings | None:
    """How the decoder in that file is built, if it says so."""
    told = read_fact(path, SETTINGS)
    try:
        return None if told is None else DecoderSettings.model_validate_json(told)
    except ValidationError as error:
        raise CheckpointError(f"{path} does not say how its decoder is built: {told_faults(error)}") from error
