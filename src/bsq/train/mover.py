"""Steps of training, whatever is trained. What enters: micro-batches of one step. What leaves: a model one step on, and
what was measured.

A step is a function of the state before it, its batches, and random numbers that derive from (seed, step, process):
nothing else has to be kept to repeat it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from bsq.errors import NumericsError, SettingsError
from bsq.train.adversary import Skipped, Taken
from bsq.train.checkpoints import State
from bsq.train.ema import Ema
from bsq.train.meter import Meter
from bsq.train.optimizers import build_optimizers, set_learning_rate
from bsq.train.parallel import (
    Replicated,
    choose_parallel,
    exchange,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizer,
    whole,
)
from bsq.train.run_settings import RunSettings
from bsq.train.schedule import learning_rate_factor
from bsq.train.stepping import choose_stepping

NOISE = 3
"""Which stream of random numbers a step's own noise comes from (data sets have 0 and 1, kept digits 2)."""

Network = TypeVar("Network", bound=nn.Module)


class Mover(ABC, Generic[Network]):
    """A network, its average, and the optimizers that move it. `step` counts what is behind."""

    meter: Meter

    def __init__(self, recipe: RunSettings, network: Network, accelerator: Accelerator) -> None:
        self.recipe = recipe
        self.accelerator = accelerator
        self.step = 0
        self.bad_steps = 0  # in a row
        self.network: Network = network.to(accelerator.device)
        self.ema = Ema(self.network, recipe.ema, recipe.batch)
        self.parallel = choose_parallel(recipe.parallel, accelerator)
        shared = self.parallel.share(self.network.train())
        self.parallel.keep(self.ema.model)
        self.optimizers = build_optimizers(recipe.optimizer, self.network)  # over what this process holds
        self.stepping = choose_stepping(recipe, self.network, self.optimizers, accelerator)
        self.model = compiled(recipe, shared)

    @abstractmethod
    def _loss(self, batch: Any) -> Tensor:
        """The loss of one micro-batch, measured on the way. Raises NumericsError where there is none."""

    @abstractmethod
    def _bare(self) -> Network:
        """A network of this shape, to be given weights."""

    @abstractmethod
    def _lasting(self) -> dict[str, Any]:
        """The settings that a run keeps to its end."""

    @abstractmethod
    def export(self, folder: Path, averaged: Network) -> None:
        """Write the averaged model, and what goes with it; one process alone."""

    def _afterwards(self, factor: float) -> Taken | Skipped:
        """What follows a step that was taken, at `factor` of the learning rate."""
        return Taken()

    @property
    def seen(self) -> int:
        """Pictures seen by all processes."""
        return self.step * self.recipe.batch

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    def train_step(self, batches: Sequence[Any]) -> Taken | Skipped:
        """One step on this process's micro-batches."""
        self._seed_noise()
        factor = learning_rate_factor(self.recipe.schedule, self.seen, self.recipe.pictures)
        set_learning_rate(self.optimizers, factor)
        outcome = self._move(batches)
        if isinstance(outcome, Taken):
            self.ema.update(self.network, self.step)
            outcome = self._afterwards(factor)
        self.bad_steps = self.bad_steps + 1 if isinstance(outcome, Skipped) else 0
        self.step += 1
        return outcome

    def _move(self, batches: Sequence[Any]) -> Taken | Skipped:
        for number, batch in enumerate(batches):
            with exchange(self.parallel, self.model, last=number == len(batches) - 1):
                loss, reason = None, ""
                try:
                    loss = self._loss(batch)
                except NumericsError as error:
                    reason = str(error)
                if self.anywhere(loss is None) or loss is None:
                    return self._skip(reason or "another process met a number that is none")
                self.accelerator.backward(loss / len(batches))
        norm = self.stepping.finish()
        if not math.isfinite(norm):
            return self._skip(f"the gradient's norm is {norm}")
        self.meter.add("gradient_norm", norm)
        return Taken()

    def _skip(self, reason: str) -> Skipped:
        self.stepping.forget()
        return Skipped(reason)

    def autocast(self) -> AbstractContextManager[Any]:
        enabled = self.recipe.precision == "bf16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=enabled)

    def anywhere(self, here: bool) -> bool:
        """Whether it holds in any process."""
        if self.accelerator.num_processes == 1:
            return here
        flag = torch.tensor(float(here), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _seed_noise(self) -> None:
        words = np.random.SeedSequence((self.recipe.seed, NOISE, self.step, self.accelerator.process_index))
        torch.manual_seed(int(words.generate_state(1, np.uint64)[0]))

    def averaged(self) -> Network:
        """The averaged model, whole and in evaluation mode; every process has to ask."""
        if isinstance(self.parallel, Replicated):
            return self.ema.model
        network = self._bare().to(self.accelerator.device)
        network.load_state_dict({name: whole(tensor) for name, tensor in self.ema.model.state_dict().items()})
        return network.eval().requires_grad_(False)

    def state(self) -> State:
        """All that later steps depend on; every process has to ask."""
        tensors = module_tensors(self.network, "model.") | module_tensors(self.ema.model, "ema.")
        for number, optimizer in enumerate(self.optimizers):
            tensors.update(optimizer_tensors(optimizer, f"optimizer{number}."))
        return State(tensors, {"step": self.step, "bad_steps": self.bad_steps, **self._lasting()})

    def restore(self, state: State) -> None:
        """Mirror of `state`. Raises SettingsError for a recipe that cannot go on from it (`_lasting`)."""
        for name, now in self._lasting().items():
            check_unchanged(name, state.facts.get(name, now), now)
        restore_module(self.network, state.tensors, "model.")
        restore_module(self.ema.model, state.tensors, "ema.")
        for number, optimizer in enumerate(self.optimizers):
            restore_optimizer(optimizer, state.tensors, f"optimizer{number}.")
        self.step, self.bad_steps = state.facts["step"], state.facts["bad_steps"]


def check_unchanged(name: str, begun: Any, now: Any) -> None:
    """Raises SettingsError that names the first setting that differs."""
    if isinstance(begun, dict) and isinstance(now, dict) and begun.keys() == now.keys():
        for key in now:
            check_unchanged(f"{name}.{key}", begun[key], now[key])
    elif begun != now:
        raise SettingsError(
            f"the run was begun with {name}={begun} and cannot go on with {now}; lengths, rates and micro_batch may "
            "change, or begin a new run from its weights (initial=)"
        )


def compiled(recipe: RunSettings, model: torch.nn.Module) -> torch.nn.Module:
    """Compiled for each shape of its own: a run has one of pictures and one of clips, and both stay."""
    match recipe.compile:
        case "off":
            return model
        case "default":
            return torch.compile(model, dynamic=False)  # type: ignore[return-value]
        case "max-autotune":
            return torch.compile(model, mode="max-autotune", dynamic=False)  # type: ignore[return-value]
        case other:
            raise SettingsError(f"no compilation {other!r}")
