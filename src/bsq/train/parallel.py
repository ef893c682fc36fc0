"""How processes share a model. What enters: a tokenizer. What leaves: the module that trains, and whole tensors again.

`Replicated`: every process holds all weights and the gradients are averaged (DDP; also one process alone). `Sharded`:
every process holds its part of weights, gradients, average and optimizer state, and blocks are put together while they
are at work (FSDP2, `torch.distributed.fsdp.fully_shard`). Checkpoints hold whole tensors under the same names either
way, so a run may go on with another number of processes or the other way of sharing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from bsq.errors import SettingsError
from bsq.generate.body import GeneratorBlock
from bsq.layers.block import Block
from bsq.quantizers.base import is_distributed
from bsq.train.checkpoints import under
from bsq.train.optimizers import COUNTERS

Way = Literal["ddp", "fsdp"]
COUNTED = "group"
"""What an optimizer counts for a group of parameters is named with in a checkpoint."""


def join_processes() -> Accelerator:
    """The processes that a launcher started, this one among them; one alone without a launcher.

    Raises SettingsError if they cannot talk to each other: each would train for itself, in the same folder.
    """
    # Unasked, accelerate lets processes without an accelerator stay alone.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no")
    started = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if started > 1 and accelerator.num_processes == 1:
        raise SettingsError(
            f"a launcher started {started} processes, which cannot work together on {accelerator.device}; start one"
        )
    return accelerator


class Replicated:
    """Whole weights in every process."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator

    def share(self, model: nn.Module) -> nn.Module:
        """The module to call in training; `model` keeps the weights."""
        return self.accelerator.prepare_model(model)

    def keep(self, twin: nn.Module) -> None:
        """Nothing to do for a module that is never called in training."""

    def without_exchange(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Within, gradients add up in each process alone (all micro-batches of a step but the last)."""
        return self.accelerator.no_sync(model)


class Sharded:
    """A part of each weight in every process."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))

    def share(self, model: nn.Module) -> nn.Module:
        """Shards `model` in place, block by block, and gives it back."""
        for part in model.modules():
            if isinstance(part, Block | GeneratorBlock):
                fully_shard(part, mesh=self.mesh)
        fully_shard(model, mesh=self.mesh)
        return model

    def keep(self, twin: nn.Module) -> None:
        """The twin's weights in the same parts."""
        self.share(twin)

    @contextmanager
    def without_exchange(self, model: nn.Module) -> Any:
        """See `Replicated.without_exchange`."""
        shards = cast(FSDPModule, getattr(model, "_orig_mod", model))  # beneath torch.compile
        shards.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            shards.set_requires_gradient_sync(True)


Parallel = Replicated | Sharded


def choose_parallel(way: Way, accelerator: Accelerator) -> Parallel:
    """How these processes share a model; a process that is no part of a group has nobody to share with.

    Raises SettingsError when the launcher brings a way of its own (`accelerate launch --use_fsdp`, DeepSpeed).
    """
    kind = accelerator.distributed_type.value
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP"):
        raise SettingsError(
            f"the launcher asks for {kind}; launch plain processes (--multi_gpu, or torchrun) and say parallel=fsdp"
        )
    match way:
        case "ddp":
            return Replicated(accelerator)
        case "fsdp":
            return Sharded(accelerator) if is_distributed() else Replicated(accelerator)
        case other:
            raise SettingsError(f"no way of sharing a model {other!r}")


def exchange(parallel: Parallel, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Processes exchange gradients once a step, with its last micro-batch."""
    return nullcontext() if last else parallel.without_exchange(model)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be in parts; every process has to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_of(full: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, shared as `like` is; the tensor itself if that is whole."""
    if not isinstance(like, DTensor):
        return full
    full = full.to(like.device)
    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """What this process holds of each; writing to it writes to the tensor."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def module_tensors(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Whole weights and buffers by name; every process has to ask."""
    return {f"{prefix}{name}": whole(tensor) for name, tensor in module.state_dict().items()}


def restore_module(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Mirror of `module_tensors`."""
    mine = module.state_dict()
    module.load_state_dict({name: part_of(full, mine[name]) for name, full in under(tensors, prefix).items()})


def optimizer_tensors(optimizer: Optimizer, prefix: str) -> dict[str, Tensor]:
    """What an optimizer remembers of each parameter, whole, by name, and what it counts; learning rates follow from the
    schedule.
    """
    state = optimizer.state_dict()["state"]
    remembered = {
        f"{number}.{name}": whole(torch.as_tensor(v)) for number in state for name, v in state[number].items()
    }
    counted = {
        f"{COUNTED}{number}.{name}": torch.tensor(group[name], dtype=torch.float64)
        for number, group in enumerate(optimizer.param_groups)
        for name in COUNTERS
        if name in group
    }
    return {f"{prefix}{name}": tensor for name, tensor in (remembered | counted).items()}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Mirror of `optimizer_tensors`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    groups = [dict(group) for group in optimizer.state_dict()["param_groups"]]
    for name, full in under(tensors, prefix).items():
        number, _, field = name.partition(".")
        if number.startswith(COUNTED):
            groups[int(number.removeprefix(COUNTED))][field] = full.item()
            continue
        like = parameters[int(number)]
        state.setdefault(int(number), {})[field] = part_of(full, like) if full.shape == like.shape else full
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def clip_gradients(parameters: Iterable[nn.Parameter], clip: float | None) -> float:
    """Scale gradients to a joint norm of at most `clip` (None: as they are); the norm before that, over all parts."""
    return float(whole(nn.utils.clip_grad_norm_(parameters, clip or float("inf"))))
