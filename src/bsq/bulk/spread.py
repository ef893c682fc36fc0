"""Work on many items, here or on a Ray cluster. What enters: work, items. What leaves: results, as they become ready.

Ray (extra `bulk`) is imported only here. A worker is an actor of Ray Data that opens the work once; an item whose
worker or machine dies is given to another one. Items and results are small; how many are under way at once is bounded.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, Protocol, Self, TypeVar

from bsq.errors import BsqError, DataError, MissingDependencyError, SettingsError

Item = TypeVar("Item")
Result = TypeVar("Result")
Given = TypeVar("Given", contravariant=True)
Gives = TypeVar("Gives", covariant=True)
OBJECT_STORE = 2**27
"""Bytes of Ray's shared memory on a machine that we start it on: what goes through it is small, but for the model."""

REACHING = 10.0
"""Seconds to reach a cluster."""


class Work(Protocol[Given, Gives]):
    """Something that other processes can be given."""

    def open(self) -> Callable[[Given], Gives]:
        """What is done with an item; called once in each worker."""
        ...


class Workers(Protocol):
    """Those who do it."""

    def spread(self, work: Work[Item, Result], items: Sequence[Item]) -> Generator[Result, None, None]:
        """Results in any order, one for each item. Closing the generator stops the work.

        Raises the first error that a worker meets; DataError if the cluster cannot be reached, or cannot go on.
        """
        ...


class Here:
    """This process, without Ray."""

    def spread(self, work: Work[Item, Result], items: Sequence[Item]) -> Generator[Result, None, None]:
        do = work.open()
        for item in items:
            yield do(item)


class Cluster:
    """`workers` actors (None: as many as there is room for) on the Ray cluster at `address` (None: one that is started
    on this machine, and ends with the `with` block). Each takes a CPU, on which it also decodes; where models compute
    on GPUs, `per_gpu` of them share one. Connects when there is work.
    """

    def __init__(
        self, address: str | None = None, workers: int | None = None, device: str = "cpu", per_gpu: int = 1
    ) -> None:
        self.address, self.workers, self.device, self.per_gpu = address, workers, device, per_gpu
        self._ray: ModuleType | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None

    def spread(self, work: Work[Item, Result], items: Sequence[Item]) -> Generator[Result, None, None]:
        """Raises MissingDependencyError without Ray, SettingsError if there are no GPUs and they were asked for."""
        ray = self._ray = self._ray or self._connect()
        kept = ray.put(work)  # for as long as this frame, or actors could not be started again
        rows = [{"item": pickle.dumps(item)} for item in items]
        needs = {"num_cpus": 1.0, **({"num_gpus": 1.0 / self.per_gpu} if self.device == "cuda" else {})}
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            fn_constructor_kwargs={"work": [kept], "folder": os.getcwd()},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self._count(ray)),
            **needs,
        )
        try:
            for row in results.iter_rows():
                answer = pickle.loads(row["answer"])
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise DataError(f"the cluster gave up: {str(cause).strip()[:400]}; start again to go on") from error

    def _connect(self) -> ModuleType:
        ray = import_ray()
        options: dict[str, Any] = {"address": self.address or "local", "logging_level": "ERROR", "log_to_driver": False}
        if self.address is None:
            options.update(include_dashboard=False, object_store_memory=OBJECT_STORE)
            if self.workers is not None and self.device == "cpu":
                options.update(num_cpus=self.workers)
        try:
            knock(self.address)
            with quiet_start():
                ray.init(**options)
        except Exception as error:  # ConnectionError, RuntimeError, ValueError …
            place = self.address or "this machine"
            raise DataError(f"no Ray cluster at {place}: {str(error).strip() or type(error).__name__}") from error
        quieten(ray)
        return ray

    def _count(self, ray: ModuleType) -> int:
        """Raises SettingsError where there is room for none."""
        resources = ray.cluster_resources()
        room = int(resources.get("CPU", 0))
        if self.device == "cuda":
            gpus = int(resources.get("GPU", 0))
            if not gpus:
                raise SettingsError("the Ray cluster has no GPUs; choose another --device")
            room = min(room, gpus * self.per_gpu)
        if not room:
            raise SettingsError("the Ray cluster has no CPUs; each worker needs one to decode on")
        return room if self.workers is None else self.workers


def import_ray() -> ModuleType:
    """Ray, told to be quiet. Raises MissingDependencyError."""
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        os.environ.setdefault(name, "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray Data's own actors make it warn of what we see to
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            f"several workers need Ray, and {error.name} is not installed; pip install 'bsq[bulk]', or --workers 0"
        ) from error
    return ray


class Worker:
    """An actor: opens the work once, answers items with results, or with the error that ends the run."""

    def __init__(self, work: list[Any], folder: str) -> None:
        import ray

        with suppress(OSError):  # a machine without that folder can still serve addresses and absolute paths
            os.chdir(folder)
        self._do = ray.get(work[0]).open()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        answers: list[object] = []
        for item in batch["item"]:
            try:
                answers.append(self._do(pickle.loads(item)))
            except Exception as error:
                answers.append(sendable(error))
        return {"answer": [pickle.dumps(answer) for answer in answers]}


def sendable(error: Exception) -> Exception:
    """The error as another process can be given it: one of ours as it is, any other by its words."""
    if isinstance(error, BsqError | MemoryError):
        return type(error)(*error.args)
    return RuntimeError(f"{type(error).__name__}: {error}")


def knock(address: str | None) -> None:
    """Ray tries for minutes to reach a place where nobody is. Raises OSError or ValueError at once."""
    if address is not None and address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError("an address is HOST:PORT, ray://HOST:PORT, or auto")
        socket.create_connection((host, int(port)), timeout=REACHING).close()


@contextmanager
def quiet_start() -> Iterator[None]:
    """Ray's native half says on stderr that it was asked to be silent. What goes wrong is raised."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def quieten(ray: ModuleType) -> None:
    """Ray's own bars and lines do not stand among ours."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
