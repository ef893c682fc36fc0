"""Steps of a generator's training. What enters: codes and labels. What leaves: a network one step on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from bsq.errors import SettingsError
from bsq.generate.folder import GeneratorCard, load_generator, save_generator
from bsq.generate.masking import draw_known, drop_classes
from bsq.generate.network import Generator
from bsq.train.generator_recipe import GeneratorRecipe
from bsq.train.meter import Meter
from bsq.train.mover import Mover
from bsq.train.tokens import TokenBatch


class GeneratorTrainer(Mover[Generator]):
    """A generator, its average, and the optimizers that move it."""

    recipe: GeneratorRecipe

    def __init__(self, recipe: GeneratorRecipe, card: GeneratorCard, accelerator: Accelerator) -> None:
        super().__init__(recipe, build_generator(recipe), accelerator)
        self.card = card
        self.meter = Meter(())

    def _loss(self, batch: TokenBatch) -> Tensor:
        """Cross-entropy of the unknown groups, with smoothed labels; each group counts alike."""
        recipe, device = self.recipe, self.accelerator.device
        groups = self.network.grouping.join(batch.digits.to(device))
        positions = batch.positions.to(device)
        known = draw_known(recipe.masking, recipe.seed, positions, tuple(groups.shape[1:]))  # type: ignore[arg-type]
        none = recipe.model.classes
        labels = batch.labels.to(device) if none else torch.full_like(positions, -1)
        classes = drop_classes(recipe.masking, recipe.seed, positions, labels, none)
        with self.autocast():
            logits = self.model(groups, known, classes)
        losses, nats, right = [], [], 0
        for g, group in enumerate(logits):
            targets, here = groups[..., g][~known[..., g]], group.float()
            losses.append(
                F.cross_entropy(here, targets, label_smoothing=recipe.masking.label_smoothing, reduction="sum")
            )
            nats.append(F.cross_entropy(here.detach(), targets, reduction="sum").item() / max(1, len(targets)))
            right += int((here.argmax(-1) == targets).sum())
        count = int((~known).sum())
        loss = torch.stack(losses).sum() / count
        if bool(torch.isfinite(loss)):
            self.meter.add("loss", loss.item(), len(groups))
            self.meter.add("bits_per_token", sum(nats) / math.log(2), len(groups))
            self.meter.add("accuracy", right / count, count)
        return loss

    def _bare(self) -> Generator:
        return Generator(self.recipe.model)

    def export(self, folder: Path, averaged: Generator) -> None:
        save_generator(folder, averaged, self.card)

    def _lasting(self) -> dict[str, Any]:
        """The batch, so that steps count pictures, all that shapes state, and what the codes mean."""
        return {
            "batch": self.recipe.batch,
            "model": self.recipe.model.model_dump(mode="json", exclude={"dropout"}),
            "optimizer": {"kind": self.recipe.optimizer.kind},
            "code_hash": self.card.code_hash,
        }


def build_generator(recipe: GeneratorRecipe) -> Generator:
    """A new network, its weights drawn from the seed or taken from the `initial` generator, of the same shape."""
    torch.manual_seed(recipe.seed)
    network = Generator(recipe.model)
    if recipe.initial is not None:
        given = load_generator(recipe.initial).network
        if given.settings.model_copy(update={"dropout": recipe.model.dropout}) != recipe.model:
            raise SettingsError(f"initial={recipe.initial} is a generator of other settings than model")
        network.load_state_dict(given.state_dict())
    return network
