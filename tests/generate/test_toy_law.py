"""Where the law of the codes is known: the samples follow it, and the code length is its entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import OUTCOMES, digits_of, entropy, law, learn, outcomes_of

from bsq.generate.guidance import ConstantGuidance
from bsq.generate.likelihood import code_length
from bsq.generate.network import Generator
from bsq.generate.order import ConfidenceSettings, RandomSettings
from bsq.generate.sampler import Sampler, SamplerSettings

PLAIN = {"steps": 8, "schedule": "linear", "guidance": ConstantGuidance(weight=0.0), "together": 8000}
COUNT = 8000


@pytest.fixture(scope="module")
def network() -> Generator:
    return learn()


def variation(network: Generator, label: int, **how: object) -> float:
    """Total variation between the law and samples."""
    sampler = Sampler(network, SamplerSettings.model_validate(PLAIN | how))
    outcomes = outcomes_of(sampler.sample(torch.full((COUNT,), label), seed=1).digits)
    shares = np.bincount(outcomes.numpy(), minlength=OUTCOMES) / COUNT
    return float(np.abs(shares - law(label)).sum() / 2)


def of_perfect_samples(label: int) -> float:
    shares = np.random.default_rng(2).multinomial(COUNT, law(label)) / COUNT
    return float(np.abs(shares - law(label)).sum() / 2)


@pytest.mark.parametrize("label", [0, 1])
def test_samples_follow_the_law(network: Generator, label: int) -> None:
    """One place a step in random order is exact: what is allowed is the finite count and what was not learned."""
    floor = of_perfect_samples(label)
    assert variation(network, label, order=RandomSettings()) < floor + 0.05
    swapped = float(np.abs(law(0) - law(1)).sum() / 2)
    assert swapped > 0.7, "the classes have laws of their own"


def test_all_places_at_once_do_not(network: Generator) -> None:
    assert variation(network, 0, steps=1) > 0.3


def test_the_surest_first_sharpens_the_law(network: Generator) -> None:
    assert variation(network, 0, order=ConfidenceSettings(choice_temperature=0.0)) > 0.1


@pytest.mark.parametrize("label", [0, 1])
def test_code_length_is_the_entropy(network: Generator, label: int) -> None:
    """Averaged over the law itself, not over draws of it."""
    every = torch.arange(OUTCOMES)
    bits = code_length(network, digits_of(every), torch.full((OUTCOMES,), label), passes=8)
    mean = float((bits.numpy() * law(label)).sum())
    assert entropy(label) <= mean < 1.02 * entropy(label)
    assert abs(float((2.0**-bits).sum()) - 1) < 1e-4, "the chain is a law"


def test_fewer_passes_cost_more(network: Generator) -> None:
    every, label = torch.arange(OUTCOMES), torch.zeros(OUTCOMES, dtype=torch.int64)
    means = [float((code_length(network, digits_of(every), label, n).numpy() * law(0)).sum()) for n in (1, 2, 8)]
    assert means[0] > means[1] > means[2]
