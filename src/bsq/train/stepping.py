"""When weights move. What enters: a backward pass. What leaves: weights one step on, and no gradients.

`AfterBackward`: when all gradients are there, so that their joint norm can be bounded. `InBackward`: a weight's last
use in a backward pass is behind it when its gradient is there, so it moves before the next ones take memory. The
weights are the same, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from bsq.errors import SettingsError
from bsq.train.parallel import clip_gradients
from bsq.train.run_settings import RunSettings

PORTION = 2**23
"""Numbers of gradients that wait for each other, at least: every step of an optimizer looks at all its weights."""


class AfterBackward:
    """Moves `parameters` by `optimizers` at the end; `clip` is the largest norm of all gradients, None for any."""

    def __init__(self, parameters: Iterable[nn.Parameter], optimizers: Sequence[Optimizer], clip: float | None) -> None:
        self.parameters, self.optimizers, self.clip = list(parameters), optimizers, clip

    def finish(self) -> float:
        """After all backward passes of a step: moves the weights, if the norm of their gradients, which it gives, is a
        finite number.
        """
        norm = clip_gradients(self.parameters, self.clip)
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        self.forget()
        return norm

    def forget(self) -> None:
        """Of a step that ends without weights moved."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)


class InBackward:
    """Moves `parameters` by `optimizers`, which skip weights without a gradient, in every backward pass from now on."""

    def __init__(self, parameters: Iterable[nn.Parameter], optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = optimizers
        self.waiting: list[Tensor] = []
        self.numbers, self.squares = 0, 0.0
        for parameter in parameters:
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._arrived)

    def finish(self) -> float:
        """After a backward pass: moves what is left; the norm of all its gradients. Where that is no finite number,
        some weights stayed, those of portions without one.
        """
        self._take()
        norm, self.squares = math.sqrt(self.squares), 0.0
        return norm

    def forget(self) -> None:
        """Nothing waits where no backward pass was finished."""

    def _arrived(self, parameter: Tensor) -> None:
        self.waiting.append(parameter)
        self.numbers += parameter.numel()
        if self.numbers >= PORTION:
            self._take()

    def _take(self) -> None:
        gradients = [waiting.grad for waiting in self.waiting if waiting.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients)) if gradients else 0.0
        self.squares += norm * norm
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        for waiting in self.waiting:
            waiting.grad = None
        self.waiting.clear()
        self.numbers = 0


def waiting_gradients(sizes: Sequence[int]) -> int:
    """Numbers of gradients that wait at once, at most, of weights of these sizes."""
    return min(sum(sizes), PORTION + max(sizes, default=0))


def choose_stepping(
    run: RunSettings, network: nn.Module, optimizers: Sequence[Optimizer], accelerator: Accelerator
) -> AfterBackward | InBackward:
    """As the run says. Raises SettingsError for steps within the backward passes of several processes."""
    if not run.step_in_backward:
        return AfterBackward(network.parameters(), optimizers, run.clip)
    if accelerator.num_processes > 1:
        raise SettingsError(
            f"step_in_backward moves weights before {accelerator.num_processes} processes could average their "
            "gradients; train in one, or leave it off"
        )
    return InBackward(network.parameters(), optimizers)
