"""How errors reach the user. What enters: exceptions. What leaves: one or two plain lines on stderr, and an exit code.

A traceback appears only with `bsq --debug`.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from bsq.errors import BsqError, SettingsError

INTERNAL = 70  # EX_SOFTWARE
INTERRUPTED = 130  # 128 + SIGINT
READER_GONE = 141  # 128 + SIGPIPE
RICH_GAVE_UP = 1  # rich, which prints the help, ends the process itself when nobody reads
NO_MEMORY = re.compile("(can't|cannot) allocate memory|out of memory")  # PyTorch has no error of its own on CPUs


class Verbs(TyperGroup):
    """The group of all verbs; whatever a verb raises ends here."""

    def make_context(self, *given: Any, **options: Any) -> Any:
        """Arguments are read and the help is printed in here."""
        with broken_off():
            return super().make_context(*given, **options)

    def invoke(self, ctx: Any) -> Any:
        """The verb is run in here."""
        debug = bool(ctx.params.get("debug"))
        try:
            with broken_off():
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as raised:
            if is_usage_error(raised):
                raise
            error = as_settings_error(raised)
            report(error, debug)
            raise typer.Exit(exit_code(error)) from None


@contextmanager
def broken_off() -> Iterator[None]:
    """Ends by the user's hand: an interrupt, or a pipe that nobody reads any more."""
    try:
        yield
    except KeyboardInterrupt as ended:
        say("interrupted")
        raise typer.Exit(ended.code if isinstance(ended, Ended) else INTERRUPTED) from None
    except (BrokenPipeError, SystemExit) as ended:
        if isinstance(ended, SystemExit) and ended.code != RICH_GAVE_UP:
            raise  # --install-completion and --show-completion end this way when they are done
        forget_output()
        raise typer.Exit(READER_GONE) from None


class Ended(KeyboardInterrupt):
    """A signal that would have ended the process at once; `code` is what the process then exits with."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Within, SIGTERM and the SIGHUP of a closed terminal are exceptions, like Ctrl-C: drafts are not left behind."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers nowhere else
        numbers = []
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]  # nohup ignores SIGHUP

    def end(number: int, frame: FrameType | None) -> None:
        raise Ended(number)

    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def forget_output() -> None:
    """What is still buffered for a pipe that nobody reads goes nowhere, or Python complains when it closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def debugging(ctx: typer.Context) -> bool:
    """Whether tracebacks were asked for (`bsq --debug`)."""
    return bool(ctx.find_root().params.get("debug"))


def is_usage_error(error: Exception) -> bool:
    """Typer prints these itself: they know the verb's usage line."""
    return hasattr(error, "exit_code") and not isinstance(error, BsqError)


def as_settings_error(error: Exception) -> Exception:
    """What pydantic found wrong with settings, in our words; any other error as it is."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return error
    from bsq.settings import told_faults

    wrapped = SettingsError(told_faults(error))
    wrapped.__cause__ = error
    return wrapped


def exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, BsqError) else INTERNAL


def reason(error: Exception) -> str:
    """The error in plain words."""
    match error:
        case BsqError():
            return str(error)
        case MemoryError():
            return "out of memory"
        case RuntimeError() if NO_MEMORY.search(str(error)):
            return "out of memory"
        case _:
            return f"a bug in bsq: {type(error).__name__}: {error}; `bsq --debug …` shows where"


def report(error: Exception, debug: bool) -> None:
    if debug:
        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    typer.secho(f"error: {reason(error)}", fg="red", err=True)


def say(line: str) -> None:
    """A line for people. Standard output is kept for results, so that pipes stay clean."""
    typer.echo(line, err=True)
