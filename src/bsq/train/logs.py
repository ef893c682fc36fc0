"""Logs of a run. What enters: means of a stretch of steps. What leaves: log.jsonl, TensorBoard, lines for a person."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bsq.data.files import Existing, plain_reason, write_file
from bsq.errors import MissingDependencyError

FIRST = (  # on the lines for a person
    "loss",
    "bits_per_token",
    "accuracy",
    "reconstruction",
    "perceptual",
    "generator",
    "discriminator",
    "rate",
    "entropy",
    "psnr",
    "worst_imbalance",
    "codes_used",
)

MOST = ("loss", "psnr", "rate", "bits_per_token")
"""Of these, the ones beside the bar."""


class JsonLines:
    """One JSON object a line, with the system as soon as it is written."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def write(self, values: Mapping[str, Any]) -> None:
        """Raises OSError when the disk is full; no part of a line stays behind."""
        line = (json.dumps(values) + "\n").encode()
        end = os.fstat(self._file.fileno()).st_size
        if self._file.write(line) < len(line):
            self._file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

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


class Board(Protocol):
    """A place where the numbers and pictures of a run can be looked at."""

    def scalars(self, values: Mapping[str, float], seen: int) -> None: ...

    def balance(self, ones: tuple[float, ...], seen: int) -> None:
        """Share of ones of each bit."""
        ...

    def sheet(self, picture: np.ndarray, seen: int) -> None:
        """uint8 (H, W, 3)."""
        ...

    def close(self) -> None: ...


def open_board(kind: Literal["tensorboard", "wandb"], out: Path, step: int) -> Board:
    """Events after `step`, which a resumed run writes again, are hidden. Raises MissingDependencyError."""
    match kind:
        case "tensorboard":
            return TensorBoard(out / "tensorboard", step)
        case "wandb":
            return WandbBoard(out)
        case _:
            raise AssertionError(kind)


class Boards:
    """All boards of a run. One that cannot write any more, on a full disk, ends with a word; the run goes on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._open: list[Board] = []

    def open(self, kind: Literal["tensorboard", "wandb"], out: Path, step: int) -> None:
        """As `open_board`."""
        self._open.append(open_board(kind, out, step))

    def show(self, action: Callable[[Board], None]) -> None:
        for board in list(self._open):
            try:
                action(board)
            except OSError as error:
                self._open.remove(board)
                self._say(f"not written: {type(board).__name__}, which ends here ({plain_reason(error)})")

    def close(self) -> None:
        self.show(lambda board: board.close())


class TensorBoard:
    """TensorBoard's event files."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = _tensorboard().SummaryWriter(str(folder), purge_step=step)

    def scalars(self, values: Mapping[str, float], seen: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, seen)

    def balance(self, ones: tuple[float, ...], seen: int) -> None:
        self._writer.add_histogram("bits/ones", torch.tensor(ones), seen)
        self._writer.add_image("bits/balance", draw_balance(ones), seen, dataformats="HWC")

    def sheet(self, picture: np.ndarray, seen: int) -> None:
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


class WandbBoard:
    """Weights & Biases; a resumed run goes on in the same one. WANDB_MODE=offline keeps all in the folder `wandb`."""

    def __init__(self, out: Path) -> None:
        wandb = _wandb()
        self._image = wandb.Image
        name = out / "wandb-run"
        known = name.read_text().strip() if name.exists() else None
        settings = wandb.Settings(silent=True, console="off")
        self._run = wandb.init(
            project="bsq", name=out.name, dir=str(out), id=known, resume="allow" if known else None, settings=settings
        )
        write_file(name, f"{self._run.id}\n".encode(), Existing.REPLACE)

    def scalars(self, values: Mapping[str, float], seen: int) -> None:
        self._run.log({**values, "pictures": seen})

    def balance(self, ones: tuple[float, ...], seen: int) -> None:
        self._run.log({"bits/balance": self._image(draw_balance(ones)), "pictures": seen})

    def sheet(self, picture: np.ndarray, seen: int) -> None:
        self._run.log({"samples": self._image(picture), "pictures": seen})

    def close(self) -> None:
        self._run.finish()


def _wandb() -> ModuleType:
    try:
        import wandb
    except ImportError as error:
        raise MissingDependencyError(
            "the writer wandb is not installed; pip install 'bsq[wandb]', or leave it out of writers"
        ) from error
    return wandb


BAR, HEIGHT = 12, 96


def draw_balance(ones: Sequence[float]) -> np.ndarray:
    """uint8 (96, 12·bits, 3): a bar for each bit from ½ up or down to its share of ones; red beyond ¼ and ¾.

    A balanced code is an empty chart with its middle line.
    """
    chart = np.full((HEIGHT, BAR * len(ones), 3), 255, np.uint8)
    for number, share in enumerate(ones):
        top, bottom = sorted((HEIGHT // 2, round((1 - share) * (HEIGHT - 1))))
        colour = (200, 60, 50) if abs(share - 0.5) > 0.25 else (60, 110, 180)
        chart[top : bottom + 1, BAR * number + 2 : BAR * (number + 1) - 2] = colour
    chart[HEIGHT // 2] = 0
    return chart


class Screen:
    """What a person sees: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, total: int, seen: int) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} pictures"),
            BarColumn(),
            TextColumn("{task.fields[terms]}"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            speed_estimate_period=600,  # what is left is judged by ten minutes: steps of two kinds differ much
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("training", total=total, completed=seen, terms="", speed="")
        self._progress.start()

    def advance(self, seen: int) -> None:
        self._progress.update(self._task, completed=seen)

    def show(self, values: Mapping[str, float], seen: int) -> None:
        """A line of the main terms; the rest stands in the log."""
        speed = (
            f"{values.get('pictures_per_second', 0):.1f} pictures/s, {values.get('data_wait', 0):.0%} waiting for data"
        )
        short = "  ".join(f"{name} {values[name]:.4g}" for name in MOST if name in values)
        self._progress.update(self._task, completed=seen, terms=short, speed=speed)
        names = [name for name in values if name in FIRST or name.startswith(("psnr@", "rate@"))]
        terms = "  ".join(f"{name} {values[name]:.4g}" for name in names)
        self.say(f"{seen:>11,}  {terms}  {speed}")

    def say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


@contextmanager
def progress_bar(shown: bool, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal for what comes before a run; is told how many of how many are done."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not (shown and console.is_terminal)) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
