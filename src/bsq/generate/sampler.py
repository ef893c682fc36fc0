"""Filling in. What enters: digits, some of them known, classes, a seed. What leaves: all digits.

Nothing known is a new picture, a part of it known is inpainting, earlier frames known is continuation. In each step the
network looks at what is known, values are drawn for some unknown groups, and some of these stay (MaskGIT,
arXiv:2202.04200). What is computed: heads and the last block for tokens that need a value only; the look without the
class only where guidance has a weight; the first look at an empty picture once a class; and nothing where all is known.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bsq.codes import Codes
from bsq.errors import CodesError, NumericsError, SettingsError
from bsq.generate.guidance import ConstantGuidance, GuidanceSettings, guidance_weight, guide
from bsq.generate.network import Generator, View
from bsq.generate.noise import VALUES, uniform
from bsq.generate.order import ConfidenceSettings, Draw, Order, OrderSettings, make_order
from bsq.generate.schedule import Schedule, left_after
from bsq.layers.products import by_onednn, rounds_rows_alike
from bsq.settings import Settings

Watch = Callable[[int, int], None]
"""Is told how many of how many steps are done."""


class SamplerSettings(Settings):
    """How digits are drawn.

    steps        looks of the network at a frame
    temperature  of the values; below 1 likelier ones become likelier still, the least always takes the likeliest
    refresh      compute all tokens anew in every so many steps; between them only those that are asked for a value,
                 or became known in the last step, are computed: all others keep the keys and values of the last look.
                 1 is exact. By confidence every unknown token is asked, in other orders those of the step alone
    together     pictures that go through the network at once; None: 64 on accelerators, 16 on CPUs whose products
                 round a row the same way whatever stands beside it (`bsq.layers.products`), one elsewhere. Where
                 roundings depend on it a sample may, too: one at a time is the same in any batch, several are faster
    """

    steps: PositiveInt = 12
    schedule: Schedule = "cosine"
    temperature: float = Field(default=1.0, ge=1e-6)  # float32 cannot divide by much less
    order: OrderSettings = ConfidenceSettings()
    guidance: GuidanceSettings = ConstantGuidance()
    refresh: PositiveInt = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    together: PositiveInt | None = None


@dataclass(eq=False)
class Canvas:
    """Groups (B, h, w, G) of the frame at work, which are known, and which values are still possible: `fixed` digits
    (B, h, w, L) are known though their group is not.
    """

    groups: Tensor
    known: Tensor
    digits: Tensor
    fixed: Tensor


class Sampler:
    """Draws digits from a generator. The same seed, sample number and settings draw the same digits."""

    def __init__(self, network: Generator, settings: SamplerSettings | None = None) -> None:
        self.settings = settings or SamplerSettings()
        self.network = network.eval() if self.settings.precision == "fp32" else with_half_products(network)

    @property
    def device(self) -> torch.device:
        return self.network.classes.weight.device

    def sample(self, classes: Tensor, seed: int = 0, first: int = 0, watch: Watch | None = None) -> Codes:
        """New codes on the learned grid, one for each of `classes` (B,) int64: `fill` with nothing known."""
        shape = (len(classes), *self.network.settings.grid, len(self.network.settings.radices))
        return self.fill(torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool), classes, seed,
                         first, watch)  # fmt: skip

    @torch.no_grad()
    def fill(
        self,
        digits: Tensor,
        known: Tensor,
        classes: Tensor,
        seed: int = 0,
        first: int = 0,
        watch: Watch | None = None,
    ) -> Codes:
        """Complete digits (B, T, h, w, L) where `known` (bool, the same shape) is False; known ones stay.

        Args:
            digits: integers below their radices; what stands at unknown places is not looked at.
            classes: (B,) int64, 0 … classes − 1; `settings.classes` for no class.
            first: number of the first sample: sample number n of a seed is the same in every batch.

        Raises: CodesError, ShapeError, SettingsError for shapes, grids and classes that do not fit.
        """
        network = self.network
        radices = network.settings.radices
        if digits.ndim != 5 or digits.shape[-1] != len(radices) or known.shape != digits.shape:
            raise CodesError(
                f"digits and known must be (B, T, h, w, {len(radices)}), got {tuple(digits.shape)} and "
                f"{tuple(known.shape)}"
            )
        network.check_grid(*digits.shape[1:4])
        if classes.shape != digits.shape[:1] or not ((classes >= 0) & (classes <= network.settings.classes)).all():
            raise SettingsError(
                f"classes must be {len(digits)} numbers from 0 to {network.settings.classes} (none), got {classes}"
            )
        whole = Codes(torch.where(known, digits.long(), 0), radices).digits.long()  # checks their range
        together = self.settings.together or self._usual_together()
        openings: dict[tuple[int, bool], list[Tensor]] = {}
        starts = range(0, len(digits), together)
        total = len(starts) * digits.shape[1] * self.settings.steps
        filled = []
        for number, start in enumerate(starts):
            part = slice(start, start + together)
            count = len(digits[part])
            samples = torch.arange(first + start, first + start + count, device=self.device)
            filling = Filling(self, classes[part].to(self.device), Draw(seed, 0, samples), openings)

            def tell(steps: int, before: int = number * digits.shape[1] * self.settings.steps) -> None:
                if watch is not None:
                    watch(before + steps, total)

            filled.append(filling.clip(whole[part].to(self.device), known[part].to(self.device), tell).cpu())
        return Codes(torch.cat(filled) if filled else whole, radices)

    def _usual_together(self) -> int:
        """As many as change no sample on a CPU; with `refresh` those that are computed anew depend on one another."""
        if self.device.type != "cpu":
            return 64
        row = self.network.classes.weight[:1]
        dtype = torch.float32 if self.settings.precision == "fp32" else torch.bfloat16
        alike = by_onednn(row, row, dtype) and rounds_rows_alike(dtype)
        return 16 if alike and self.settings.refresh == 1 else 1


def with_half_products(network: Generator) -> Generator:
    """A copy whose products have weights in bfloat16, for use under autocast, which would convert them at each look."""
    copied = deepcopy(network).eval()
    for part in copied.modules():
        if isinstance(part, nn.Linear):
            part.to(torch.bfloat16)
    return copied


class Filling:
    """One part of a batch on its way."""

    def __init__(
        self, sampler: Sampler, classes: Tensor, draw: Draw, openings: dict[tuple[int, bool], list[Tensor]]
    ) -> None:
        self.network, self.settings = sampler.network, sampler.settings
        self.classes, self.draw, self.openings = classes, draw, openings
        none = self.network.settings.classes
        self.guided = bool((classes != none).any())
        self.with_class = View(self.network, classes)
        self.without = View(self.network, torch.full_like(classes, none))

    def clip(self, digits: Tensor, known: Tensor, tell: Callable[[int], None]) -> Tensor:
        """Digits (B, T, h, w, L) → completed, frame by frame."""
        grouping, frames = self.network.grouping, digits.shape[1]
        done = []
        for t in range(frames):
            canvas = Canvas(grouping.join(digits[:, t]), grouping.known(known[:, t]), digits[:, t], known[:, t])
            with torch.autocast(digits.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
                self._frame(canvas, t, lambda step, t=t: tell(t * self.settings.steps + step))  # type: ignore[misc]
                if t + 1 < frames:
                    self.with_class.advance(canvas.groups)
                    if self.guided:
                        self.without.advance(canvas.groups)
            done.append(torch.where(known[:, t], digits[:, t], grouping.split(canvas.groups)))
            tell((t + 1) * self.settings.steps)
        return torch.stack(done, 1)

    def _frame(self, canvas: Canvas, frame: int, tell: Callable[[int], None]) -> None:
        """Fill in the canvas, in place."""
        steps, groups = self.settings.steps, canvas.groups.shape[-1]
        draw = Draw(self.draw.seed, frame, self.draw.samples)
        order = make_order(self.settings.order, canvas.groups.shape[1:3], groups, draw, steps)  # type: ignore[arg-type]
        total = (~canvas.known).flatten(1).sum(1)
        stale = torch.zeros_like(canvas.known[..., 0]).flatten(1)  # tokens that changed since they were looked at
        for step in range(steps):
            unknown = ~canvas.known.flatten(1)
            if not unknown.any():
                return
            left = left_after(self.settings.schedule, step, steps, total.cpu(), unknown.sum(1).cpu())
            count = unknown.sum(1) - left.to(unknown.device)
            became = self._step(canvas, order, unknown, count, stale, frame, step)
            canvas.known |= became.view_as(canvas.known)
            stale = became.view(len(became), -1, groups).any(-1)
            tell(step + 1)

    def _step(
        self, canvas: Canvas, order: Order, unknown: Tensor, count: Tensor, stale: Tensor, frame: int, step: int
    ) -> Tensor:
        """Draw values; → which places (B, M) became known."""
        groups = canvas.groups.shape[-1]
        asked = order.candidates(unknown, count)
        weight = guidance_weight(self.settings.guidance, step, self.settings.steps) if self.guided else 0.0
        logits = self._logits(canvas, asked, stale, weight, step)
        draws = uniform(self.draw.seed, VALUES, (frame << 20) + step, self.draw.samples, unknown.shape[1])
        values = canvas.groups.flatten(1, 2).clone()
        confidence = torch.zeros_like(values, dtype=torch.float32)
        for g in range(groups):
            here = asked.view(len(asked), -1, groups)[..., g]
            log_p = _possible(logits[g], canvas, self.network, here, g).log_softmax(-1)
            if not bool(log_p.isfinite().any(-1).all()):
                raise NumericsError("the generator gave logits that are no numbers")
            hot = (log_p / self.settings.temperature).softmax(-1).double().cumsum(-1)
            point = draws.view(len(draws), -1, groups)[..., g][here] * hot[:, -1]
            value = (hot <= point[:, None]).sum(-1)
            values[..., g][here] = value
            confidence[..., g][here] = log_p.gather(1, value[:, None])[:, 0]
        became = order.chosen(asked, confidence.flatten(1), count, step)
        kept = became.view_as(canvas.groups)
        canvas.groups[kept] = values.view_as(canvas.groups)[kept]
        return became

    def _logits(self, canvas: Canvas, asked: Tensor, stale: Tensor, weight: float, step: int) -> list[Tensor]:
        """Of each group float32 (n, V) of the n places asked for, in order."""
        if step == 0 and self.with_class.frame == 0 and not canvas.known.any():
            return self._opening(canvas, asked, weight)
        places, groups = None, canvas.groups.shape[-1]
        if step % self.settings.refresh:
            places = _numbers(asked.view(len(asked), -1, groups).any(-1) | stale)
        seen = _numbers(asked.view(len(asked), -1, groups).any(-1))
        views = [self.with_class, self.without] if weight else [self.with_class]
        logits = [_read(view, canvas, places, seen, asked) for view in views]
        return logits[0] if not weight else [guide(a, b, weight) for a, b in zip(*logits, strict=True)]

    def _opening(self, canvas: Canvas, asked: Tensor, weight: float) -> list[Tensor]:
        """An empty frame looks the same in every sample of a class."""
        blank = torch.zeros_like(canvas.groups[:1])
        nothing, everything = torch.zeros_like(blank, dtype=torch.bool), torch.ones_like(asked[:1])
        seen = torch.arange(asked.shape[1] // blank.shape[-1], device=asked.device)[None]
        rows = []
        for number in self.classes.tolist():
            key = (number, bool(weight))
            if key not in self.openings:
                empty = Canvas(blank, nothing, canvas.digits[:1], nothing)
                views = [View(self.network, self.classes.new_tensor([number]))]
                views += [View(self.network, self.without.classes[:1])] if weight else []
                logits = [_read(view, empty, None, seen, everything) for view in views]
                self.openings[key] = (
                    logits[0] if not weight else [guide(a, b, weight) for a, b in zip(*logits, strict=True)]
                )
            rows.append(self.openings[key])
        chosen = asked.view(len(asked), -1, blank.shape[-1])
        return [torch.cat([row[g][chosen[b, :, g]] for b, row in enumerate(rows)]) for g in range(blank.shape[-1])]


def _read(view: View, canvas: Canvas, places: Tensor | None, seen: Tensor, asked: Tensor) -> list[Tensor]:
    """Logits float32 of each group at the places asked for (B, M); `seen` (B, m) tokens hold all of these."""
    groups = canvas.groups.shape[-1]
    hidden = view.look(canvas.groups, canvas.known, places, seen)
    chosen = asked.view(len(asked), -1, groups)
    where = torch.zeros_like(chosen[..., 0], dtype=torch.int64)
    where.scatter_(1, seen, torch.arange(seen.shape[1], device=seen.device).expand_as(seen))
    logits = []
    for g in range(groups):
        sample, token = chosen[..., g].nonzero(as_tuple=True)
        logits.append(view.network.head(hidden[sample, where[sample, token]], g).float())
    return logits


def _possible(logits: Tensor, canvas: Canvas, network: Generator, here: Tensor, group: int) -> Tensor:
    """Values that contradict a known digit get −∞. `here` (B, N) are the tokens that `logits` (n, V) belong to."""
    span = network.grouping.spans[group]
    fixed = canvas.fixed[..., span.start : span.stop].flatten(1, 2)[here]
    if not fixed.any():
        return logits
    digits = canvas.digits[..., span.start : span.stop].flatten(1, 2)[here]
    table = network.grouping.digits_of(group).to(logits.device)
    return logits.masked_fill(((table[None] != digits[:, None]) & fixed[:, None]).any(-1), float("-inf"))


def _numbers(chosen: Tensor) -> Tensor:
    """Bool (B, N) → int64 (B, n): the numbers that are True in each row, filled up with others to the longest row."""
    most = max(1, int(chosen.sum(1).max()))
    return (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
