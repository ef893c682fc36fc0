"""Quantizer and entropy objective, forward and backward, 8192 tokens: ours beside the forms of published code."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import Row, interleaved, peak_bytes
from bsq.quantizers import BSQ, BsqSettings
from bsq.quantizers.entropy import enumerated_entropy, per_bit_entropy

TOKENS = 8192


def ours(bits: int, group: int = 1) -> Callable[[], object]:
    """One training pass of the quantizer with its entropy objective."""
    quantizer, latent, upstream = BSQ(BsqSettings(bits=bits, group=group)), *inputs(bits)

    def step() -> None:
        out = quantizer(latent)
        torch.autograd.grad([out.quantized, out.terms.entropy], latent, [upstream, torch.ones(())])

    return step


def textbook(bits: int, objective: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    """The same work in plain operations with generic autograd, around an objective of the unit latent."""
    latent, upstream = inputs(bits)

    def step() -> None:
        unit = torch.nn.functional.normalize(latent, dim=-1)
        corner = torch.where(unit > 0, 1.0, -1.0) / math.sqrt(bits)
        soft = unit / math.sqrt(bits)
        quantized = soft + (corner - soft).detach()
        torch.autograd.grad([quantized, objective(unit)], latent, [upstream, torch.ones(())])

    return step


def by_softmax(bits: int, group: int) -> Callable[[Tensor], Tensor]:
    """Softmax over all 2^group corners of every token: the released code's form."""
    return lambda unit: enumerated_entropy(unit, 4 / math.sqrt(bits), 1.0, group).objective


def by_sigmoid(bits: int) -> Callable[[Tensor], Tensor]:
    """The shortest per-bit expression."""

    def entropy(p: Tensor) -> Tensor:
        return -(p * torch.log(p + 1e-8) + (1 - p) * torch.log(1 - p + 1e-8))

    def objective(unit: Tensor) -> Tensor:
        p = torch.sigmoid(4 / math.sqrt(bits) * unit)
        return entropy(p).sum(-1).mean() - entropy(p.mean(0)).sum()

    return objective


def inputs(bits: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(TOKENS, bits, generator=generator).requires_grad_()
    return latent, torch.randn(TOKENS, bits, generator=generator)


def only(bits: int, objective: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    """The objective alone, from the unit latent."""
    unit = torch.nn.functional.normalize(inputs(bits)[0].detach(), dim=-1).requires_grad_()
    return lambda: torch.autograd.grad(objective(unit), unit)


def per_bit(bits: int) -> Callable[[Tensor], Tensor]:
    return lambda unit: per_bit_entropy(unit, 4 / math.sqrt(bits), 1.0, bound=1.0).objective


def rows() -> Iterator[Row]:
    """The figures of the quantizer's row in the table of targets."""
    for bits in (18, 36):
        quick, grouped, softmax, sigmoid = interleaved(
            [only(bits, f) for f in (per_bit(bits), by_softmax(bits, 9), by_softmax(bits, 1), by_sigmoid(bits))]
        )
        yield Row(f"objective, L = {bits}", f"{quick * 1e3:.2f} ms")
        yield ratio(f"… against softmax over 2⁹ corners, L = {bits}", grouped, quick, 400 if bits == 18 else None)
        yield ratio(f"… against per-bit softmax, generic autograd, L = {bits}", softmax, quick, 12)
        yield ratio(f"… against per-bit sigmoid in one expression, L = {bits}", sigmoid, quick, None)
    quick, exact, grouped, softmax = interleaved(
        [ours(18), ours(18, 9), textbook(18, by_softmax(18, 9)), textbook(18, by_softmax(18, 1))]
    )
    yield Row("quantizer + objective, L = 18", f"{quick * 1e3:.2f} ms")
    yield ratio("… against textbook with 2⁹ corners", grouped, quick, None)
    yield ratio("… against textbook with per-bit softmax", softmax, quick, None)
    yield ratio("joint groups of 9 bits as a matrix product, against 2⁹ corners", grouped, exact, None)
    lengths = (16, 32, 64, 128, 256)
    per = [s / n * 1e6 for s, n in zip(interleaved([ours(n) for n in lengths]), lengths, strict=True)]
    figure = ", ".join(f"{n}: {t:.0f}" for n, t in zip(lengths, per, strict=True))
    yield Row("µs per bit at L =", figure, "linear: longest ≤ 1.5 × shortest", per[-1] <= 1.5 * per[0])
    extra = extra_memory(256)
    yield Row("extra memory, L = 256", f"{extra:.0f} MiB", "≤ 200 MiB", extra <= 200)
    worst = gradient_error(256)
    yield Row("gradient against float64, L = 256", f"{worst:.1e} of the largest", "≤ 1e-5", worst <= 1e-5)


def ratio(name: str, slow: float, quick: float, target: float | None) -> Row:
    factor = slow / quick
    if target is None:
        return Row(name, f"{factor:.1f}×")
    return Row(name, f"{factor:.1f}×", f"≥ {target:g}×", factor >= target)


def gradient_error(bits: int) -> float:
    """Largest error of our gradient of the objective, relative to the largest entry of the float64 one."""
    unit = torch.nn.functional.normalize(inputs(bits)[0].detach(), dim=-1).requires_grad_()
    exact = unit.detach().double().requires_grad_()
    (got,) = torch.autograd.grad(per_bit(bits)(unit), unit)
    (want,) = torch.autograd.grad(by_softmax(bits, 1)(exact), exact)
    return float((got - want).abs().max() / want.abs().max())


def extra_memory(bits: int) -> float:
    """MiB by which one training pass raises the peak of a fresh process (Linux)."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=_report_peak, args=(bits, queue))
    child.start()
    extra = queue.get()
    child.join()
    return extra


def _report_peak(bits: int, queue: multiprocessing.SimpleQueue) -> None:
    # Libraries allocate on first use; a small pass takes that out of the figure.
    ours(8)()
    step = ours(bits)
    # Importing alone may have peaked higher than this pass will: begin again from what is in use now.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    step()
    queue.put((peak_bytes() - before) / 2**20)
