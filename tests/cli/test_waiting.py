"""Threads that wait sleep soon, in the library that computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bsq.cli.waiting import TURNS, sleep_soon


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {"GOMP_SPINCOUNT": TURNS}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_what_was_said_counts(given: dict[str, str], wanted: dict[str, str]) -> None:
    sleep_soon(given)
    assert given == wanted


def test_the_makefile_says_the_same() -> None:
    """For programs that have torch before they could say it."""
    makefile = Path(__file__).parents[2] / "Makefile"
    assert f"export GOMP_SPINCOUNT ?= {TURNS}\n" in makefile.read_text(encoding="utf-8")


def test_the_command_says_it_before_torch_is_there() -> None:
    program = (
        "import sys; from unittest.mock import patch; import bsq.cli.main as cli; import os\n"
        "with patch.object(cli, 'app', lambda **_: None): cli.main()\n"
        "print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == [TURNS, "False"]
