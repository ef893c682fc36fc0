"""Finding models. What enters: a bundled name, a folder or a hub id. What leaves: a `Tokenizer`, ready to use."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from bsq.checkpoint.decoders import FAITHFUL, decoder_file, split_decoder, with_decoder
from bsq.errors import CheckpointError
from bsq.folders import CONFIG_FILE, download
from bsq.tokenizer import Tokenizer

MODELS = Path(__file__).parent.parent / "models"


def bundled_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(path.parent.name for path in MODELS.glob(f"*/{CONFIG_FILE}"))


def load(name_or_path: str | Path, device: str | torch.device = "cpu") -> Tokenizer:
    """The tokenizer of that name, in evaluation mode.

    Args:
        name_or_path: a name from `bundled_models()`, a folder with config.json and model.safetensors, or a hub id
            "owner/name"; behind a colon another of its decoders: "biscuit-s:perceptual".
        device: where its weights go.

    Raises:
        CheckpointError: nothing of that name, files missing or damaged, tensors that do not fit.
    """
    name, decoder = split_decoder(str(name_or_path))
    if name in bundled_models():
        folder = MODELS / name
    elif os.path.isdir(name):
        folder = Path(name)
    elif os.path.exists(name) or name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        bundled = ", ".join(bundled_models()) or "none"
        raise CheckpointError(f"no model {name!r}: bundled are {bundled}; else give a folder or a hub id")
    else:
        folder = download(name, {}, () if decoder == FAITHFUL else (decoder_file(decoder),))
    return with_decoder(Tokenizer.from_pretrained(folder), folder, decoder).to(device)
