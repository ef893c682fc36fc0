"""examples/drawn_pictures.py: what it draws, and that it draws the same again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from bsq.data.pictures import open_picture

SCRIPT = Path(__file__).parents[2] / "examples" / "drawn_pictures.py"


def draw(folder: Path, count: int) -> list[np.ndarray]:
    subprocess.run([sys.executable, SCRIPT, "--count", str(count), "-o", folder], check=True, capture_output=True)
    return [open_picture(path) for path in sorted(folder.iterdir())]


def test_the_same_pictures_every_time_and_no_two_alike(tmp_path: Path) -> None:
    few, many = draw(tmp_path / "few", 3), draw(tmp_path / "many", 12)
    assert all(np.array_equal(one, again) for one, again in zip(few, many, strict=False))
    assert len({picture.tobytes() for picture in many}) == 12
    assert {picture.shape for picture in many} == {(256, 256, 3)}


def test_what_the_kinds_are_for(tmp_path: Path) -> None:
    pictures = draw(tmp_path, 30)
    texts, gradients, shapes = (pictures[kind::3] for kind in range(3))
    steps = [np.abs(np.diff(kind.astype(int), axis=1)) for kind in map(np.stack, (texts, gradients, shapes))]
    assert [step.max() > 100 for step in steps] == [True, False, True]  # sharp edges
    assert min((step == 0).mean() for step in steps[::2]) > 0.7  # flat areas
    assert any(np.ptp(gradient, axis=2).max() == 0 for gradient in gradients)  # true greys
