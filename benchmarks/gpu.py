"""ViT-B at 256² on a GPU, bfloat16: ours compiled, the textbook's eager, both beside a product of matrices (MFU)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch

from benchmarks import Row
from benchmarks.textbook import textbook_of
from benchmarks.tokenizer import Step, flops, loss_of, picture, vit
from bsq.train.optimizers import AdamWSettings, build_optimizers

SIDE, BATCH, ROUNDS, MATRIX = 256, 32, 9, 8192


def rows() -> Iterator[Row]:
    if not torch.cuda.is_available():
        yield Row("ViT-B 256², bfloat16, compiled", "no GPU here", "≥ 50 % MFU, training ≥ 40 %; ≥ 2× textbook")
        return
    device = torch.device("cuda")
    model = vit(SIDE).to(device)
    textbook, pixels = textbook_of(model).to(device), picture(SIDE, BATCH).to(device)
    compiled, work = torch.compile(model), flops(model, SIDE) * BATCH
    (optimizer,) = build_optimizers(AdamWSettings(), model)
    a, b = (torch.randn(MATRIX, MATRIX, device=device, dtype=torch.bfloat16) for _ in range(2))

    @torch.no_grad()
    def infer() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            compiled(pixels[:, :, None])

    @torch.no_grad()
    def infer_textbook() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            textbook(pixels)

    def train() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            again = compiled(pixels[:, :, None])
        loss_of(pixels, again.pixels[:, :, 0], again.quantized).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    product, quick, slow, step = by_turns([lambda: a @ b, infer, infer_textbook, train])
    ceiling = 2 * MATRIX**3 / product
    yield Row(f"matmul bfloat16, {torch.cuda.get_device_name()}", f"{ceiling / 1e12:.0f} TFLOP/s")
    used = work / quick / ceiling
    yield Row(f"forward {SIDE}²: {BATCH / quick:.0f} pictures/s", f"{used:.0%} MFU", "≥ 50 %", used >= 0.5)
    yield Row("… beside the textbook, eager bfloat16", f"{slow / quick:.2f}×", "≥ 2×", slow >= 2 * quick)
    used = 3 * work / step / ceiling
    yield Row(f"training step, batch {BATCH}: {step:.3f} s", f"{used:.0%} MFU", "≥ 40 %", used >= 0.4)


def by_turns(functions: list[Step]) -> list[float]:
    """Median seconds of each, the GPU waited for."""
    seconds: list[list[float]] = [[] for _ in functions]
    for number in range(ROUNDS + 3):
        for function, mine in zip(functions, seconds, strict=True):
            torch.cuda.synchronize()
            start = time.perf_counter()
            function()
            torch.cuda.synchronize()
            if number >= 3:  # compilers are done by then
                mine.append(time.perf_counter() - start)
    return [statistics.median(mine) for mine in seconds]
