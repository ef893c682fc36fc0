"""Steps of training. What enters: micro-batches of one step. What leaves: a model one step on, and what was measured.

A step is a function of the state before it, its pictures, and random numbers that derive from (seed, step, process):
nothing else has to be kept to repeat it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from bsq.checkpoint import load
from bsq.data.dataset import to_pixels
from bsq.data.loader import Batch
from bsq.errors import NumericsError, SettingsError
from bsq.tokenizer import Tokenizer
from bsq.train.checkpoints import State, optimizer_tensors, restore_optimizer, under
from bsq.train.ema import Ema
from bsq.train.meter import Meter
from bsq.train.objective import Objective, TokenizerObjective, draw_kept
from bsq.train.optimizers import build_optimizers, set_learning_rate
from bsq.train.recipe import Recipe
from bsq.train.schedule import learning_rate_factor
from bsq.vit.transformer import Transformer

NOISE = 3
"""Which stream of random numbers a step's own noise comes from (data sets have 0 and 1, kept digits 2)."""


@dataclass(frozen=True)
class Taken:
    """A step that changed the model."""

    gradient_norm: float


@dataclass(frozen=True)
class Skipped:
    """A step whose loss or gradient was not a number; the model is as before."""

    reason: str


class Trainer:
    """A tokenizer, its average, and everything that moves them. `step` and `seen` count what is behind."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        self.recipe = recipe
        self.accelerator = accelerator
        self.step = 0
        self.bad_steps = 0  # in a row
        self.tokenizer = build_tokenizer(recipe).to(accelerator.device)
        self.ema = Ema(self.tokenizer, recipe.ema)
        self.objective = TokenizerObjective(recipe.loss).to(accelerator.device)
        self.optimizers = build_optimizers(recipe.optimizer, self.tokenizer)
        self.model = compiled(recipe, accelerator.prepare_model(self.tokenizer.train()))
        self.meter = Meter(self.tokenizer.radices)

    @property
    def seen(self) -> int:
        """Pictures seen by all processes."""
        return self.step * self.recipe.batch

    def train_step(self, batches: Sequence[Batch]) -> Taken | Skipped:
        """One step of the tokenizer on this process's micro-batches."""
        self._seed_noise()
        set_learning_rate(self.optimizers, learning_rate_factor(self.recipe.schedule, self.seen, self.recipe.pictures))
        outcome = self._tokenizer_step(batches)
        match outcome:
            case Taken():
                self.ema.update(self.tokenizer, self.step)
                self.bad_steps = 0
            case Skipped():
                self.bad_steps += 1
        self.step += 1
        return outcome

    def _tokenizer_step(self, batches: Sequence[Batch]) -> Taken | Skipped:
        for number, batch in enumerate(batches):
            with self._gradients_meet(last=number == len(batches) - 1):
                try:
                    objective = self._reconstruct(batch)
                    reason = ""
                except NumericsError as error:
                    objective, reason = None, str(error)
                if self.anywhere(bool(reason)):
                    return self._skip(reason or "another process met a number that is none")
                assert objective is not None
                self.accelerator.backward(objective.loss / len(batches))
        norm = self.accelerator.clip_grad_norm_(self.tokenizer.parameters(), self.recipe.clip or float("inf"))
        if not bool(torch.isfinite(norm)):
            return self._skip(f"the gradient's norm is {float(norm)}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.meter.add("gradient_norm", float(norm))
        return Taken(float(norm))

    def _reconstruct(self, batch: Batch) -> Objective:
        """The objective of one micro-batch, measured on the way."""
        pixels = to_pixels(batch.stored.to(self.accelerator.device, non_blocking=True))
        nested = self.recipe.nested
        kept = None if nested is None else draw_kept(nested, self.recipe.seed, batch.positions).to(pixels.device)
        with self.autocast():
            again = self.model(pixels, kept)
            objective: Objective = self.objective(again, pixels, self.seen)
        if bool(torch.isfinite(objective.loss)):
            self.meter.add("loss", objective.loss.item(), len(pixels))
            self.meter.add_terms(objective.terms, len(pixels))
            self.meter.add_psnr(objective.squared, kept)
            self.meter.add_digits(again.quantized.digits)
        return objective

    def _skip(self, reason: str) -> Skipped:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return Skipped(reason)

    def autocast(self) -> AbstractContextManager[Any]:
        enabled = self.recipe.precision == "bf16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=enabled)

    def _gradients_meet(self, last: bool) -> AbstractContextManager[Any]:
        """Processes exchange gradients once a step, with its last micro-batch."""
        return nullcontext() if last else self.accelerator.no_sync(self.model)

    def anywhere(self, here: bool) -> bool:
        """Whether it holds in any process."""
        if self.accelerator.num_processes == 1:
            return here
        flag = torch.tensor(float(here), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _seed_noise(self) -> None:
        words = np.random.SeedSequence((self.recipe.seed, NOISE, self.step, self.accelerator.process_index))
        torch.manual_seed(int(words.generate_state(1, np.uint64)[0]))

    def state(self) -> State:
        """All that later steps depend on."""
        tensors: dict[str, Tensor] = {}
        tensors.update({f"model.{name}": tensor for name, tensor in self.tokenizer.state_dict().items()})
        tensors.update({f"ema.{name}": tensor for name, tensor in self.ema.model.state_dict().items()})
        for number, optimizer in enumerate(self.optimizers):
            tensors.update(optimizer_tensors(optimizer, f"optimizer{number}."))
        return State(tensors, {"step": self.step, "bad_steps": self.bad_steps, "batch": self.recipe.batch})

    def restore(self, state: State) -> None:
        """Mirror of `state`. Raises SettingsError if the batch changed: steps would no longer count pictures."""
        if state.facts["batch"] != self.recipe.batch:
            raise SettingsError(
                f"the run was begun with batch={state.facts['batch']} and cannot go on with {self.recipe.batch}; "
                "micro_batch may change"
            )
        self.tokenizer.load_state_dict(under(state.tensors, "model."))
        self.ema.model.load_state_dict(under(state.tensors, "ema."))
        for number, optimizer in enumerate(self.optimizers):
            restore_optimizer(optimizer, state.tensors, f"optimizer{number}.")
        self.step, self.bad_steps = state.facts["step"], state.facts["bad_steps"]


def build_tokenizer(recipe: Recipe) -> Tokenizer:
    """A new tokenizer, its weights drawn from the recipe's seed or taken from its `initial` model."""
    torch.manual_seed(recipe.seed)
    tokenizer = Tokenizer(recipe.model)
    if recipe.initial is not None:
        given = load(recipe.initial)
        if given.settings != recipe.model:
            raise SettingsError(f"initial={recipe.initial} is a model of other settings than the recipe's model")
        tokenizer.load_state_dict(given.state_dict())
    for part in tokenizer.modules():
        if isinstance(part, Transformer):
            part.recompute = recipe.recompute
    return tokenizer


def compiled(recipe: Recipe, model: torch.nn.Module) -> torch.nn.Module:
    match recipe.compile:
        case "off":
            return model
        case "default":
            return torch.compile(model)  # type: ignore[return-value]
        case "max-autotune":
            return torch.compile(model, mode="max-autotune")  # type: ignore[return-value]
        case other:
            raise SettingsError(f"no compilation {other!r}")
