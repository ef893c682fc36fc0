"""Steps of a tokenizer's training. What enters: micro-batches of one step. What leaves: a model one step on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from bsq.checkpoint import begin_from, load
from bsq.data.dataset import to_pixels
from bsq.data.loader import Batch
from bsq.errors import SettingsError
from bsq.tokenizer import Reconstruction, Tokenizer
from bsq.train.adversary import Pair, Skipped, Taken, build_adversary
from bsq.train.checkpoints import State
from bsq.train.learners import choose_learners
from bsq.train.meter import Meter
from bsq.train.mover import Mover
from bsq.train.objective import Objective, TokenizerObjective, draw_kept
from bsq.train.rate_prior import build_rate
from bsq.train.recipe import Recipe
from bsq.vit.transformer import Transformer


@dataclass(frozen=True, eq=False)
class Judged:
    """One micro-batch: the loss to differentiate, and what a discriminator learns from."""

    loss: Tensor
    pair: Pair


class Trainer(Mover[Tokenizer]):
    """A tokenizer, its average, its discriminator, and everything that moves them."""

    recipe: Recipe

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        super().__init__(recipe, build_tokenizer(recipe), accelerator)
        self.objective = TokenizerObjective(recipe.loss).to(accelerator.device)
        self.adversary = build_adversary(
            recipe.loss.adversarial, recipe.discriminator_optimizer, recipe.clip, accelerator
        )
        self.rate = build_rate(
            recipe.loss.rate, self.tokenizer.quantizer, recipe.data.frames, recipe.pictures, accelerator
        )
        self.meter = Meter(self.tokenizer.radices)
        self._pairs: list[Pair] = []

    @property
    def tokenizer(self) -> Tokenizer:
        return self.network

    def train_step(self, batches: Sequence[Batch]) -> Taken | Skipped:
        """One step of the tokenizer, then one of prior and discriminator, on this process's micro-batches."""
        self._pairs = []
        self.rate.forget()
        return super().train_step(batches)

    def _loss(self, batch: Batch) -> Tensor:
        judged = self._reconstruct(batch)
        self._pairs.append(judged.pair)
        return judged.loss

    def _afterwards(self, factor: float) -> Taken | Skipped:
        self.rate.train_step(factor)
        return self.adversary.train_step(self._pairs, self.step, factor, self.autocast, self.meter)

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
            counted = self.rate.count(again.quantized, kept, self.seen)
        loss = objective.loss if verdict is None else objective.loss + verdict.weight * verdict.loss
        loss = loss if counted is None else loss + counted.loss
        if bool(torch.isfinite(loss)):
            self.meter.add("loss", loss.item(), len(pixels))
            self.meter.add_terms(objective.terms, len(pixels))
            if verdict is not None:
                self.meter.add_terms({"generator": verdict.loss, "generator_weight": verdict.weight}, len(pixels))
            self.meter.add_psnr(objective.squared, kept)
            if counted is not None:
                self.meter.add_by_kept("rate", counted.bits.tolist(), kept)
            self.meter.add_digits(again.quantized.digits)
        return Judged(loss, Pair(pixels, again.pixels.detach().float()))

    def _bare(self) -> Tokenizer:
        return Tokenizer(self.recipe.model)

    def export(self, folder: Path, averaged: Tokenizer) -> None:
        averaged.save_pretrained(folder)
        self.rate.export(folder, averaged.code_hash, self.seen)

    def _lasting(self) -> dict[str, Any]:
        return lasting(self.recipe)

    def state(self) -> State:
        state = super().state()
        return State({**state.tensors, **self.adversary.tensors(), **self.rate.tensors()}, state.facts)

    def restore(self, state: State) -> None:
        super().restore(State(state.tensors, {"rate": None, **state.facts}))  # earlier runs knew of no rate
        self.adversary.restore(state.tensors)
        self.rate.restore(state.tensors)


def lasting(recipe: Recipe) -> dict[str, Any]:
    """The settings that a run keeps to its end: the batch, so that steps count pictures, and all that shapes state."""
    return {
        "batch": recipe.batch,
        "model": recipe.model.model_dump(mode="json"),
        "learns": recipe.learns,
        "optimizer": {"kind": recipe.optimizer.kind},
        "loss": {"adversarial": recipe.loss.adversarial.model_dump(mode="json", include={"kind", "discriminator"})},
        "rate": None if recipe.loss.rate is None else recipe.loss.rate.lasting(recipe.data.frames),
    }


def build_tokenizer(recipe: Recipe) -> Tokenizer:
    """A new tokenizer, its weights drawn from the seed or taken from its `initial` model: the same, or one that
    sees less far in time, has fewer blocks or no refiner (`bsq.checkpoint.begin`). Raises SettingsError for any other.
    """
    torch.manual_seed(recipe.seed)
    tokenizer = Tokenizer(recipe.model)
    if recipe.initial is not None:
        try:
            begin_from(load(recipe.initial), tokenizer)
        except SettingsError as error:
            raise SettingsError(f"initial={recipe.initial}: {error}") from error
    choose_learners(tokenizer, recipe)
    for part in tokenizer.modules():
        if isinstance(part, Transformer):
            part.recompute = recipe.recompute
    return tokenizer
