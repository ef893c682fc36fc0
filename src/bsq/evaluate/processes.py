"""Several processes share the work. What enters: the work. What leaves: what they measured, added up in their order.

Process r of n takes samples r, r + n, r + 2n … A process that fails ends all of them, with its own reason.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol, TypeVar

from bsq.errors import BsqError, EvaluationError

BLAS_THREADS = "OPENBLAS_NUM_THREADS"
Found = TypeVar("Found", bound="Sum", covariant=True)


class Sum(Protocol):
    """What can be added up."""

    def merge(self, other: Any) -> None: ...


class Work(Protocol[Found]):
    """What a process does. It is sent to it, so it holds nothing but settings."""

    def share(self, number: int, count: int, told: Callable[[], None]) -> Found:
        """The part of process `number` of `count`; `told` is called after each sample."""
        ...


@dataclass(frozen=True)
class Failure:
    """Why a process ended early."""

    reason: str
    error: BsqError | None  # one that the user can do something about


@dataclass(frozen=True, eq=False)
class Done:
    """What a process has measured."""

    found: Any


STEP = None
"""The message that one more sample is done."""
Message = Done | Failure | None


def measure(work: Work[Found], processes: int, total: int, on_sample: Callable[[int, int], None]) -> Found:
    """All of the work, in this process or in several; `on_sample` is told (done, total).

    Raises what a process raised, or EvaluationError when one was ended from outside.
    """
    count = min(processes, total)
    if count < 2:
        done = iter(range(1, total + 1))
        return work.share(0, 1, lambda: on_sample(next(done, total), total))
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, tuple[int, SpawnProcess]] = {}
    try:
        for number in range(count):
            ours, theirs = context.Pipe(duplex=False)
            arguments = (theirs, work, number, count)
            process = context.Process(target=begin, args=arguments, name=f"evaluate-{number}", daemon=True)
            with one_blas_thread():
                process.start()
            theirs.close()
            running[ours] = number, process
        return _gather(running, count, total, on_sample)
    finally:
        for _, process in running.values():
            process.terminate()
        for connection, (_, process) in running.items():
            process.join()
            connection.close()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Processes started here multiply numpy's matrices on one thread each, unless the user has set another number.

    OpenBLAS's threads wait for each other without sleeping: in as many processes as there are cores, the threads that
    wait can keep those that they wait for from running for minutes.
    """
    given = os.environ.get(BLAS_THREADS)
    os.environ[BLAS_THREADS] = given or "1"
    try:
        yield
    finally:
        if given is None:
            del os.environ[BLAS_THREADS]


def _gather(
    running: dict[Connection, tuple[int, SpawnProcess]],
    count: int,
    total: int,
    on_sample: Callable[[int, int], None],
) -> Any:
    parts: dict[int, Any] = {}
    done = 0
    waiting = dict(running)
    while waiting:
        for ready in wait(list(waiting)):
            assert isinstance(ready, Connection)
            number, process = waiting[ready]
            match _received(ready, process, number, count):
                case None:
                    done += 1
                    on_sample(done, total)
                case Done(found):
                    parts[number] = found
                    del waiting[ready]
                case Failure(_, BsqError() as error):
                    raise error
                case Failure(reason, _):
                    raise EvaluationError(f"process {number + 1} of {count} failed: {reason}")
    whole = parts[0]
    for number in range(1, count):
        whole.merge(parts[number])
    return whole


def _received(ready: Connection, process: SpawnProcess, number: int, count: int) -> Message:
    try:
        return ready.recv()
    except (EOFError, OSError):
        process.join()
        return Failure(f"it was ended from outside (exit code {process.exitcode}); is there enough memory?", None)


def begin(told: Connection, work: Work[Any], number: int, count: int) -> None:
    """In the other process."""
    try:
        told.send(Done(work.share(number, count, lambda: told.send(STEP))))
    except KeyboardInterrupt:
        pass  # the first process says so
    except BsqError as error:
        told.send(Failure(str(error), error))
    except Exception as error:
        told.send(Failure(f"{type(error).__name__}: {error}", None))


def device_of(device: str, number: int) -> str:
    """Processes on CUDA take its devices by turns."""
    import torch

    return f"cuda:{number % torch.cuda.device_count()}" if device == "cuda" else device
