"""Tensors out of a torch pickle without running any of it. What enters: a `.pt` file. What leaves: plain containers of
tensors, or the named tensors of a whole module.

The authors' files hold configuration objects beside the weights, so `weights_only=True` refuses them. Here, only what
rebuilds tensors and plain containers is honoured; every other name in the pickle becomes an inert husk, never
imported, never called.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from bsq.errors import CheckpointError

HONOURED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}

MOST_DEPTH = 64  # of modules within modules


class Husk:
    """Stands for any object of a class that is not honoured: takes whatever the pickle says of it, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs

    def __call__(self, *args: Any, **kwargs: Any) -> Husk:
        del args, kwargs
        return self

    def __setstate__(self, state: Any) -> None:
        del state

    def __setitem__(self, key: Any, value: Any) -> None:
        del key, value

    def append(self, item: Any) -> None:
        del item

    def extend(self, items: Any) -> None:
        del items

    def add(self, item: Any) -> None:
        del item

    def __hash__(self) -> int:
        return id(self)


class RestrictedUnpickler(pickle.Unpickler):
    """Finds only what is honoured. (Of the storages of tensors torch.load itself takes care.)"""

    def find_class(self, module: str, name: str) -> Any:
        return HONOURED.get((module, name), Husk)


class Shell(Husk):
    """A husk that keeps the state the pickle gives it, unread: that of a module is a dictionary."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class ModuleUnpickler(RestrictedUnpickler):
    """The same with shells, so that modules within modules can be looked through."""

    def find_class(self, module: str, name: str) -> Any:
        return HONOURED.get((module, name), Shell)


def read_module(path: Path) -> dict[str, torch.Tensor]:
    """The state_dict of a module that was pickled whole (`torch.save(module)`), none of its code run.

    Raises CheckpointError as `read_pickle` does, and for a file that holds no module.
    """
    content = read_pickle(path, ModuleUnpickler)
    tensors = dict(_tensors(content, "", 0)) if isinstance(content, Shell) else {}
    if not tensors:
        raise CheckpointError(f"{path} holds no pickled module with tensors, but a {type(content).__name__}")
    return tensors


def _tensors(module: Any, prefix: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    state = getattr(module, "state", None)
    if not isinstance(state, dict) or depth > MOST_DEPTH:
        return
    for table in ("_parameters", "_buffers"):
        for name, tensor in dict(state.get(table) or {}).items():
            if isinstance(tensor, torch.Tensor):
                yield f"{prefix}{name}", tensor.detach()
    for name, part in dict(state.get("_modules") or {}).items():
        yield from _tensors(part, f"{prefix}{name}.", depth + 1)


def read_pickle(path: Path, unpickler: type[RestrictedUnpickler] = RestrictedUnpickler) -> Any:
    """What a zip-format torch file holds, husks in place of foreign objects.

    Raises:
        CheckpointError: no such file, not a zip-format torch file, a program (TorchScript), or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"no file {path}")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is not a torch checkpoint in zip format (torch.save since 1.6), or is cut short")
    restricted = SimpleNamespace(Unpickler=unpickler, load=pickle.load, __name__="bsq.checkpoint.unpickle")
    try:
        check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=restricted)
    except CheckpointError:
        raise
    except Exception as error:  # damaged pickles raise a dozen types
        reason = str(error) or type(error).__name__
        raise CheckpointError(f"{path} cannot be read as a torch checkpoint: {reason}") from error


def check_archive(path: Path) -> None:
    """Raise CheckpointError for what torch.load takes without a word: wrong checksums, and programs, which it runs."""
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise CheckpointError(f"{path} is a TorchScript program; save its state_dict with torch.save instead")
        if (damaged := archive.testzip()) is not None:
            raise CheckpointError(f"{path} is damaged: the checksum of {damaged} does not hold")
