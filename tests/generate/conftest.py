"""Small generators with random weights, and one that learned a law."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from bsq.generate.folder import GeneratorCard, TrainedGenerator, save_generator
from bsq.generate.network import Generator, GeneratorSettings

if TYPE_CHECKING:
    from bsq.tokenizer import Tokenizer

NAMES = ("airplanes", "anchor", "ant", "cup")


def random_generator(seed: int = 0, **changes: object) -> Generator:
    torch.manual_seed(seed)
    shape = {"radices": (2,) * 8, "group_digits": 4, "classes": 4, "grid": (1, 4, 5), "width": 32, "depth": 2}
    shape |= {"head_width": 16, "norm": "pre"}
    network = Generator(GeneratorSettings.model_validate(shape | changes)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


@pytest.fixture(scope="session")
def make_generator() -> Callable[..., Generator]:
    """`random_generator`: settings as keywords."""
    return random_generator


@pytest.fixture(scope="session")
def trained(tiny_tokenizer: Tokenizer) -> TrainedGenerator:
    """A generator of the first 8 of the tiny tokenizer's 12 bits, for any grid and number of frames."""
    card = GeneratorCard(
        network=random_generator(positions="rotary").settings,
        tokenizer="tiny",
        code_hash=tiny_tokenizer.code_hash,
        class_names=NAMES,
    )
    return TrainedGenerator(random_generator(positions="rotary"), card)


@pytest.fixture
def generator_folder(trained: TrainedGenerator, tiny_model: Path, tmp_path: Path) -> Path:
    """Its folder; the card names the tokenizer's."""
    save_generator(tmp_path / "gen", trained.network, trained.card.model_copy(update={"tokenizer": str(tiny_model)}))
    return tmp_path / "gen"
