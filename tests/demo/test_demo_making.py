"""A generator on the page: classes, new pictures, parts made anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bsq.demo.making import ANY_CLASS, Maker, Manner, brushed, fitted, inpaint, load_maker, make
from bsq.errors import CheckpointError, SettingsError
from bsq.generate.folder import GeneratorCard, save_generator
from bsq.generate.network import Generator, GeneratorSettings
from bsq.tokenizer import Tokenizer

MANNER = Manner(steps=2, guidance=1.0, seed=0)


@pytest.fixture(scope="module")
def folder(tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = {"radices": (2,) * 8, "group_digits": 4, "classes": 3, "grid": (1, 4, 6), "width": 32, "depth": 1}
    settings = GeneratorSettings.model_validate(shape | {"head_width": 16, "positions": "rotary"})
    card = GeneratorCard(
        network=settings, tokenizer="tiny", code_hash=tiny_tokenizer.code_hash, class_names=("ant", "bee", "cup")
    )
    out = tmp_path_factory.mktemp("generators") / "tiny"
    torch.manual_seed(0)
    network = Generator(settings)
    with torch.no_grad():
        for weights in network.parameters():  # classes count for nothing before the first step of training
            weights += 0.3 * torch.randn_like(weights)
    save_generator(out, network, card)
    return out


@pytest.fixture(scope="module")
def maker(folder: Path, tiny_tokenizer: Tokenizer) -> Maker:
    return load_maker(str(folder), tiny_tokenizer)


def test_another_tokenizers_generator_is_refused(folder: Path, other_tokenizer: Tokenizer) -> None:
    with pytest.raises(CheckpointError, match="name the right one"):
        load_maker(str(folder), other_tokenizer)


def test_classes(maker: Maker) -> None:
    assert maker.classes == [ANY_CLASS, "ant", "bee", "cup"]
    assert [maker.number(name) for name in maker.classes] == [None, 0, 1, 2]
    with pytest.raises(SettingsError, match="no class 'dog'"):
        maker.number("dog")


def test_pictures_depend_on_seed_and_class_alone(maker: Maker) -> None:
    first = make(maker, "ant", 2, MANNER)
    assert [picture.shape for picture in first] == [(32, 48, 3)] * 2
    again = make(maker, "ant", 1, MANNER)
    assert (again[0] == first[0]).all()
    assert (make(maker, "bee", 1, MANNER)[0] != first[0]).any()
    assert (make(maker, ANY_CLASS, 1, Manner(2, 1.0, 7))[0] != first[0]).any()


def test_only_what_was_painted_is_made_anew(maker: Maker, tiny_tokenizer: Tokenizer) -> None:
    picture = fitted(maker, np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8))
    assert picture.shape == (32, 48, 3)
    layer = np.zeros((32, 48, 4), np.uint8)
    with pytest.raises(SettingsError, match="hides nothing"):
        inpaint(maker, picture, brushed([layer]), ANY_CLASS, MANNER)
    layer[20, 3, 3] = 255
    mask = brushed([layer])
    assert mask.sum() == 1
    made = inpaint(maker, picture, mask, "cup", MANNER)
    assert made.shape == picture.shape
    assert (made != inpaint(maker, picture, ~mask, "cup", MANNER)).any()
    with pytest.raises(SettingsError, match="paint over"):
        brushed([])
