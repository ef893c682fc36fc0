"""Logs of a run. What enters: means of a stretch of steps. What leaves: log.jsonl, TensorBoard, lines for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bsq.data.files import Existing, write_file
from bsq.errors import MissingDependencyError

FIRST = (
    "loss",
    "reconstruction",
    "perceptual",
    "generator",
    "discriminator",
    "entropy",
    "psnr",
    "worst_imbalance",
    "codes_used",
)


class JsonLines:
    """One JSON object a line, on the disk as soon as it is written."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def cut_log(path: Path, step: int) -> None:
    """Drop the lines of later steps, which a resumed run writes again, and a line that a kill left unfinished."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    write_file(path, "".join(kept).encode(), Existing.REPLACE)


class Board:
    """TensorBoard's event files."""

    def __init__(self, folder: Path, step: int) -> None:
        """Events after `step`, which a resumed run writes again, are hidden."""
        self._writer = _tensorboard().SummaryWriter(str(folder), purge_step=step)

    def scalars(self, values: Mapping[str, float], seen: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, seen)

    def balance(self, ones: tuple[float, ...], seen: int) -> None:
        """Share of ones of each bit."""
        self._writer.add_histogram("bits/ones", torch.tensor(ones), seen)

    def sheet(self, picture: Any, seen: int) -> None:
        """uint8 array (H, W, 3)."""
        self._writer.add_image("samples", picture, seen, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


def _tensorboard() -> ModuleType:
    try:
        import torch.utils.tensorboard as tensorboard
    except ImportError as error:
        raise MissingDependencyError(
            "the writer tensorboard is not installed; pip install 'bsq[train]', or set writers=[]"
        ) from error
    return tensorboard


class Screen:
    """What a person sees: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, total: int, seen: int) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} pictures"),
            BarColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("training", total=total, completed=seen, speed="")
        self._progress.start()

    def advance(self, seen: int) -> None:
        self._progress.update(self._task, completed=seen)

    def show(self, values: Mapping[str, float], seen: int) -> None:
        """A line of the main terms; the rest stands in the log."""
        speed = (
            f"{values.get('pictures_per_second', 0):.1f} pictures/s, {values.get('data_wait', 0):.0%} waiting for data"
        )
        self._progress.update(self._task, completed=seen, speed=speed)
        names = [name for name in values if name in FIRST or name.startswith("psnr@")]
        terms = "  ".join(f"{name} {values[name]:.4g}" for name in names)
        self.say(f"{seen:>11,}  {terms}  {speed}")

    def say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()
