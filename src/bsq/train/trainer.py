"""Steps of training. What enters: micro-batches of one step. What leaves: a model one step on, and what was measured.

A step is a function of the state before it, its pictures, and random numbers that derive from (seed, step, process):
nothing else has to be kept to repeat it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from bsq.checkpoint import begin_from, load
from bsq.data.dataset import to_pixels
from bsq.data.loader import Batch
from bsq.errors import NumericsError, SettingsError
from bsq.tokenizer import Reconstruction, Tokenizer
from bsq.train.adversary import Pair, Skipped, Taken, build_adversary
from bsq.train.checkpoints import State
from bsq.train.ema import Ema
from bsq.train.meter import Meter
from bsq.train.objective import Objective, TokenizerObjective, draw_kept
from bsq.train.optimizers import build_optimizers, set_learning_rate
from bsq.train.parallel import (
    Replicated,
    choose_parallel,
    clip_gradients,
    exchange,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizer,
    whole,
)
from bsq.train.recipe import Recipe
from bsq.train.schedule import learning_rate_factor
from bsq.vit.transformer import Transformer

NOISE = 3
"""Which stream of random numbers a step's own noise comes from (data sets have 0 and 1, kept digits 2)."""


@dataclass(frozen=True, eq=False)
class Judged:
    """One micro-batch: the loss to differentiate, and what a discriminator learns from."""

    loss: Tensor
    pair: Pair


