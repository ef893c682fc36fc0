"""The benchmark of all priors, on tiny ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import kodak_priors  # noqa: E402
from bsq.checkpoint import load  # noqa: E402
from bsq.codes import Codes  # noqa: E402
from bsq.errors import CheckpointError  # noqa: E402
from bsq.prior.causal import CausalPrior, CausalSettings  # noqa: E402
from bsq.prior.masked import MaskedPrior, MaskedSettings  # noqa: E402
from bsq.prior.resume import RunState, save_run  # noqa: E402


def saved(prior: torch.nn.Module, folder: Path) -> Path:
    """A run folder with weights that are not those of a fresh prior."""
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_run(folder / "run.safetensors", prior, [], RunState(3, 1.0))
    return folder


def test_all_priors(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    radices = load(str(tiny_model)).radices
    masked = saved(MaskedPrior(MaskedSettings(radices=radices, width=16, blocks=2, chain_width=8)), tmp_path / "masked")
    causal_settings = CausalSettings(radices=radices, width=32, depth=2, head_width=16, chain_width=8)
    causal = saved(CausalPrior(causal_settings), tmp_path / "causal")
    arguments = ["--pictures", str(folder), "--model", str(tiny_model), "--run", str(masked)]
    arguments += [str(causal), "--bits", "3", "12", "-o", str(tmp_path / "out")]
    rows = kodak_priors.main(arguments)
    names = ["raw", "adaptive", "masked, float", "masked, frozen", "causal, float"]
    assert [(row.bits, row.prior) for row in rows] == [(bits, name) for bits in (3, 12) for name in names]
    for row in rows:
        assert row.raw_bits_per_pixel == pytest.approx(row.bits / 64, rel=0.05)  # edges are padded to whole patches
        assert row.files == (1 if "float" in row.prior else 2)
        # header, framing and digest are about a hundred bytes of some 35,000 pixels; the coder itself loses little
        assert row.ideal_of_files is not None
        assert row.file_bits_per_pixel is not None
        assert 0.005 < row.file_bits_per_pixel - row.ideal_of_files < 0.04
    raw = [row for row in rows if row.prior == "raw"]
    assert all(row.ideal_bits_per_pixel == pytest.approx(row.raw_bits_per_pixel) for row in raw)
    content = json.loads((tmp_path / "out" / "priors.json").read_text())
    assert (content["pictures"], len(content["rows"])) == (2, 10)
    assert "(first 1; ideal" in (tmp_path / "out" / "priors.md").read_text()


def test_the_quick_length_of_a_causal_prior_is_that_of_its_conversation() -> None:
    torch.manual_seed(0)
    prior = CausalPrior(CausalSettings(radices=(2,) * 6, width=16, depth=2, head_width=16, chain_width=8)).eval()
    codes = Codes(torch.randint(2, (1, 1, 5, 7, 6)), (2,) * 6)
    for kept in (2, 6):
        slow = kodak_priors.conversed_bits(prior)(codes.first(kept))
        assert kodak_priors.forward_bits(prior)(codes.first(kept)) == pytest.approx(slow, rel=1e-3)


def test_runs_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no training run"):
        kodak_priors.trained_prior(tmp_path, (2,) * 6)
    run = saved(MaskedPrior(MaskedSettings(radices=(2,) * 9, width=16, blocks=1, chain_width=8)), tmp_path / "run")
    assert kodak_priors.trained_prior(run, (2,) * 9).settings.width == 16
    with pytest.raises(CheckpointError, match="models other codes"):
        kodak_priors.trained_prior(run, (2,) * 12)
