"""What a run would take. What enters: a recipe. What leaves: parameters, FLOPs, memory, steps, without training.

Everything is counted on tensors that have shapes but no content, so a large model is as quick to plan as a small one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from bsq.generate.network import Generator
from bsq.losses.adversarial import NoAdversarialSettings
from bsq.losses.discriminators import build_discriminator
from bsq.losses.perceptual import NoPerceptualSettings
from bsq.prior.masked import MaskedPrior
from bsq.tokenizer import Tokenizer
from bsq.train.generator_recipe import GeneratorRecipe
from bsq.train.learners import choose_learners
from bsq.train.optimizers import AdamWSettings, MuonSettings, ScheduleFreeSettings, is_hidden_matrix
from bsq.train.recipe import Recipe
from bsq.train.stepping import waiting_gradients
from bsq.vit.transformer import Transformer

FLOAT32 = 4


@dataclass(frozen=True)
class Plan:
    """`flops` of a forward and backward pass of one sample (2 for a multiply-add), without other networks: of a picture
    or a clip, their mean where both are seen; `state_bytes` of weights, gradients, average and optimizers, the
    discriminator's included; `activation_bytes` of one micro-batch, without other networks, at most: attention counts
    with all its N² weights, which fused kernels do not keep. `others` names the networks left out.
    """

    parameters: int
    flops: int
    state_bytes: int
    activation_bytes: int
    steps: int
    pictures: int
    others: tuple[str, ...] = ()

    @property
    def memory_bytes(self) -> int:
        return self.state_bytes + self.activation_bytes

    def lines(self) -> list[str]:
        """For a person."""
        state, activations = self.state_bytes / 2**30, self.activation_bytes / 2**30
        without = f" (of the tokenizer, without {' and '.join(self.others)})" if self.others else ""
        return [
            f"parameters      {self.parameters / 1e6:,.2f} M",
            f"FLOPs/picture   {self.flops / 1e9:,.1f} G, forward and backward{without}",
            f"memory          {state + activations:,.2f} GiB a process: {state:,.2f} for weights, gradients, average, "
            f"optimizer; at most {activations:,.2f} for activations{without}",
            f"steps           {self.steps:,} ({self.pictures:,} pictures)",
            f"whole run       {self.flops * self.pictures / 1e15:,.2f} PFLOP",
        ]


def plan_run(recipe: Recipe | GeneratorRecipe, processes: int = 1) -> Plan:
    """What `recipe` takes when shared by so many processes."""
    match recipe:
        case Recipe():
            return plan_tokenizer(recipe, processes)
        case GeneratorRecipe():
            return plan_generator(recipe, processes)
        case other:
            raise TypeError(f"no plan for {other!r}")


def plan_generator(recipe: GeneratorRecipe, processes: int) -> Plan:
    """Without the tokenizer, which makes the codes once. Of each code the half is taken to be unknown."""
    with torch.device("meta"):
        network = Generator(recipe.model).to("meta").train()
    groups = torch.zeros(1, *recipe.model.grid, len(network.grouping.spans), dtype=torch.int64, device="meta")

    def through() -> Tensor:
        known = torch.zeros_like(groups, dtype=torch.bool)
        hidden = network.hidden(groups, known, groups.new_zeros(1)).flatten(0, -2)
        heads = [network.head(hidden[: len(hidden) // 2 + 1], g).sum() for g in range(groups.shape[-1])]
        return torch.stack(heads).sum()

    micro = recipe.micro_batch or max(1, recipe.batch // processes)
    return Plan(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        flops=count_flops(through),
        state_bytes=weight_bytes(recipe, network),
        activation_bytes=micro * activation_bytes(network.to(working_type(recipe.precision)), through),
        steps=recipe.steps,
        pictures=recipe.steps * recipe.batch,
    )


def plan_tokenizer(recipe: Recipe, processes: int) -> Plan:
    """What training by the recipe takes, without doing it: the model exists as shapes alone."""
    with torch.device("meta"):
        tokenizer = Tokenizer(recipe.model).train()
    choose_learners(tokenizer, recipe)
    for part in tokenizer.modules():
        if isinstance(part, Transformer):
            part.recompute = recipe.recompute
    side = recipe.data.crop
    pixels = torch.zeros(1, 3, recipe.data.frames, side, side, device="meta")
    micro = recipe.micro_batch or max(1, recipe.batch // processes)
    state_bytes = weight_bytes(recipe, tokenizer)
    state_bytes += discriminator_bytes(recipe) + rate_bytes(recipe, tokenizer.radices)
    share = recipe.data.clip_share
    flops = sum(
        part * count_flops(partial(through_both, tokenizer, pixels[:, :, :frames]))
        for frames, part in ((1, 1 - share), (recipe.data.frames, share))
        if part
    )
    dtype = working_type(recipe.precision)
    half = pixels.to(dtype)
    kept = activation_bytes(tokenizer.to(dtype), lambda: through_both(tokenizer, half))
    return Plan(
        parameters=sum(parameter.numel() for parameter in tokenizer.parameters()),
        flops=round(flops),
        state_bytes=state_bytes,
        activation_bytes=micro * kept,
        steps=recipe.steps,
        pictures=recipe.steps * recipe.batch,
        others=other_networks(recipe),
    )


def discriminator_bytes(recipe: Recipe) -> int:
    """Weights, gradients, and what AdamW remembers."""
    if isinstance(recipe.loss.adversarial, NoAdversarialSettings):
        return 0
    with torch.device("meta"):
        network = build_discriminator(recipe.loss.adversarial.discriminator)
    return 4 * FLOAT32 * sum(parameter.numel() for parameter in network.parameters())


def rate_bytes(recipe: Recipe, radices: tuple[int, ...]) -> int:
    """Weights, gradients, and what the optimizers of the rate's prior remember, at most."""
    if recipe.loss.rate is None:
        return 0
    with torch.device("meta"):
        network = MaskedPrior(recipe.loss.rate.prior(radices, recipe.data.frames))
    return 4 * FLOAT32 * sum(parameter.numel() for parameter in network.parameters())


