"""Checkpoints of a run. What enters: the run's state. What leaves: one file, whole or not there, and the state again.

A checkpoint is one safetensors file: all tensors, and all else as JSON in its header. It is written under a hidden
name, flushed to the disk and renamed, so a kill or a full disk at any moment leaves the one before it untouched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bsq.data.files import Existing, publish, write_draft
from bsq.errors import CheckpointError, TrainingError

PATTERN = "step-*.safetensors"


@dataclass(frozen=True, eq=False)
class State:
    """Tensors by name, and the small facts (counters) that JSON holds exactly."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a folder, the oldest first."""
    return sorted(folder.glob(PATTERN))


def save_state(folder: Path, step: int, state: State, keep: int) -> Path:
    """Write the checkpoint of `step`, then drop all but the newest `keep`. Raises OSError, the older ones untouched."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{step:09d}.safetensors"
    draft = folder / f".{target.name}.part"
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    try:
        draft.unlink(missing_ok=True)
        write_draft(draft, save(tensors, metadata={"facts": json.dumps(state.facts)}))
        publish(draft, target, Existing.REPLACE)
        flush_folder(folder)
    finally:
        draft.unlink(missing_ok=True)
    for old in checkpoints(folder)[:-keep]:
        old.unlink()
    return target


def flush_folder(folder: Path) -> None:
    """A rename is on the disk only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_state(folder: Path) -> State:
    """The newest checkpoint of a folder. Mirror of `save_state`.

    Raises TrainingError if there is none, CheckpointError if it is damaged.
    """
    found = checkpoints(folder)
    if not found:
        raise TrainingError(f"{folder} holds no checkpoint to resume from; start without --resume")
    try:
        with safe_open(found[-1], framework="pt") as file:
            return State({name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["facts"]))  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{found[-1]} is damaged: {error}; delete it to resume from the one before") from error


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those tensors whose name begins with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
