"""Several processes do what one does with the same global batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from runs import losses, tiny

from bsq.train import write_recipe
from bsq.train.recipe import Recipe

SCRIPT = "import sys; from bsq.train import load_recipe, run; run(load_recipe(sys.argv[1]), sys.argv[2])"


def train(recipe: Recipe, out: Path, processes: int) -> None:
    """`processes` of them, as `torchrun` would start them."""
    out.mkdir()
    path = out / "given.yaml"
    path.write_text(write_recipe(recipe))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(path), str(out)],
            env={**os.environ, **(shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {})},
            stderr=subprocess.PIPE,
        )
        for rank in range(processes)
    ]
    for process in started:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "adversarial",
    [{"kind": "none"}, {"kind": "adversarial", "discriminator": {"kind": "patch", "width": 4, "layers": 2}}],
)
def test_two_processes_are_one(pictures: Path, tmp_path: Path, adversarial: dict[str, object]) -> None:
    loss = {"entropy": {"weight": 0.1, "start": 0.1}, "adversarial": adversarial}
    recipe = tiny(pictures, loss=loss)
    train(recipe, tmp_path / "one", 1)
    train(recipe, tmp_path / "two", 2)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 6
    for mine, theirs in zip(one, two, strict=True):
        assert mine.keys() == theirs.keys()
        for name in ("loss", "reconstruction", "entropy", "psnr", "psnr@4", "gradient_norm"):
            if name in mine:
                assert theirs[name] == pytest.approx(mine[name], rel=2e-3, abs=2e-5), (name, mine["step"])
