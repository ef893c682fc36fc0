"""Steps within the backward pass. What enters: gradients as they come. What leaves: weights one step on, no gradients.

A weight's last use in a backward pass is behind it when its gradient is there, so it can move before the next ones take
memory. The weights are those of an ordinary step, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

PORTION = 2**23
"""Numbers of gradients that wait for each other, at least: every step of an optimizer looks at all its weights."""


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
