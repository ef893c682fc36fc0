"""A masked model of sub-codes. What enters: groups, some of them known, and a class. What leaves: logits of the others.

    groups ──bits ±1, unknown 0 (or embeddings)──► + positions ──► body, beside the class's place ──► head of each group

Groups are unknown one by one, so a token may be half known (MaskBit, arXiv:2409.16211).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from bsq.errors import SettingsError, ShapeError
from bsq.generate.body import GeneratorBlock, Memory, Norm
from bsq.generate.grouping import make_grouping
from bsq.layers.positions import (
    LearnedPositions,
    LearnedPositionsSettings,
    Rotary,
    RotaryPositionsSettings,
    rotary_table,
)
from bsq.layers.products import Linear
from bsq.settings import Settings


class GeneratorSettings(Settings):
    """Shape of a generator. The defaults are the paper's (PAPER: §6).

    radices       of the digits it models: all of its tokenizer's, or the first of them
    group_digits  digits of a group
    classes       0: it knows none
    grid          frames, rows and columns of tokens that it learns; others are for rotary positions only
    inputs        a group enters as its bits, or as one of a table of vectors
    window_frames how many frames a token sees, its own among them; None: all earlier ones
    """

    radices: tuple[Annotated[int, Field(ge=2, le=2**16)], ...] = Field(min_length=1, max_length=1024)
    group_digits: PositiveInt = 9
    classes: NonNegativeInt = 0
    grid: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 16, 16)
    inputs: Literal["bits", "embeddings"] = "bits"
    norm: Norm = "post"
    positions: Literal["learned", "rotary"] = "learned"
    width: PositiveInt = 768
    depth: PositiveInt = 24
    head_width: int = Field(default=64, ge=8, multiple_of=2)
    mlp_ratio: PositiveInt = 4
    dropout: float = Field(default=0.0, ge=0, lt=1)
    window_frames: PositiveInt | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.width % self.head_width:
            raise ValueError(f"width {self.width} is not a multiple of head_width {self.head_width}")
        try:
            make_grouping(self.radices, self.group_digits)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return self

    def least_weights(self) -> int:
        """How many numbers the weights are at least, without building anything."""
        _, rows, columns = self.grid
        table = rows * columns if self.positions == "learned" else 0
        values = sum(make_grouping(self.radices, self.group_digits).vocabularies)
        rows_of_tables = table + self.classes + (2 * values if self.inputs == "embeddings" else values)
        return self.width * (rows_of_tables + self.depth * self.width * (4 + 2 * self.mlp_ratio))


class SignTable(nn.Module):
    """A row of ±1 for each value of a group."""

    weight: Tensor

    def __init__(self, signs: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", signs, persistent=False)


class GroupInputs(nn.Module):
    """Groups (…, G) and which are known → hidden (…, D)."""

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__()
        grouping = make_grouping(settings.radices, settings.group_digits)
        match settings.inputs:
            case "bits":
                # They follow from the settings, and are not stored.
                self.tables = nn.ModuleList(SignTable(grouping.signs_of(g)) for g in range(len(grouping.spans)))
                mix = Linear(grouping.bits, settings.width)
                nn.init.normal_(mix.weight, std=grouping.bits**-0.5)
                self.mix: nn.Module = mix
                self.unknown: nn.Parameter | None = None
            case "embeddings":
                count, width = len(grouping.spans), settings.width
                self.tables = nn.ModuleList(nn.Embedding(values, width) for values in grouping.vocabularies)
                for table in self.tables:
                    nn.init.normal_(table.get_parameter("weight"), std=count**-0.5)
                self.mix = nn.Identity()
                self.unknown = nn.Parameter(torch.randn(count, width) * count**-0.5)
            case other:
                raise SettingsError(f"no inputs {other!r}")

    def forward(self, groups: Tensor, known: Tensor) -> Tensor:
        parts = []
        for g, table in enumerate(self.tables):
            here = known[..., g, None]
            part = F.embedding(groups[..., g] * known[..., g], table.weight) * here  # type: ignore[arg-type]
            parts.append(part if self.unknown is None else part + self.unknown[g] * ~here)
        return self.mix(torch.cat(parts, -1) if self.unknown is None else torch.stack(parts).sum(0))


class GroupHead(nn.Module):
    """Hidden (n, D) → logits (n, V) of a group."""

    def __init__(self, width: int, vocabularies: tuple[int, ...]) -> None:
        super().__init__()
        self.up = Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.outs = nn.ModuleList(Linear(width, values) for values in vocabularies)

    def forward(self, hidden: Tensor, group: int) -> Tensor:
        return self.outs[group](self.norm(F.gelu(self.up(hidden))))


class Generator(nn.Module):
    """p(unknown groups | known groups, class), each group by itself; class number `classes` stands for none."""

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__()
        self.settings = settings
        self.grouping = make_grouping(settings.radices, settings.group_digits)
        width, (frames, rows, columns) = settings.width, settings.grid
        self.inputs = GroupInputs(settings)
        self.classes = nn.Embedding(settings.classes + 1, width)
        match settings.positions:
            case "learned":
                table = LearnedPositionsSettings(rows=rows, columns=columns, frames=frames)
                self.positions: nn.Module = LearnedPositions(table, width)
            case "rotary":
                self.positions = nn.Identity()
            case other:
                raise SettingsError(f"no positions {other!r}")
        self.norm_in = nn.LayerNorm(width) if settings.norm == "post" else nn.Identity()
        inner = settings.mlp_ratio * width
        self.blocks = nn.ModuleList(
            GeneratorBlock(width, settings.head_width, inner, settings.norm, settings.dropout, settings.window_frames)
            for _ in range(settings.depth)
        )
        self.norm_out = nn.LayerNorm(width) if settings.norm == "pre" else nn.Identity()
        self.drop = nn.Dropout(settings.dropout)
        _initialise(self)
        self.head = GroupHead(width, self.grouping.vocabularies)

    def forward(self, groups: Tensor, known: Tensor, classes: Tensor) -> list[Tensor]:
        """Training: groups (B, T, h, w, G) int64, which are known (bool), classes (B,) → for each group the logits
        (n, V) of its n unknown places, in order.
        """
        hidden = self.hidden(groups, known, classes)
        return [self.head(hidden[~known[..., g]], g) for g in range(groups.shape[-1])]

    def hidden(self, groups: Tensor, known: Tensor, classes: Tensor) -> Tensor:
        """As `forward` takes them → (B, T, h, w, D)."""
        frames, rows, columns = groups.shape[1:4]
        tokens = self.drop(self._enter(groups, known, classes, 0))
        rotary = self._rotary(0, frames, rows, columns, tokens.device)
        for block in self.blocks:
            tokens = block(tokens, rotary)
        return self.norm_out(tokens[:, :, 1:]).view(*groups.shape[:4], -1)

    def _enter(self, groups: Tensor, known: Tensor, classes: Tensor, first: int) -> Tensor:
        """Hidden (B, T, 1 + h·w, D) of frames from number `first` on."""
        hidden = self.inputs(groups, known)
        if isinstance(self.positions, LearnedPositions):
            hidden = self.positions(hidden, first)
        label = self.classes(classes)[:, None, None].expand(-1, groups.shape[1], -1, -1)
        return self.norm_in(torch.cat([label, hidden.flatten(2, 3)], 2))

    def _rotary(self, first: int, frames: int, rows: int, columns: int, device: torch.device) -> Rotary | None:
        """Angles (T·(1 + h·w), d); the class's place turns with the frame's first token."""
        if isinstance(self.positions, LearnedPositions):
            return None
        table = rotary_table(RotaryPositionsSettings(), frames, rows, columns, self.settings.head_width, device, first)
        parts = [part.view(frames, rows * columns, -1) for part in (table.cos, table.sin)]
        return Rotary(*(torch.cat([part[:, :1], part], 1).flatten(0, 1) for part in parts))

    def check_grid(self, frames: int, rows: int, columns: int) -> None:
        """Raises ShapeError for a grid that learned positions do not cover."""
        most, *sides = self.settings.grid
        if self.settings.positions == "learned" and ([rows, columns] != sides or frames > most):
            raise ShapeError(
                f"this generator makes up to {most} frames of {sides[0]}×{sides[1]} tokens, asked for {frames} of "
                f"{rows}×{columns}"
            )


class View:
    """A batch of frames that is filled in under some classes (B,), and what the network remembers of earlier ones."""

    def __init__(self, network: Generator, classes: Tensor) -> None:
        self.network, self.classes, self.frame = network, classes, 0
        self._memories = [Memory(network.settings.window_frames) for _ in network.blocks]
        self.is_empty = True

    def look(self, groups: Tensor, known: Tensor, places: Tensor | None, wanted: Tensor) -> Tensor:
        """The frame at work, groups (B, h, w, G): compute its tokens `places` (B, n) anew, None: all; others are as
        they were looked at last. → hidden (B, m, D) of the tokens `wanted` (B, m), which are among them.
        """
        network, (rows, columns) = self.network, groups.shape[1:3]
        tokens = network._enter(groups[:, None], known[:, None], self.classes, self.frame)[:, 0]
        table = network._rotary(self.frame, 1, rows, columns, tokens.device)
        rotary = None if table is None else Rotary(table.cos[None, None], table.sin[None, None])
        if places is None or self.is_empty:
            at, chosen = None, wanted + 1
        else:
            at = torch.cat([torch.zeros_like(places[:, :1]), places + 1], 1)  # the class's place, too
            tokens = tokens.gather(1, at[..., None].expand(-1, -1, tokens.shape[-1]))
            rotary = None if rotary is None else _at(rotary, at)
            chosen = _find(at, wanted + 1)
        self.is_empty = False
        *front, last = zip(network.blocks, self._memories, strict=True)
        for block, memory in front:
            tokens = block.look(tokens, at, rotary, memory, None)  # type: ignore[operator]
        tokens = last[0].look(tokens, at, rotary, last[1], chosen)  # type: ignore[operator]
        return network.norm_out(tokens)

    def advance(self, groups: Tensor) -> None:
        """Remember the frame (B, h, w, G), now that all of it is known; the next one begins."""
        self.look(groups, torch.ones_like(groups, dtype=torch.bool), None, groups.new_zeros(len(groups), 1))
        for memory in self._memories:
            memory.advance()
        self.frame += 1
        self.is_empty = True


def _at(rotary: Rotary, places: Tensor) -> Rotary:
    return Rotary(rotary.cos[0, 0][places][:, None], rotary.sin[0, 0][places][:, None])


def _find(among: Tensor, wanted: Tensor) -> Tensor:
    """Where in the rows of `among` (B, n) those of `wanted` (B, m) stand; `among` has each number at most once."""
    order = among.argsort(1)
    return order.gather(1, torch.searchsorted(among.gather(1, order), wanted.contiguous()))


def _initialise(module: nn.Module) -> None:
    """Matrices inside blocks: normal of standard deviation 0.02; places, classes as large as what they are added to."""
    for name, parameter in module.named_parameters():
        if "blocks." in name and parameter.ndim == 2:
            nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)
        elif "blocks." in name and name.endswith(".bias"):
            nn.init.zeros_(parameter)
        elif name in ("classes.weight", "positions.places"):
            nn.init.normal_(parameter, std=0.5)
