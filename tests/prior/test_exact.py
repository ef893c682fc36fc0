"""Exact execution: one hash whatever the machine does; refusals; and a float prior that shows why."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bsq.errors import CheckpointError, SettingsError
from bsq.prior.arithmetic import Arithmetic, Int8Arithmetic, WideArithmetic, fastest_arithmetic, int8_is_exact
from bsq.prior.base import Grid
from bsq.prior.exact import ExactPrior, IntegerNetwork
from bsq.prior.freeze import freeze, probe, save_prior
from bsq.prior.masked import MaskedPrior
from bsq.prior.rounding import Rounding


class ByRows:
    """An arithmetic that multiplies a few rows at a time."""

    def __init__(self, rows: int) -> None:
        self.rows, self.inner = rows, WideArithmetic(torch.float32)
        self.name, self.chain_dtype = f"{rows} rows", torch.float32

    def prepare(self, weight: Tensor) -> Tensor:
        return self.inner.prepare(weight)

    def multiply(self, rows: Tensor, prepared: Tensor) -> Tensor:
        return torch.cat([self.inner.multiply(part, prepared) for part in rows.split(self.rows)])


class Compiled:
    """An arithmetic whose product went through the compiler."""

    name = "compiled"
    chain_dtype = torch.float32

    def __init__(self) -> None:
        self.inner = WideArithmetic(torch.float32)
        self.multiply = torch.compile(self.inner.multiply, dynamic=True)

    def prepare(self, weight: Tensor) -> Tensor:
        return self.inner.prepare(weight)


ARITHMETICS = [
    Int8Arithmetic(),
    WideArithmetic(torch.float32),
    WideArithmetic(torch.float64),
    WideArithmetic(torch.int64),
]


@pytest.mark.parametrize("earlier_frames", [0, 1])
@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=lambda a: a.name)
def test_every_arithmetic_gives_one_hash(make_prior: Callable, arithmetic: Arithmetic, earlier_frames: int) -> None:
    if arithmetic.name == "int8" and not int8_is_exact():
        pytest.skip("int8 products saturate on this machine; the prior does not use them here")
    prior = freeze(make_prior(earlier_frames=earlier_frames))
    expected, before = probe(prior), torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert probe(prior.using(arithmetic)) == expected
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("arithmetic", ARITHMETICS[:2], ids=lambda a: a.name)
def test_autocast_changes_nothing(make_prior: Callable, arithmetic: Arithmetic, dtype: torch.dtype) -> None:
    prior = freeze(make_prior(earlier_frames=1)).using(arithmetic)
    with torch.autocast("cpu", dtype=dtype):
        assert probe(prior) == probe(prior.using(WideArithmetic(torch.int64)))
        inside = probe(prior)
    assert inside == probe(prior)


def test_products_a_few_rows_at_a_time_give_the_same_hash(exact_prior: ExactPrior) -> None:
    assert probe(exact_prior.using(ByRows(7))) == probe(exact_prior)


@pytest.mark.slow
def test_compiled_products_give_the_same_hash(exact_prior: ExactPrior) -> None:
    assert probe(exact_prior.using(Compiled())) == probe(exact_prior)


def test_pictures_of_a_batch_do_not_touch(exact_prior: ExactPrior, correlated: Callable[..., np.ndarray]) -> None:
    one, seven = Grid(1, 6, 5), Grid(7, 6, 5)
    signs = (2 * correlated(seven, (2,) * 12) - 1).astype(np.int8)
    signs[:, 5:] = 0
    together = IntegerNetwork(exact_prior, seven).condition(signs, np.arange(210))
    for i in range(7):
        alone = IntegerNetwork(exact_prior, one).condition(signs[30 * i : 30 * (i + 1)], np.arange(30))
        assert torch.equal(alone, together[30 * i : 30 * (i + 1)])


def test_computing_only_what_is_reached_changes_nothing(exact_prior: ExactPrior) -> None:
    grid = Grid(1, 13, 11)
    signs = np.random.default_rng(0).integers(-1, 2, size=(grid.tokens, 12)).astype(np.int8)
    network = IntegerNetwork(exact_prior, grid)
    whole = network.condition(signs, np.arange(grid.tokens))
    for tokens in ([0], [71], [5, 100, 142]):
        assert torch.equal(network.condition(signs, np.array(tokens)), whole[tokens])


def test_a_fresh_process_gives_the_same_hash(exact_prior: ExactPrior, tmp_path: Path) -> None:
    save_prior(exact_prior, tmp_path)
    program = (
        "import sys, torch; torch.set_num_threads(1); from pathlib import Path; from bsq.prior.freeze import *\n"
        "print(probe(load_prior(Path(sys.argv[1]))))"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == probe(exact_prior)


def test_integers_follow_the_float_prior(make_prior: Callable[..., MaskedPrior]) -> None:
    prior, grid = make_prior(), Grid(1, 9, 7)
    signs = np.random.default_rng(0).integers(-1, 2, size=(grid.tokens, 12)).astype(np.int8)
    network = IntegerNetwork(freeze(prior), grid)
    integers = network.condition(signs, np.arange(grid.tokens)) / 32
    planes = torch.from_numpy(signs).float().reshape(1, 9, 7, 12).permute(0, 3, 1, 2)
    with torch.no_grad():
        floats = prior.condition(planes, rounding=Rounding()).reshape(grid.tokens, -1)
        floats = floats + torch.from_numpy(signs).float() @ Rounding().units(prior.chain.entering, 1 / 32)
    assert (integers - floats).abs().max() < 0.5
    assert (integers - floats).abs().mean() < 0.06


def test_a_float_prior_differs_between_batches() -> None:
    """Why all this: the same tokens, alone and in a batch, get other 16-bit frequencies from a float network."""
    torch.manual_seed(0)
    rows, weight = torch.randn(64, 1152), torch.randn(1152, 512)

    def frequencies(x: Tensor) -> Tensor:
        return (torch.sigmoid((x @ weight) / 16) * 65536).round()

    together = frequencies(rows)
    alone = torch.cat([frequencies(row) for row in rows.split(1)])
    summed = torch.cat([rows[:, :600] @ weight[:600] + rows[:, 600:] @ weight[600:]])
    chunked = (torch.sigmoid(summed / 16) * 65536).round()
    assert torch.equal(together, frequencies(rows)), "the same product twice is the same"
    assert bool((together != alone).any() | (together != chunked).any())


def test_an_exact_prior_says_so(exact_prior: ExactPrior) -> None:
    assert fastest_arithmetic().name in ("int8", "float32")
    assert len(exact_prior.identity) == 8
    assert exact_prior.portable


def test_a_sum_that_could_overflow_is_refused(make_prior: Callable[..., MaskedPrior]) -> None:
    exact = freeze(make_prior(width=128, blocks=1))
    gather = exact.weights.gathers[0]
    heavy = replace(gather, weight=torch.full_like(gather.weight, 127))
    with pytest.raises(CheckpointError, match="overflow rule"):
        ExactPrior(exact.settings, replace(exact.weights, gathers=(heavy,)))
    biased = replace(gather, bias=torch.full_like(gather.bias, 2**24))
    with pytest.raises(CheckpointError, match="overflow rule"):
        ExactPrior(exact.settings, replace(exact.weights, gathers=(biased,)))
    # 127·13e6 + 2^29 is above 2^31, though the sum is below 2^24.
    alike = {"weight": 0, "bias": 13_000_000, "multiplier": 127, "shift": 30}
    wide = replace(gather, **{part: torch.full_like(getattr(gather, part), value) for part, value in alike.items()})
    with pytest.raises(CheckpointError, match=r"scaled sum may reach 2\^31"):
        ExactPrior(exact.settings, replace(exact.weights, gathers=(wide,)))
    steep = replace(
        exact.weights.condition_head,
        multiplier=torch.full((16,), 127, dtype=torch.int32),
        shift=torch.ones(16, dtype=torch.int32),
    )
    far = replace(exact.weights, condition_head=steep)
    with pytest.raises(CheckpointError, match="overflow rule"):
        ExactPrior(exact.settings, far)


def test_scales_and_table_are_checked(exact_prior: ExactPrior) -> None:
    weights = exact_prior.weights
    for scale in (
        {"multiplier": torch.zeros_like(weights.window.multiplier)},
        {"shift": torch.full_like(weights.window.shift, 31)},
    ):
        with pytest.raises(CheckpointError, match="scales"):
            ExactPrior(exact_prior.settings, replace(weights, window=replace(weights.window, **scale)))
    with pytest.raises(CheckpointError, match="table"):
        ExactPrior(exact_prior.settings, replace(weights, table=torch.zeros_like(weights.table)))
    halves = replace(weights.chain_out, weight=weights.chain_out.weight / 2)
    with pytest.raises(CheckpointError, match=r"chain_out\.weight must be torch.int8"):
        ExactPrior(exact_prior.settings, replace(weights, chain_out=halves))
    with pytest.raises(CheckpointError, match="shapes"):
        ExactPrior(exact_prior.settings.model_copy(update={"width": 32}), weights)


def test_other_radices_are_refused(exact_prior: ExactPrior) -> None:
    with pytest.raises(SettingsError, match="adaptive"):
        next(exact_prior.converse(Grid(1, 2, 2), (3,) * 12))
    with pytest.raises(SettingsError):
        next(exact_prior.converse(Grid(1, 2, 2), (2,) * 13))
