"""A trained generator on disk. What enters: a folder or hub id. What leaves: a network, and what its codes mean.

config.json        the network's settings, the tokenizer's name and `code_hash`, names of the classes
model.safetensors  the weights, in half precision where they are only drawn from
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from bsq.checkpoint.load import MODELS, bundled_models
from bsq.errors import CheckpointError
from bsq.folders import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    check_claim,
    check_fit,
    download,
    read_settings,
    read_tensors,
    rewriting,
    write_tensors,
)
from bsq.generate.network import Generator, GeneratorSettings
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer

BUNDLED = "generator"
"""The folder, inside that of a bundled tokenizer, of the generator that ships with it."""


class GeneratorCard(Settings):
    """`tokenizer` is where its tokenizer was found, `code_hash` what it has to be; `class_names` by number."""

    network: GeneratorSettings
    tokenizer: str
    code_hash: str
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TrainedGenerator:
    """A network in evaluation mode, and its card."""

    network: Generator
    card: GeneratorCard

    def check(self, tokenizer: Tokenizer) -> None:
        """Raises CheckpointError for another tokenizer than the one it was trained with."""
        if tokenizer.code_hash != self.card.code_hash:
            raise CheckpointError(
                f"this generator makes codes of the tokenizer {self.card.code_hash[:12]} ({self.card.tokenizer}), the "
                f"one given is {tokenizer.code_hash[:12]}; name the right one, or train a generator for this one"
            )


def save_generator(folder: Path, network: Generator, card: GeneratorCard, dtype: torch.dtype = torch.float32) -> None:
    """Write the folder; what lies there stays until the new one is whole. Mirror of `load_generator`."""
    with rewriting(folder) as draft:
        write_tensors(draft / WEIGHTS_FILE, network.state_dict(), dtype)
        (draft / CONFIG_FILE).write_text(json.dumps({"settings": card.model_dump(mode="json")}, indent=1) + "\n")


def bundled_with(tokenizer: Tokenizer) -> str | None:
    """The name of the bundled tokenizer whose generator makes codes of this one; None if no generator does."""
    for name in bundled_models():
        folder = MODELS / name / BUNDLED
        if folder.is_dir() and read_settings(folder, GeneratorCard).code_hash == tokenizer.code_hash:
            return name
    return None


def load_generator(name_or_path: str | Path, device: str | torch.device = "cpu") -> TrainedGenerator:
    """A generator's folder, the name of a bundled tokenizer that has one, or a hub id "owner/name".

    Raises CheckpointError: nothing of that name, files missing or damaged, tensors that do not fit.
    """
    name = str(name_or_path)
    if name in bundled_models():
        folder = MODELS / name / BUNDLED
        if not folder.is_dir():
            raise CheckpointError(f"no generator comes with {name}; name the folder of one: --generator FOLDER")
    elif os.path.isdir(name):
        folder = Path(name)
    elif os.path.exists(name) or name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise CheckpointError(f"no generator {name!r}: give its folder, a bundled tokenizer's name or a hub id")
    else:
        folder = download(name, {})
    card, tensors = read_settings(folder, GeneratorCard), read_tensors(folder)
    check_claim(card.network.least_weights(), tensors, str(folder))
    network = Generator(card.network)
    check_fit(network, tensors, str(folder))
    network.load_state_dict(tensors)
    return TrainedGenerator(network.eval().to(device), card)