class Trainer:
    """A tokenizer, its average, and everything that moves them. `step` and `seen` count what is behind."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        self.recipe = recipe
        self.accelerator = accelerator
        self.step = 0
        self.bad_steps = 0  # in a row
        self.tokenizer = build_tokenizer(recipe).to(accelerator.device)
        self.ema = Ema(self.tokenizer, recipe.ema, recipe.batch)
        self.objective = TokenizerObjective(recipe.loss).to(accelerator.device)
        self.parallel = choose_parallel(recipe.parallel, accelerator)
        shared = self.parallel.share(self.tokenizer.train())
        self.parallel.keep(self.ema.model)
        self.optimizers = build_optimizers(recipe.optimizer, self.tokenizer)  # over what this process holds
        self.model = compiled(recipe, shared)
        self.adversary = build_adversary(
            recipe.loss.adversarial, recipe.discriminator_optimizer, recipe.clip, accelerator
        )
        self.meter = Meter(self.tokenizer.radices)

    @property
    def seen(self) -> int:
        """Pictures seen by all processes."""
        return self.step * self.recipe.batch

    def train_step(self, batches: Sequence[Batch]) -> Taken | Skipped:
        """One step of the tokenizer, then one of the discriminator, on this process's micro-batches."""
        self._seed_noise()
        factor = learning_rate_factor(self.recipe.schedule, self.seen, self.recipe.pictures)
        set_learning_rate(self.optimizers, factor)
        pairs: list[Pair] = []
        outcome = self._tokenizer_step(batches, pairs)
        if isinstance(outcome, Taken):
            self.ema.update(self.tokenizer, self.step)
            outcome = self.adversary.train_step(pairs, self.step, factor, self.autocast, self.meter)
        self.bad_steps = self.bad_steps + 1 if isinstance(outcome, Skipped) else 0
        self.step += 1
        return outcome

    def _tokenizer_step(self, batches: Sequence[Batch], pairs: list[Pair]) -> Taken | Skipped:
        """Move the tokenizer; `pairs` receives pixels and reconstructions of each micro-batch."""
        for number, batch in enumerate(batches):
            with exchange(self.parallel, self.model, last=number == len(batches) - 1):
                judged, reason = None, ""
                try:
                    judged = self._reconstruct(batch)
                except NumericsError as error:
                    reason = str(error)
                if self.anywhere(judged is None) or judged is None:
                    return self._skip(reason or "another process met a number that is none")
                self.accelerator.backward(judged.loss / len(batches))
                pairs.append(judged.pair)
        norm = clip_gradients(self.tokenizer.parameters(), self.recipe.clip)
        if not math.isfinite(norm):
            return self._skip(f"the gradient's norm is {norm}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.meter.add("gradient_norm", norm)
        return Taken()

    def _reconstruct(self, batch: Batch) -> Judged:
        """The loss of one micro-batch, measured on the way."""
        pixels = to_pixels(batch.stored.to(self.accelerator.device, non_blocking=True))
        nested = self.recipe.nested
        kept = None if nested is None else draw_kept(nested, self.recipe.seed, batch.positions).to(pixels.device)
        with self.autocast():
            again: Reconstruction = self.model(pixels, kept)
            # Looked up behind the forward pass: until the backward pass it is whole, even in shared models.
            last_layer = self.tokenizer.get_parameter("decoder.to_patches.2.weight")
            objective: Objective = self.objective(again, pixels, self.seen)
            verdict = self.adversary.judge(again.pixels, self.step, objective.distance, last_layer)
        loss = objective.loss if verdict is None else objective.loss + verdict.weight * verdict.loss
        if bool(torch.isfinite(loss)):
            self.meter.add("loss", loss.item(), len(pixels))
            self.meter.add_terms(objective.terms, len(pixels))
            if verdict is not None:
                self.meter.add_terms({"generator": verdict.loss, "generator_weight": verdict.weight}, len(pixels))
            self.meter.add_psnr(objective.squared, kept)
            self.meter.add_digits(again.quantized.digits)
        return Judged(loss, Pair(pixels, again.pixels.detach().float()))

    def _skip(self, reason: str) -> Skipped:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
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

    def averaged(self) -> Tokenizer:
        """The averaged model, whole and in evaluation mode; every process has to ask."""
        if isinstance(self.parallel, Replicated):
            return self.ema.model
        tokenizer = Tokenizer(self.recipe.model).to(self.accelerator.device)
        tokenizer.load_state_dict({name: whole(tensor) for name, tensor in self.ema.model.state_dict().items()})
        return tokenizer.eval().requires_grad_(False)

    def state(self) -> State:
        """All that later steps depend on; every process has to ask."""
        tensors = module_tensors(self.tokenizer, "model.") | module_tensors(self.ema.model, "ema.")
        for number, optimizer in enumerate(self.optimizers):
            tensors.update(optimizer_tensors(optimizer, f"optimizer{number}."))
        tensors.update(self.adversary.tensors())
        return State(tensors, {"step": self.step, "bad_steps": self.bad_steps, **lasting(self.recipe)})

    def restore(self, state: State) -> None:
        """Mirror of `state`. Raises SettingsError for a recipe that cannot go on from it (`lasting`)."""
        for name, now in lasting(self.recipe).items():
            check_unchanged(name, state.facts.get(name, now), now)
        restore_module(self.tokenizer, state.tensors, "model.")
        restore_module(self.ema.model, state.tensors, "ema.")
        for number, optimizer in enumerate(self.optimizers):
            restore_optimizer(optimizer, state.tensors, f"optimizer{number}.")
        self.adversary.restore(state.tensors)
        self.step, self.bad_steps = state.facts["step"], state.facts["bad_steps"]


def lasting(recipe: Recipe) -> dict[str, Any]:
    """The settings that a run keeps to its end: the batch, so that steps count pictures, and all that shapes state."""
    return {
        "batch": recipe.batch,
        "model": recipe.model.model_dump(mode="json"),
        "optimizer": {"kind": recipe.optimizer.kind},
        "loss": {"adversarial": recipe.loss.adversarial.model_dump(mode="json", include={"kind", "discriminator"})},
    }


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


def build_tokenizer(recipe: Recipe) -> Tokenizer:
    """A new tokenizer, its weights drawn from the seed or taken from its `initial` model: the same, or one that
    sees less far in time (`bsq.checkpoint.begin`). Raises SettingsError for any other.
    """
    torch.manual_seed(recipe.seed)
    tokenizer = Tokenizer(recipe.model)
    if recipe.initial is not None:
        try:
            begin_from(load(recipe.initial), tokenizer)
        except SettingsError as error:
            raise SettingsError(f"initial={recipe.initial}: {error}") from error
    for part in tokenizer.modules():
        if isinstance(part, Transformer):
            part.recompute = recipe.recompute
    return tokenizer


def compiled(recipe: Recipe, model: torch.nn.Module) -> torch.nn.Module:
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