def other_networks(recipe: Recipe) -> tuple[str, ...]:
    """Those whose computation and activations a plan leaves out."""
    there = {
        "discriminator": not isinstance(recipe.loss.adversarial, NoAdversarialSettings),
        "LPIPS": not isinstance(recipe.loss.perceptual, NoPerceptualSettings),
        "the rate's prior": recipe.loss.rate is not None,
    }
    return tuple(name for name, is_there in there.items() if is_there)


def weight_bytes(recipe: Recipe | GeneratorRecipe, network: nn.Module) -> int:
    """Weights, gradients, average and what optimizers remember."""
    numbers = sum(p.numel() * copies(recipe, name, p) for name, p in network.named_parameters())
    if recipe.step_in_backward:
        numbers += waiting_gradients([p.numel() for p in network.parameters() if p.requires_grad])
    return FLOAT32 * numbers


def copies(recipe: Recipe | GeneratorRecipe, name: str, parameter: nn.Parameter) -> int:
    """Tensors of a parameter's size: itself, average, gradient if all are kept, and what its optimizer remembers."""
    if not parameter.requires_grad:
        return 2
    kept = 2 if recipe.step_in_backward else 3
    match recipe.optimizer:
        case AdamWSettings() | ScheduleFreeSettings():
            return kept + 2
        case MuonSettings():
            return kept + (1 if is_hidden_matrix(name, parameter) else 2)
        case other:
            raise TypeError(f"no optimizer for {other!r}")


def count_flops(through: Callable[[], Tensor]) -> int:
    """FLOPs of matrix products and attention, forward and backward, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter:
        through().backward()
    return counter.get_total_flops()


def working_type(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def activation_bytes(network: nn.Module, through: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass; tensors kept twice count once."""
    weights = {id(parameter) for parameter in network.parameters()}
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = through()
    del loss
    activations = [t for t in kept if id(t) not in weights and (t._base is None or id(t._base) not in weights)]
    storages = {tensor.untyped_storage()._cdata: tensor for tensor in activations}
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


def through_both(tokenizer: Tokenizer, pixels: Tensor) -> Tensor:
    """A scalar that depends on all weights. The quantizer is left out: it looks at values and costs little."""
    latent = tokenizer.encoder(pixels)
    code = latent.new_zeros(*latent.shape[:-1], tokenizer.quantizer.code_width, requires_grad=True)
    return latent.sum() + tokenizer.decoder(code).sum()
