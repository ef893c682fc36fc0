"""Optimizers. What enters: settings and a model. What leaves: one or two optimizers that share out its parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import nn
from torch.optim import AdamW, Optimizer

from bsq.errors import MissingDependencyError
from bsq.settings import Settings

Beta = Annotated[float, Field(ge=0, lt=1)]
COUNTERS = "k", "weight_sum", "lr_max"
"""What schedulefree counts for a whole group of parameters, beside what it remembers of each."""


class AdamWSettings(Settings):
    """AdamW; decay acts on matrices only. Defaults: the paper's, at a batch of 256 (4e-7 times the batch)."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: PositiveFloat = 1.024e-4
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 1e-4


class MuonSettings(Settings):
    """Muon for the matrices inside transformer blocks (arXiv:2502.16982: its updates have AdamW's size, so learning
    rates carry over), AdamW for everything else. Needs torch 2.9.
    """

    kind: Literal["muon"] = "muon"
    learning_rate: PositiveFloat = 1e-3
    momentum: Beta = 0.95
    weight_decay: NonNegativeFloat = 1e-4
    rest: AdamWSettings = AdamWSettings()


class ScheduleFreeSettings(Settings):
    """AdamW that averages its weights as it goes, instead of letting its rate fall (arXiv:2405.15682): for runs whose
    length is not known. Wants a `schedule` that only warms up. The twin of `ema` averages what gradients are taken at.
    """

    kind: Literal["schedule_free"] = "schedule_free"
    learning_rate: PositiveFloat = 2.5e-3
    betas: tuple[Annotated[float, Field(gt=0, lt=1)], Beta] = (0.9, 0.99)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 1e-4


AnyOptimizerSettings = AdamWSettings | MuonSettings | ScheduleFreeSettings
OptimizerSettings = Annotated[AnyOptimizerSettings, Field(discriminator="kind")]


def build_optimizers(settings: AnyOptimizerSettings, model: nn.Module) -> list[Optimizer]:
    """Optimizers over all trainable parameters of `model`; each group remembers its `base_rate`.

    Raises MissingDependencyError for Muon with a torch older than 2.9, and where schedulefree is not installed.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    match settings:
        case AdamWSettings():
            optimizers = [adamw(settings, [parameter for _, parameter in named])]
        case MuonSettings():
            if not hasattr(torch.optim, "Muon"):
                raise MissingDependencyError(
                    f"optimizer.kind=muon needs torch 2.9 or newer, this is {torch.__version__}; "
                    "pip install -U torch, or set optimizer.kind=adamw"
                )
            hidden = [parameter for name, parameter in named if is_hidden_matrix(name, parameter)]
            rest = [parameter for name, parameter in named if not is_hidden_matrix(name, parameter)]
            optimizers = [muon(settings, hidden), adamw(settings.rest, rest)]
        case ScheduleFreeSettings():
            optimizers = [schedule_free(settings, [parameter for _, parameter in named])]
        case _:
            raise TypeError(f"no optimizer for {settings!r}")
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_rate"] = group["lr"]
    return optimizers


def adamw(settings: AdamWSettings, parameters: list[nn.Parameter]) -> Optimizer:
    groups = decaying_matrices(parameters, settings.weight_decay)
    # One pass over memory instead of one for each operation; not for parameters shared out among processes.
    fused = all(
        type(parameter) is nn.Parameter and parameter.device.type in ("cpu", "cuda") for parameter in parameters
    )
    return AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.epsilon, fused=fused or None)


def schedule_free(settings: ScheduleFreeSettings, parameters: list[nn.Parameter]) -> Optimizer:
    """Schedule-free AdamW (arXiv 2405.15682). Raises MissingDependencyError."""
    try:
        from schedulefree import AdamWScheduleFree
    except ImportError as error:
        raise MissingDependencyError(
            "optimizer.kind=schedule_free needs schedulefree: pip install 'bsq[train]', or choose adamw or muon"
        ) from error
    optimizer = AdamWScheduleFree(
        decaying_matrices(parameters, settings.weight_decay),
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
    )
    optimizer.train()  # for good: its other mode swaps the weights for their average, which `ema` does beside the model
    return optimizer


def decaying_matrices(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Groups of parameters: matrices with the decay, vectors without."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def muon(settings: MuonSettings, parameters: list[nn.Parameter]) -> Optimizer:
    return torch.optim.Muon(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """A matrix between hidden activations: not the first or last layer, a table or a codebook."""
    return parameter.ndim == 2 and ".blocks." in f".{name}"


def set_learning_rate(optimizers: list[Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_rate"] * factor
