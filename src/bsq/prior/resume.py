"""A training run of a prior ↔ one file. What enters: a prior, its optimizers, how far it is. What leaves: the same.

Tensors only (safetensors), written beside the old file and then put in its place, so that a run can be cut off at any
moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from bsq.errors import CheckpointError
from bsq.prior.causal import CausalPrior, CausalSettings
from bsq.prior.masked import MaskedPrior, MaskedSettings

Trained = MaskedPrior | CausalPrior


@dataclass(frozen=True)
class RunState:
    """How far a run is: steps done and seconds spent on them."""

    step: int = 0
    seconds: float = 0.0


def save_run(path: Path, prior: Trained, optimizers: Sequence[Optimizer], state: RunState) -> None:
    """Write the run."""
    names = {id(parameter): name for name, parameter in prior.named_parameters()}
    tensors: dict[str, Tensor] = {f"prior.{name}": tensor for name, tensor in prior.state_dict().items()}
    for optimizer in optimizers:
        for parameter, moments in optimizer.state.items():
            tensors |= {f"optimizer.{names[id(parameter)]}.{key}": tensor for key, tensor in moments.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    save_file(
        {name: tensor.detach().contiguous() for name, tensor in tensors.items()},
        draft,
        metadata={
            "step": str(state.step),
            "seconds": str(state.seconds),
            "kind": prior.name,
            "settings": prior.settings.model_dump_json(),
        },
    )
    draft.replace(path)


def load_run(path: Path, prior: Trained, optimizers: Sequence[Optimizer]) -> RunState:
    """Mirror of `save_run`; a run that was never saved starts at the beginning.

    Raises CheckpointError if the file is damaged or of a prior with other settings.
    """
    if not path.exists():
        return RunState()
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            metadata = file.metadata()
        _check_settings(prior, metadata["settings"], path)
        prior.load_state_dict(_under("prior.", tensors))
        names = {id(parameter): name for name, parameter in prior.named_parameters()}
        for optimizer in optimizers:
            for parameter in optimizer.param_groups[0]["params"]:
                optimizer.state[parameter] = _under(f"optimizer.{names[id(parameter)]}.", tensors)
        return RunState(int(metadata["step"]), float(metadata["seconds"]))
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot resume from {path}: {error}; remove it to start again") from error


def load_trained(path: Path) -> Trained:
    """The prior in a run's file, as far as it is trained. Raises CheckpointError."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys() if name.startswith("prior.")}  # noqa: SIM118
        match metadata["kind"]:
            case MaskedPrior.name:
                prior: Trained = MaskedPrior(MaskedSettings.model_validate_json(metadata["settings"]))
            case CausalPrior.name:
                prior = CausalPrior(CausalSettings.model_validate_json(metadata["settings"]))
            case kind:
                raise CheckpointError(f"{path} holds a prior of the unknown kind {kind!r}")
        prior.load_state_dict(_under("prior.", tensors))
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(f"no training run of a prior at {path}: {error}") from error
    return prior.eval()


def _check_settings(prior: Trained, stored: str, path: Path) -> None:
    if stored != prior.settings.model_dump_json():
        raise CheckpointError(
            f"the run at {path} is of a {prior.name} prior with other settings: {stored}; "
            "give the same settings, or another place for the run"
        )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
