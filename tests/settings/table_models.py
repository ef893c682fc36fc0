"""Encoder and decoder: what a small transformer makes of a small clip, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from entries import Row, rows

from bsq.errors import BsqError
from bsq.layers.positions import LearnedPositionsSettings, RotaryPositionsSettings
from bsq.layers.windows import WindowAttentionSettings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.decoder import DecoderSettings
from bsq.vit.refiner import Refiner, RefinerSettings
from bsq.vit.transformer import Transformer, TransformerSettings

SMALL = {"width": 32, "depth": 2, "head_width": 16}


def transform(settings: TransformerSettings, folder: Path) -> Any:
    """Clips of one and of three frames of 4×4 tokens; weights that are not only initial, so that everything shows."""
    torch.manual_seed(0)
    transformer = Transformer(settings)
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    seen: list[Any] = []
    for frames in (1, 3):
        try:
            seen.append(transformer(torch.randn(1, frames, 4, 4, settings.width)))
        except BsqError as error:
            seen.append(str(error))
    return seen


def place(settings: Any, folder: Path) -> Any:
    return transform(TransformerSettings(**SMALL, positions=settings), folder)


def attend(settings: Any, folder: Path) -> Any:
    return transform(TransformerSettings(**SMALL, attention=settings), folder)


def reconstruct(settings: TokenizerSettings, folder: Path) -> Any:
    torch.manual_seed(0)
    return Tokenizer(settings)(torch.rand(1, 3, 1, 16, 16) * 2 - 1)


def refine(settings: RefinerSettings, folder: Path) -> Any:
    torch.manual_seed(0)
    refiner = Refiner(settings, 16, 4)
    torch.nn.init.normal_(refiner.last.weight, std=0.3)
    return refiner(torch.randn(1, 3, 1, 16, 16), torch.randn(1, 1, 4, 4, 16))


def show(settings: DecoderSettings, folder: Path) -> Any:
    told = TokenizerSettings.model_validate(MODEL | {"decoder": settings})
    return reconstruct(told, folder), [name for name, _ in Tokenizer(told).named_parameters()]


LEARNED = {"kind": "learned", "rows": 4, "columns": 4, "frames": 3}
MODEL = {"quantizer": {"kind": "bsq", "bits": 8}, "encoder": SMALL, "decoder": SMALL}
DEEPER = {**SMALL, "depth": 1}


def bodies(kind: type[TransformerSettings]) -> list[Row]:
    return [
        *rows(kind, transform, SMALL, width=16, depth=1, head_width=8, mlp_ratio=2, positions=LEARNED),
        *rows(kind, transform, SMALL, attention={"kind": "windows", "size": 2}, time="full", window_frames=2),
    ]


TABLE: list[Row] = [
    *bodies(TransformerSettings),
    *bodies(DecoderSettings),
    *rows(RefinerSettings, refine, {"width": 8}, width=16, depth=1),
    *rows(DecoderSettings, show, SMALL, refiner={"width": 8}),
    *rows(LearnedPositionsSettings, place, LEARNED, rows=2, columns=8, frames=1),
    *rows(RotaryPositionsSettings, place, {}, base=9.0),
    *rows(WindowAttentionSettings, attend, {"size": 2}, size=4),
    *rows(TokenizerSettings, reconstruct, MODEL, patch=4, encoder=DEEPER, decoder=DEEPER),
    *rows(TokenizerSettings, reconstruct, MODEL, quantizer={"kind": "lfq", "bits": 8}),
]
