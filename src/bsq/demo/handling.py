"""Between gradio and the rest. What enters: a function. What leaves: one whose errors are shown in plain words."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NoReturn

from bsq.demo.making import Maker
from bsq.demo.material import Bounds
from bsq.demo.scratch import Scratch
from bsq.demo.words import plain
from bsq.errors import BsqError, MissingDependencyError
from bsq.tokenizer import Tokenizer

AT_WORK = {"concurrency_id": "work", "concurrency_limit": 1}
"""For whatever computes: one request at a time, the others wait in a queue."""

BESIDE_WORK = {"concurrency_id": "beside", "concurrency_limit": 1}
"""For what may go on while the visitor already asks for something else."""

READING_TIME = 15  # seconds that a message stays


@dataclass(frozen=True, eq=False)
class Setup:
    """What the page works with. `decoders` are those of the model's codes by name, `debug` prints tracebacks of bugs to
    the terminal, never to the page.
    """

    model: Tokenizer
    model_name: str
    maker: Maker | None
    scratch: Scratch
    decoders: Mapping[str, Tokenizer] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=Bounds)
    debug: bool = False


def import_gradio() -> ModuleType:
    """gradio. Raises MissingDependencyError without it."""
    try:
        import gradio
    except ImportError as error:
        raise MissingDependencyError(
            "the page needs gradio, which is not installed; pip install 'bsq[demo]'"
        ) from error
    return gradio


def take(upload: str | None) -> tuple[str | None, None]:
    """An upload's path, and nothing in its place, so that the next file can be dropped there."""
    return upload, None


def politely(setup: Setup, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same function or generator; whatever it raises becomes a message on the page."""

    @functools.wraps(work)
    def once(*inputs: Any) -> Any:
        try:
            return work(*inputs)
        except Exception as error:
            complain(setup, error)

    @functools.wraps(work)
    def by_and_by(*inputs: Any) -> Iterator[Any]:
        try:
            yield from work(*inputs)
        except Exception as error:
            complain(setup, error)

    return by_and_by if inspect.isgeneratorfunction(work) else once


def complain(setup: Setup, error: Exception) -> NoReturn:
    """Raise what gradio shows as a message."""
    gradio = import_gradio()
    if setup.debug and not isinstance(error, BsqError):
        traceback.print_exception(error, file=sys.stderr)
    raise gradio.Error(plain(error), title="That did not work", duration=READING_TIME, print_exception=False) from None
