"""Finding and reading models. What enters: a bundled name, a folder or a hub id. What leaves: a `Tokenizer`, ready to
use.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bsq.errors import CheckpointError
from bsq.tokenizer import CONFIG_FILE, WEIGHTS_FILE, Tokenizer, TokenizerSettings

MODELS = Path(__file__).parent.parent / "models"
SHOWN = 8


def bundled_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(path.parent.name for path in MODELS.glob(f"*/{CONFIG_FILE}"))


def load(name_or_path: str | Path, device: str | torch.device = "cpu") -> Tokenizer:
    """The tokenizer of that name, in evaluation mode.

    Args:
        name_or_path: a name from `bundled_models()`, a folder with config.json and model.safetensors, or a hub id
        "owner/name". device: where its weights go.

    Raises:
        CheckpointError: nothing of that name, files missing or damaged, tensors that do not fit.
    """
    folder = _find(str(name_or_path))
    settings = _read_settings(folder / CONFIG_FILE)
    tokenizer = Tokenizer(settings)
    fit(tokenizer, _read_tensors(folder / WEIGHTS_FILE), str(folder))
    return tokenizer.to(device).eval()


def fit(tokenizer: Tokenizer, tensors: dict[str, Tensor], source: str) -> None:
    """Put `tensors` into the tokenizer; all must be there, and nothing else, in the right shapes, else
    CheckpointError.
    """
    wanted = tokenizer.state_dict()
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
    tokenizer.load_state_dict(tensors)


def _find(name: str) -> Path:
    if (MODELS / name / CONFIG_FILE).is_file():
        return MODELS / name
    path = Path(name)
    if path.is_dir():
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            if not (path / file).is_file():
                raise CheckpointError(f"{path} has no {file}; a model folder holds {CONFIG_FILE} and {WEIGHTS_FILE}")
        return path
    if path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(
            f"no model {name!r}: bundled are {', '.join(bundled_models())}; else give a folder or a hub id"
        )
    try:
        hf_hub_download(name, WEIGHTS_FILE)
        return Path(hf_hub_download(name, CONFIG_FILE)).parent
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"no folder {name!r}, and the hub did not give it: {reason}") from error


def _read_settings(path: Path) -> TokenizerSettings:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return TokenizerSettings.model_validate(content["settings"])
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a bsq model's configuration: {error!r}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path}: setting {place}: {first['msg']}") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return {
            name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(path).items()
        }
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
