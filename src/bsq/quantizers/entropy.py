"""The entropy objective. What enters: a latent (…, L), one number per bit. What leaves: β E[H(q)] − γ H(E[q]), in nats.

β is the settings' `sample_weight`, 1 in the paper.

Bit d of a latent z is soft: p(bit = 1) = σ(logit_scale · z_d), independent of the other bits (Eq. 7, arXiv:2406.07548).
So E[H(q)] is a sum over bits in every form below. The forms differ in H(E[q]), the entropy of the average code:

- `per_bit_entropy`: sum of the entropies of the average bits (Eq. 8), O(L);
- `grouped_entropy`: joint over the 2^g corners of each run of g bits, without a table of tokens × corners;
- `enumerated_entropy`: the textbook form, softmax over all 2^g corners; slow, here to be compared with.

The first two add up deficits, ln 2 − H per bit, which stay accurate where entropies are nearly equal and their
difference drowns in rounding. The derivation stands in docs/entropy.md.

In a training step (gradients on) under torch.distributed, E[q] is the mean over all processes, with gradients only to
this process's share: right where gradients are averaged over processes with equal batches, as data parallel does.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bsq.errors import SettingsError
from bsq.quantizers.base import all_reduced_mean, is_distributed

LN2 = math.log(2)
# Largest float32 below 1: probabilities that rounded to 0 or 1 keep finite logarithms and zero gradients.
BELOW_ONE = 1 - 2**-24
MAX_GROUP = 16


@dataclass(frozen=True)
class EntropyTerms:
    """Float32 scalars: `objective` = β E[H(q)] − γ H(E[q]) with gradient; both entropies (nats per code) detached."""

    objective: Tensor
    sample_entropy: Tensor
    code_entropy: Tensor


def entropy_objective(
    latent: Tensor,
    logit_scale: float,
    gamma: float,
    group: int,
    bound: float = math.inf,
    sample_weight: float = 1.0,
) -> EntropyTerms:
    """The objective for groups of `group` bits: per bit for 1, joint over 2^group corners otherwise (L: exact).

    latent: float32 (…, L), `group` divides L and is at most 16. logit_scale: factor from latent to log-odds, > 0.
    bound: what |latent| cannot exceed, if known (1 on the unit sphere); it saves time.
    """
    if group == 1:
        return per_bit_entropy(latent, logit_scale, gamma, bound, sample_weight)
    return grouped_entropy(latent, logit_scale, gamma, group, bound, sample_weight)


def per_bit_entropy(
    latent: Tensor, logit_scale: float, gamma: float, bound: float = math.inf, sample_weight: float = 1.0
) -> EntropyTerms:
    """The factorised objective (Eq. 8, arXiv:2406.07548): O(L), one pass, backward in closed form.

    latent: float32 (…, L). Differentiable once; a second derivative raises RuntimeError.
    """
    return EntropyTerms(*_PerBitEntropy.apply(latent, logit_scale / 2, gamma, bound, sample_weight))


def grouped_entropy(
    latent: Tensor,
    logit_scale: float,
    gamma: float,
    group: int,
    bound: float = math.inf,
    sample_weight: float = 1.0,
) -> EntropyTerms:
    """The objective with the joint entropy of each run of `group` bits in E[q] (group 1 … 16, dividing L).

    latent: float32 (…, L). The average over tokens of a product of bit probabilities is one matrix product of the
    products of its two halves, so memory is tokens × 2^(g/2), not tokens × 2^g.
    """
    bits = latent.shape[-1]
    check_group(group, bits)
    sample = per_bit_entropy(latent, logit_scale, 0.0, bound, sample_weight)
    lean = torch.tanh(logit_scale / 2 * latent).reshape(-1, bits // group, group).transpose(0, 1)
    left, right = (_corner_products(half) for half in lean.split([group - group // 2, group // 2], dim=-1))
    excess = mean_over_processes(left.transpose(1, 2) @ right / lean.shape[1]).sub(1).clamp(min=-BELOW_ONE)
    # Per corner of probability (1 + e)/2^g: its part of g·ln 2 − H. The term − e adds up to zero; it cancels rounding.
    deficit = ((1 + excess) * torch.log1p(excess) - excess).mean(dim=(1, 2)).sum()
    code_entropy = bits * LN2 - deficit
    objective = sample.objective - gamma * bits * LN2 + gamma * deficit
    return EntropyTerms(objective, sample.sample_entropy, code_entropy.detach())


def enumerated_entropy(
    latent: Tensor, logit_scale: float, gamma: float, group: int, sample_weight: float = 1.0
) -> EntropyTerms:
    """The same objective by softmax over all 2^group corners of every token, as published code computes it.

    Needs tokens × L/group × 2^group floats several times over: for tests and as a baseline.
    """
    bits = latent.shape[-1]
    check_group(group, bits)
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=group)), dtype=latent.dtype, device=latent.device)
    logits = logit_scale / 2 * latent.reshape(-1, bits // group, group) @ corners.T
    probability = logits.softmax(-1)
    sample_entropy = torch.special.entr(probability).sum(dim=(1, 2)).mean()
    code_entropy = torch.special.entr(mean_over_processes(probability.mean(0))).sum()
    objective = sample_weight * sample_entropy - gamma * code_entropy
    return EntropyTerms(objective, sample_entropy.detach(), code_entropy.detach())


def check_group(group: int, bits: int) -> None:
    """Raise SettingsError unless groups of `group` bits fit `bits`."""
    if not 1 <= group <= MAX_GROUP or bits % group:
        raise SettingsError(f"entropy groups must have 1 to {MAX_GROUP} bits and divide {bits} bits, got {group}")


def mean_over_processes(value: Tensor) -> Tensor:
    """`value` averaged over processes in a training step, itself otherwise; the own share gets the whole gradient."""
    if not (torch.is_grad_enabled() and is_distributed()):
        return value
    return value + (all_reduced_mean(value) - value.detach())


def _corner_products(lean: Tensor) -> Tensor:
    """Leans t = 2p − 1 (G, N, k) → Π (1 ± t) for all 2^k sign rows (G, N, 2^k), first bit most significant."""
    product = torch.ones_like(lean[..., :1])
    for bit in range(lean.shape[-1]):
        t = lean[..., bit : bit + 1]
        product = torch.stack([product * (1 - t), product * (1 + t)], dim=-1).flatten(-2)
    return product


def lean_deficit(lean: Tensor) -> tuple[Tensor, Tensor]:
    """Σ ln 2 − H(p) over t = 2p − 1 in [−1, 1] (L,): t·atanh t + ½ ln(1 − t²), accurate near t = 0.

    Also gives its derivative, atanh t, finite even where t rounded to ±1.
    """
    lean = lean.clamp(-BELOW_ONE, BELOW_ONE)
    slope = torch.atanh(lean)
    return torch.dot(lean, slope).add_(torch.log1p(lean.square().neg_()).sum(), alpha=0.5), slope


class _PerBitEntropy(torch.autograd.Function):
    """latent z, half logit scale s, γ, bound of |z|, β → objective, sample entropy, code entropy.

    With y = s·z, t = tanh y, m_d = mean of t_d over tokens: d objective/dy_d = (1 − t_d²)(γ atanh m_d − β y_d)/N.
    Written for few passes over memory: on CPU a logarithm costs as much as ten of the others, tanh thirty.
    """

    @staticmethod
    def forward(
        ctx: Any, latent: Tensor, half_scale: float, gamma: float, bound: float, sample_weight: float
    ) -> tuple[Tensor, ...]:
        z = latent.reshape(-1, latent.shape[-1]).contiguous()
        tokens, bits = z.shape
        t = torch.mul(z, 2 * half_scale).sigmoid_().mul_(2).sub_(1)
        lean = t.mean(0)
        if ctx.needs_input_grad[0]:
            lean = all_reduced_mean(lean)
        if half_scale * bound <= 1:
            sample_deficit, slope = soft_deficit_(z, t, half_scale)
        else:
            sample_deficit, slope = wide_soft_deficit(z, half_scale), t.square_().neg_().add_(1)
        sample_deficit /= tokens
        code_deficit, pull = lean_deficit(lean)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(latent, slope, pull.mul_(gamma))
            ctx.half_scale, ctx.sample_weight = half_scale, sample_weight
        objective = (
            (gamma * code_deficit).sub_(sample_deficit, alpha=sample_weight).add_((sample_weight - gamma) * bits * LN2)
        )
        entropies = bits * LN2 - sample_deficit, bits * LN2 - code_deficit
        ctx.mark_non_differentiable(*entropies)
        return objective, *entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None, None]:
        latent, slope, pull = ctx.saved_tensors
        step = upstream * (ctx.half_scale / len(slope))
        gradient = torch.addcmul(pull * step, latent.reshape(slope.shape), step * -(ctx.half_scale * ctx.sample_weight))
        return gradient.mul_(slope).reshape(latent.shape), None, None, None, None


def soft_deficit_(z: Tensor, t: Tensor, half_scale: float) -> tuple[Tensor, Tensor]:
    """Σ ln 2 − H(σ(2y)) over all of z, where y = half_scale · z is within ±1 and t = tanh y: y·t + ½ ln(1 − t²).

    Accurate relative to itself however small y is. Also gives 1 − t², in the memory of t.
    """
    moment = half_scale * torch.dot(z.reshape(-1), t.view(-1))
    minus_square = t.square_().neg_()
    return moment.add_(sum_of_logs(minus_square.view(-1)), alpha=0.5), minus_square.add_(1)


def sum_of_logs(x: Tensor) -> Tensor:
    """Σ ln(1 + x) over x (n,) in [-0.9, 0], of four factors at a time: products cost little beside logarithms, and
    (1 + a)(1 + b) = 1 + (a + b + ab) is as accurate for small a and b as each by itself.
    """
    rests = []
    for _ in range(2):
        half = len(x) // 2
        if len(x) % 2:
            rests.append(x[-1:])
        a, b = x[:half], x[half : 2 * half]
        x = torch.addcmul(a, a, b).add_(b)
    return torch.log1p(torch.cat([x, *rests]) if rests else x).sum()


def wide_soft_deficit(z: Tensor, half_scale: float) -> Tensor:
    """The same sum for any y: beyond ±½, where 1 − t² loses its digits, ln 2 − H is formed as it is written."""
    y = (z * half_scale).abs_()
    t = torch.tanh(y)
    near = y * t + 0.5 * torch.log1p(-t.square().clamp_(max=BELOW_ONE))
    e = torch.exp(-2 * y)
    far = LN2 - torch.log1p(e) - 2 * y * (e / (1 + e))
    return torch.where(y < 0.5, near, far).sum()
