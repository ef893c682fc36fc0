"""One input or many. What enters: jobs and the work for one. What leaves: results, a progress bar, the right exit code.

A single input that fails ends with its own error. Of many, each failure is named with its reason, the rest are done,
and the exit code is 1.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import typer

from bsq.cli.failures import cleaning_up, reason, report, say
from bsq.cli.plan import Job
from bsq.errors import MediaError, SettingsError, StreamError

SOME_FAILED = 1


@dataclass(frozen=True)
class Done:
    """What became of one input: a line about it, notes on it, and what the sum over all of them needs."""

    line: str
    bytes_read: int
    bytes_written: int
    notes: tuple[str, ...] = ()


class Watcher(Protocol):
    """What is told how far the work on one input has come."""

    def frames(self, done: int, total: int | None, seconds: float) -> None: ...

    def search(self, share: float) -> None: ...


Work = Callable[[Job, Watcher], Done]


@dataclass(frozen=True)
class Manner:
    """How a batch talks: `verb` for the sum ("encoded"), `quiet` without lines of success, `debug` with tracebacks."""

    verb: str
    quiet: bool
    debug: bool


@cleaning_up()
def run_batch(jobs: list[Job], work: Work, manner: Manner) -> None:
    """Do all jobs. Raises the error of a lone job, and typer.Exit(1) if some of many failed."""
    warnings.simplefilter("ignore")  # Pillow's remarks on sloppy files; ours arrive as notes
    if len(jobs) == 1:
        with progress(jobs) as bar, naming(jobs[0].name, str(jobs[0].target)):
            done = work(jobs[0], bar)
        if not manner.quiet:
            tell_notes(jobs[0], done)
            say(done.line)
        return
    start, results, failures = time.perf_counter(), list[Done](), 0
    with progress(jobs) as bar:
        for job in jobs:
            bar.show(job.name)
            try:
                with naming(job.name, str(job.target)):
                    results.append(work(job, bar))
                if results[-1].notes and not manner.quiet:
                    bar.above(partial(tell_notes, job, results[-1]))
            except SettingsError:
                raise  # the request is at fault, not this input
            except Exception as error:
                failures += 1
                bar.above(partial(tell_failure, job.name, error, manner.debug))
            bar.advance()
    if not manner.quiet:
        say(summary(results, manner.verb, time.perf_counter() - start))
    if failures:
        say(f"{failures} of {len(jobs)} inputs failed, each named above with its reason")
        raise typer.Exit(SOME_FAILED)


@contextmanager
def naming(name: str, *others: str) -> Iterator[None]:
    """Errors about an input called `name` say so, where they name neither it nor one of the others."""
    try:
        yield
    except (MediaError, StreamError) as error:
        if any(known in str(error) for known in (name, *others)):
            raise
        raise type(error)(f"{name}: {error}") from error


def tell_notes(job: Job, done: Done) -> None:
    for note in done.notes:
        say(f"note: {job.name} {note}")


def tell_failure(name: str, error: Exception, debug: bool) -> None:
    if debug:
        report(error, debug)
    typer.secho(f"failed: {reason(error) if name in str(error) else f'{name}: {reason(error)}'}", fg="red", err=True)


def summary(results: list[Done], verb: str, seconds: float) -> str:
    read, written = sum(r.bytes_read for r in results), sum(r.bytes_written for r in results)
    each = f", {seconds / len(results):.2f} s each" if results else ""
    return f"{verb} {len(results)} files, {size(read)} → {size(written)}, in {seconds:.1f} s{each}"


def size(count: int) -> str:
    """Bytes for people, in decimal units, as disks and file managers count them."""
    if count < 1000:
        return f"{count} bytes"
    value, units = count / 1000, ["kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {units[0]}"


def told_search(steps: int | None) -> str:
    """What a file's line says of a search that was asked for; nothing where there was none."""
    from bsq.codec.seeking import told_steps

    return f" {told_steps(steps)}" if steps else ""


class Bar:
    """A progress bar on stderr that leaves nothing behind; only terminals see it."""

    def __init__(self, total: int) -> None:
        from rich import progress as rich_progress
        from rich.console import Console

        console = Console(stderr=True)
        columns = [
            rich_progress.SpinnerColumn(),
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeRemainingColumn(),
        ]
        self._bar = rich_progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=total)
        self._inputs, self._name = total, ""

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, name: str) -> None:
        self._name = name[-40:]
        self._bar.update(self._task, description=self._name)

    def frames(self, done: int, total: int | None, seconds: float) -> None:
        """So many frames of the input that is shown are done; of a lone input, they are what the bar counts."""
        told = f"{self._name} {done / max(seconds, 1e-9):.1f} frames/s"
        if self._inputs == 1:
            self._bar.update(self._task, description=told, completed=done, total=max(done, total) if total else None)
        else:
            self._bar.update(self._task, description=f"{told} {done}/{total or '?'}")

    def search(self, share: float) -> None:
        """A share of the search for the codes of what is shown is done."""
        self._bar.update(self._task, description=f"{self._name} search {share:.0%}")

    def count(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def advance(self) -> None:
        self._bar.advance(self._task)

    def above(self, tell: Callable[[], None]) -> None:
        """Let `tell` print lines that stay, without the bar running through them."""
        self._bar.stop()
        tell()
        self._bar.start()


def progress(jobs: list[Job]) -> Bar:
    bar = Bar(len(jobs))
    bar.show(jobs[0].name)
    return bar
