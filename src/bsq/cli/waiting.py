"""How PyTorch's threads wait for one another. What enters: the environment. What leaves: a setting in it, for the
OpenMP library that torch brings along; it counts if made before torch is imported.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

TURNS = "10000"
"""Of waiting awake, some microseconds. By default threads turn for milliseconds, and where another program takes one of
the cores, each of the many short products of a prior waits so long for a thread that cannot run."""


def sleep_soon(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads sleep after a moment, unless whoever started us said how they should wait."""
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", TURNS)
