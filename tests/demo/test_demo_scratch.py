"""Files that the page hands out keep their names, and the oldest go away."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bsq.data.pictures import open_picture
from bsq.demo.scratch import Scratch


def test_names_are_kept_but_harmless(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    path = Path(scratch.write("holiday (1).bsq", b"abc"))
    assert (path.name, path.read_bytes()) == ("holiday (1).bsq", b"abc")
    wild = Path(scratch.write("../../etc/<p>\n.bsq", b""))
    assert wild.parent.parent == tmp_path
    assert not set(wild.name) & set("/<>\n")


def test_the_oldest_go_away(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, kept=2)
    first, second, third = (Path(scratch.write(f"{number}.bsq", b"x")) for number in range(3))
    assert (first.exists(), second.exists(), third.exists()) == (False, True, True)


def test_pictures_and_clips(tmp_path: Path) -> None:
    scratch, frame = Scratch(tmp_path), np.full((8, 8, 3), 77, np.uint8)
    assert (open_picture(scratch.show("a", [frame], None)) == frame).all()
    pytest.importorskip("av")
    assert Path(scratch.show("a", [frame] * 3, Fraction(10))).suffix == ".mp4"
