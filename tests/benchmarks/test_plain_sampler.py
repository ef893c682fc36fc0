"""The sampler that speed is measured against fills in every group of the recipe that it is measured in."""

import pytest
import torch

from benchmarks.generate import RECIPE, plain
from bsq.generate.network import Generator, GeneratorSettings
from bsq.train.recipe import read_yaml


@pytest.mark.parametrize("digits", [9, 3])
def test_plain_samples_are_whole(digits: int) -> None:
    shape = read_yaml(RECIPE)["model"] | {"grid": (1, 3, 4), "depth": 1, "group_digits": digits}
    network = Generator(GeneratorSettings.model_validate(shape)).eval()
    torch.manual_seed(0)
    groups = plain(network, torch.tensor([0, 1]), 4)
    assert groups.shape == (2, 1, 3, 4, 9 // digits)
    assert groups.unique().numel() > 2
    assert 0 <= int(groups.min()) <= int(groups.max()) < 2**digits
