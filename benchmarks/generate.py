"""Sampling speed in the shape of recipes/biscuit-s-generator.yaml, guidance from 0 up,
beside a plain sampler that looks at all tokens with and without the class in every step and asks all heads.

Weights are random and decoding to pixels is left out: both are the same for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch

from benchmarks import Row, settle_allocator
from bsq.generate.guidance import LinearGuidance, guidance_weight, guide
from bsq.generate.network import Generator, GeneratorSettings
from bsq.generate.order import best
from bsq.generate.sampler import Sampler, SamplerSettings, with_half_products
from bsq.generate.schedule import left_after
from bsq.train.recipe import read_yaml

RECIPE = Path(__file__).parent.parent / "recipes" / "biscuit-s-generator.yaml"
COUNT, REPEATS = 4, 3
GUIDANCE = LinearGuidance(weight=2.0)
WAYS = {
    "exact": {},
    "exact, Halton order": {"order": {"kind": "halton"}},
    "exact, all together": {"together": COUNT},
    "exact, guidance in the second half alone": {"guidance": {"kind": "interval", "weight": 2.0}},
    "refresh 4 (not exact)": {"refresh": 4},
    "refresh 4, Halton order (not exact)": {"refresh": 4, "order": {"kind": "halton"}},
    "refresh 4, Halton, guidance in the second half (not exact)": {
        "refresh": 4,
        "order": {"kind": "halton"},
        "guidance": {"kind": "interval", "weight": 2.0},
    },
}


def rows() -> Iterator[Row]:
    settle_allocator()
    torch.manual_seed(0)
    network = Generator(GeneratorSettings.model_validate(read_yaml(RECIPE)["model"])).eval()
    halved = with_half_products(network)
    classes = torch.zeros(COUNT, dtype=torch.int64)
    for steps in (12, 32):
        samplers = {
            name: Sampler(network, SamplerSettings.model_validate(
                {"steps": steps, "guidance": GUIDANCE, "precision": "bf16"} | way))
            for name, way in WAYS.items()
        }  # fmt: skip
        tasks: dict[str, Callable[[], object]] = {"plain": lambda steps=steps: plain(halved, classes, steps)}  # type: ignore[misc]
        tasks |= {name: lambda sampler=sampler: sampler.sample(classes) for name, sampler in samplers.items()}  # type: ignore[misc]
        seconds: dict[str, list[float]] = {name: [] for name in tasks}
        for _ in range(REPEATS):  # by turns, so that a busy machine is busy for all
            for name, task in tasks.items():
                start = time.process_time()
                task()
                seconds[name].append(time.process_time() - start)
        base = median(seconds["plain"])
        for name, times in seconds.items():
            each = median(times) / COUNT
            yield Row(f"{steps} steps, {name}", f"{1 / each:.2f} pictures/CPU-s, {base / median(times):.2f}×", "")


@torch.no_grad()
def plain(network: Generator, classes: torch.Tensor, steps: int) -> torch.Tensor:
    """MaskGIT's loop as it is written down, for comparison; all groups take as many values."""
    (rows_, columns), count = network.settings.grid[1:], len(network.grouping.spans)
    groups = torch.zeros(len(classes), 1, rows_, columns, count, dtype=torch.int64)
    known = torch.zeros_like(groups, dtype=torch.bool)
    none, total = torch.full_like(classes, network.settings.classes), torch.full_like(classes, groups[0].numel())
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            seen = [network.hidden(groups, known, c) for c in (classes, none)]
            logits = [
                guide(*(network.head(hidden, g).float() for hidden in seen), guidance_weight(GUIDANCE, step, steps))
                for g in range(count)
            ]
        law = torch.stack(logits, -2).log_softmax(-1)
        drawn = torch.multinomial(law.exp().flatten(0, -2), 1).view(groups.shape)
        sure = law.gather(-1, drawn[..., None])[..., 0] - (-torch.rand(groups.shape).log()).log() * (1 - step / steps)
        unknown = (~known).flatten(1).sum(1)
        settled = unknown - left_after("cosine", step, steps, total, unknown)
        new = best(sure.masked_fill(known, float("-inf")).flatten(1), settled).view(known.shape)
        groups, known = torch.where(new, drawn, groups), known | new
    return groups
