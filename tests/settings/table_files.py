"""Files: what readers of streams and of the authors' checkpoints accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from entries import Row, rows
from safetensors.torch import load_file

from bsq.checkpoint.official import OfficialSettings, convert_official
from bsq.codec.info import Limits, StreamInfo, check_limits

GOLDEN = Path(__file__).parent.parent / "golden"


def limit(settings: Limits, folder: Path) -> Any:
    info = StreamInfo(
        height=64, width=64, patch=8, radices=(2,) * 8, kept=8, code_hash=bytes(8), frames=3, frame_rate=1
    )
    check_limits(info, settings)


def convert(settings: OfficialSettings, folder: Path) -> Any:
    """One of the authors' models, its averaged weights one larger."""
    tensors = load_file(GOLDEN / "official_video_b18_full.safetensors")
    state = {name.removeprefix("state_dict."): t for name, t in tensors.items() if name.startswith("state_dict.")}
    content = {"state_dict": state, "ema_state_dict": {f"module.{n}": t + 1 for n, t in state.items()}}
    torch.save(content, folder / "model.pt")
    done = convert_official(folder / "model.pt", settings)
    return done.weights, dict(done.tokenizer.state_dict()), str(done.tokenizer.settings)


TABLE: list[Row] = [
    *rows(Limits, limit, {}, pixels=100, frames=2, tokens=100, digits=1000),
    *rows(OfficialSettings, convert, {"heads": 4}, weights="raw", heads=2, time="causal"),
]
