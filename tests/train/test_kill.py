"""A run that is killed again and again, without warning, ends where an uninterrupted one does, bit for bit."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import losses, tiny, write_pictures
from safetensors.torch import load_file

from bsq.train import write_recipe
from bsq.train.checkpoints import checkpoints

KILLS = 10

SCRIPT = """
import sys
from pathlib import Path
from bsq.train import Start, load_recipe, run
out = Path(sys.argv[2])
begun = any((out / "checkpoints").glob("step-*"))
run(load_recipe(sys.argv[1]), out, Start.RESUME if begun else Start.FRESH)
"""


def begin(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(recipe), str(out)], stderr=subprocess.DEVNULL)


def newest(out: Path) -> str:
    found = checkpoints(out / "checkpoints")
    return found[-1].name if found else ""


@pytest.mark.slow
def test_ten_kills_leave_no_trace(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    recipe = tiny(pictures, pictures=2_400, log_every=4, checkpoint_every=20, samples={"every": 100_000, "count": 2})
    (tmp_path / "recipe.yaml").write_text(write_recipe(recipe))
    assert begin(tmp_path / "recipe.yaml", tmp_path / "whole").wait() == 0

    moments = random.Random(0)
    killed = tmp_path / "killed"
    for _ in range(KILLS):
        before = newest(killed)
        process = begin(tmp_path / "recipe.yaml", killed)
        while newest(killed) == before and process.poll() is None:  # importing torch would take most of the kills
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.4))
        assert process.poll() is None, "the run is too short to be killed so often"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert begin(tmp_path / "recipe.yaml", killed).wait() == 0

    assert len(losses(killed)) == 600
    assert losses(killed) == losses(tmp_path / "whole")
    one, other = (load_file(checkpoints(tmp_path / name / "checkpoints")[-1]) for name in ("whole", "killed"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
