"""Model folders: config.json and model.safetensors. What enters: a folder or a hub id. What leaves: settings, tensors.

Nothing is unpickled. Weights may be stored in half precision; they are computed with in float32.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from bsq.errors import CheckpointError
from bsq.settings import Settings, told_faults

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
PRIOR_FILES = "prior.safetensors", "prior.json"  # what `bsq.prior.freeze` writes beside a tokenizer
DECODER_FILES = "decoder-*.safetensors"  # further decoders of the same codes (`bsq.checkpoint.decoders`)
CODE_HASH = "code_hash"  # the fact in such a file that says which codes
SHOWN = 8

S = TypeVar("S", bound=Settings)


def read_settings(folder: Path, kind: type[S]) -> S:
    """The settings in a folder's config.json.

    Raises:
        CheckpointError: no such file, not JSON, or settings that `kind` does not take.
    """
    path = folder / CONFIG_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return kind.model_validate(content["settings"])
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} has no {CONFIG_FILE}; a model folder holds it and {WEIGHTS_FILE}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a bsq model's configuration: {error!r}") from error
    except ValidationError as error:
        raise CheckpointError(f"{path}: {told_faults(error, 'settings')}") from error


def read_tensors(folder: Path, file: str = WEIGHTS_FILE) -> dict[str, Tensor]:
    """The tensors of a folder, floating point ones in float32. Raises CheckpointError."""
    path = folder / file
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} has no {file}; a model folder holds {WEIGHTS_FILE} and {CONFIG_FILE}"
        ) from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None, facts: Mapping[str, str] | None = None
) -> None:
    """Mirror of `read_tensors`: floating point ones stored in `dtype`; `facts` beside them. Raises OSError."""
    stored = {
        name: tensor.detach().to("cpu", dtype if dtype and tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in tensors.items()
    }
    path.write_bytes(save(stored, metadata={"format": "pt", **(facts or {})}))


def read_fact(path: Path, name: str) -> str | None:
    """What `write_tensors` was told beside the tensors; None if nothing. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(name)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def copy_companions(origin: Path | None, folder: Path, code_hash: str) -> None:
    """What is in the folder `origin` for codes of that hash goes into `folder` too: the prior, further decoders."""
    if origin is None:
        return
    for path in origin.glob(DECODER_FILES):
        with suppress(CheckpointError):  # one that cannot be read is left behind
            if read_fact(path, CODE_HASH) == code_hash:
                shutil.copyfile(path, folder / path.name)
    files = [origin / name for name in PRIOR_FILES]
    try:
        belongs = json.loads(files[1].read_text(encoding="utf-8")).get("code_hash") == code_hash
    except (OSError, ValueError, AttributeError):  # no record of a prior, or none that can be read
        return
    if belongs and files[0].is_file():
        for path in files:
            shutil.copyfile(path, folder / path.name)


def card_of(origin: Path | None, tensors: Mapping[str, Tensor]) -> str | None:
    """The model card in the folder `origin`, if there is one and `tensors` are the folder's to the last bit."""
    if origin is None or not (origin / CARD_FILE).is_file():
        return None
    try:
        there = read_tensors(origin)
    except CheckpointError:  # gone, or written over by something else
        return None
    same = there.keys() == tensors.keys() and all(torch.equal(there[name], tensors[name].cpu()) for name in there)
    return (origin / CARD_FILE).read_text(encoding="utf-8") if same else None


@contextmanager
def rewriting(folder: Path) -> Iterator[Path]:
    """A draft folder to write a model into; at the end its files take their places in `folder`, config.json last.

    What lies in `folder` is untouched until the draft is whole. A model card that is there already stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    try:
        yield draft
        for path in sorted(draft.iterdir(), key=lambda path: path.name == CONFIG_FILE):
            if path.name != CARD_FILE or not (folder / CARD_FILE).exists():
                os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_claim(least: int, tensors: dict[str, Tensor], source: str) -> None:
    """Check, before a model is built, that settings which make at least `least` weights can be those of `tensors`.

    Raises:
        CheckpointError: there are fewer. A configuration may claim any size; nothing is allocated for it.
    """
    there = sum(tensor.numel() for tensor in tensors.values())
    if least > there:
        raise CheckpointError(
            f"{source} does not fit the model: its settings describe at least {least} weights, there are {there}; one "
            f"of the two belongs to another model"
        )


def check_fit(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Check that `tensors` are what the model's `load_state_dict` wants, all of it and no more.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape, or not finite; the first few are named.
    """
    wanted = model.state_dict()
    faults = [f"missing {name} {tuple(wanted[name].shape)}" for name in wanted if name not in tensors]
    faults += [f"unknown {name} {tuple(tensors[name].shape)}" for name in tensors if name not in wanted]
    faults += [
        f"{name} is {tuple(tensors[name].shape)}, the model wants {tuple(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise CheckpointError(f"{source} does not fit the model: {'; '.join(faults[:SHOWN])}{more}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{source}: {name} holds values that are not finite numbers")


def download(hub_id: str, options: Mapping[str, Any], further: Sequence[str] = ()) -> Path:
    """The local folder of a model on the hub, fetched if need be, with those `further` files.

    Of `options`, the hub's own are heeded (revision, token …).

    Raises:
        CheckpointError: no such model, no network, or files missing.
    """
    known = ("revision", "cache_dir", "force_download", "local_files_only", "token")
    given = {name: options[name] for name in known if name in options}
    trouble = None if given.get("local_files_only") else why_out_of_reach(hub_id, given)
    if trouble is not None:
        given["local_files_only"] = True
    try:
        for file in (WEIGHTS_FILE, *further):
            hf_hub_download(hub_id, file, **given)
        return Path(hf_hub_download(hub_id, CONFIG_FILE, **given)).parent
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error) if trouble is None else f"it cannot be reached ({trouble})"
        raise CheckpointError(f"no folder {hub_id!r}, and the hub did not give it: {reason}") from error


def why_out_of_reach(hub_id: str, given: Mapping[str, Any]) -> str | None:
    """Ask the hub once; None if it answers, be it with a refusal. `hf_hub_download` would ask for half a minute."""
    try:
        url = hf_hub_url(hub_id, WEIGHTS_FILE, revision=given.get("revision"))
        get_hf_file_metadata(url, token=given.get("token"))
    except (HfHubHTTPError, HFValidationError):
        return None
    except Exception as error:  # the hub's HTTP library differs between its versions, and so do its errors
        return first_line(error)
    return None


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
