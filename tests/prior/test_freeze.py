"""Prior files: whole, or refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bsq.codes import Codes
from bsq.errors import CheckpointError
from bsq.prior.exact import ExactPrior, digest
from bsq.prior.freeze import SETTINGS_FILE, WEIGHTS_FILE, freeze, frequency_table, load_prior, probe, save_prior, thaw
from bsq.prior.lengths import digit_lengths


def test_saved_priors_come_back(exact_prior: ExactPrior, tmp_path: Path) -> None:
    save_prior(exact_prior, tmp_path, code_hash="ab" * 32)
    loaded = load_prior(tmp_path)
    assert loaded.identity == exact_prior.identity
    assert probe(loaded) == probe(exact_prior)
    assert all(not tensor.is_floating_point() for tensor in load_file(tmp_path / WEIGHTS_FILE).values())


def test_thawed_priors_expect_nearly_the_same(exact_prior: ExactPrior) -> None:
    draw = np.random.default_rng(0)
    radices = exact_prior.settings.radices
    codes = Codes(torch.from_numpy(draw.integers(0, radices, (1, 1, 12, 10, len(radices)), np.uint8)), radices)
    exact, thawed = (digit_lengths(prior, codes) for prior in (exact_prior, thaw(exact_prior)))
    assert np.abs(exact - thawed).mean() < 0.05
    assert thawed.sum() == pytest.approx(exact.sum(), rel=0.01)


def test_thawing_leaves_random_numbers_as_they_were(exact_prior: ExactPrior) -> None:
    """In two threads, too, which share them."""
    state = torch.get_rng_state()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(thaw, [exact_prior] * 8))
    assert torch.equal(torch.get_rng_state(), state)


def test_identity_names_the_weights(make_prior: Callable) -> None:
    assert freeze(make_prior(seed=1)).identity != freeze(make_prior(seed=2)).identity
    assert freeze(make_prior(seed=1)).identity == freeze(make_prior(seed=1)).identity


def test_a_changed_weight_is_refused(exact_prior: ExactPrior, tmp_path: Path) -> None:
    save_prior(exact_prior, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS_FILE)
    tensors["chain_out.weight"][0, 0] ^= 1
    save_file(tensors, tmp_path / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match="damaged"):
        load_prior(tmp_path)


def test_other_logits_are_refused(exact_prior: ExactPrior, tmp_path: Path) -> None:
    save_prior(exact_prior, tmp_path)
    record = json.loads((tmp_path / SETTINGS_FILE).read_text())
    record["logits_sha256"] = "0" * 64
    (tmp_path / SETTINGS_FILE).write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="other logits"):
        load_prior(tmp_path)


def test_missing_and_broken_files_are_refused(exact_prior: ExactPrior, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=SETTINGS_FILE):
        load_prior(tmp_path)
    save_prior(exact_prior, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS_FILE)
    without = {name: tensor for name, tensor in tensors.items() if name != "table"}
    retyped = [tensors | {"table": tensors["table"].to(dtype)} for dtype in (torch.float32, torch.float8_e4m3fn)]
    for broken in (without, *retyped):
        save_file(broken, tmp_path / WEIGHTS_FILE)
        with pytest.raises(CheckpointError):
            load_prior(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_prior(tmp_path)
    for record in (
        "[]",
        "{",
        "[" * 100_000,
        '{"format": 99}',
        '{"format": 1}',
        '{"format": 1, "settings": {"radices": [1]}}',
    ):
        (tmp_path / SETTINGS_FILE).write_text(record)
        with pytest.raises(CheckpointError):
            load_prior(tmp_path)


def test_digests_do_not_vouch_for_what_is_no_prior(exact_prior: ExactPrior, tmp_path: Path) -> None:
    """Whoever makes a file can make its digests."""
    window = exact_prior.weights.window
    for part, tensor in {"weight": window.weight.double(), "bias": window.bias > 0, "shift": window.shift[:0]}.items():
        save_prior(exact_prior, tmp_path)
        weights = replace(exact_prior.weights, window=replace(window, **{part: tensor}))
        save_file(weights.tensors(), tmp_path / WEIGHTS_FILE)
        record = json.loads((tmp_path / SETTINGS_FILE).read_text())
        record["weights_sha256"] = digest(exact_prior.settings, weights).hex()
        (tmp_path / SETTINGS_FILE).write_text(json.dumps(record))
        with pytest.raises(CheckpointError, match=r"must be torch|shapes"):
            load_prior(tmp_path)


def test_the_table_is_the_logistic_function() -> None:
    table = frequency_table()
    assert table[1024] == 32768
    assert table[1024 + 64] == round(65536 / (1 + 2.718281828459045**-1))
    assert int(table.min()) == 1
    assert int(table.max()) == 65535
    assert torch.equal(65536 - table[1:].flip(0), table[1:])
