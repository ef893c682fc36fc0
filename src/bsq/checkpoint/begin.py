"""Beginning a model from another: a video model from one of pictures or of shorter clips, a deeper one from one of
fewer blocks. What enters: the trained model. What leaves: one that gives what it gave, before it learns on.

Pictures and videos share all weights but the table of frames, which learned positions have and rotary ones do not
need. New rows of it are zero (PAPER: §3.3), so that before any training a clip's first frame has the very codes and
pixels that the picture model gives it. New blocks come behind those that are there, a refiner behind all of them, and
they add nothing yet.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from bsq.errors import SettingsError
from bsq.layers.block import Block
from bsq.layers.positions import LearnedPositionsSettings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.transformer import TransformerSettings

# What may differ freely: how far tokens see in time. A picture has one frame, so nothing of this changes it.
TEMPORAL = ("time", "window_frames")
# What may grow, and what may come where there was none.
GROWING = {
    f"{part}.{what}": told
    for part in ("encoder", "decoder")
    for what, told in {"positions.frames": "table of {} frames", "depth": "{} blocks"}.items()
}
NEW = "decoder.refiner"


def video_from_picture(picture: Tokenizer, frames: int | None = None, window_frames: int | None = None) -> Tokenizer:
    """A new video tokenizer in evaluation mode whose frame 0 is what `picture` makes of it, bit for bit.

    Args:
        picture: any tokenizer with discrete or continuous latents; it is left as it is.
        frames: rows of the table of frames, where positions are learned; rotary positions take any number.
        window_frames: how many frames a token sees, its own among them; None: all earlier ones. With 1, every frame of
            a clip is what `picture` makes of it.

    Raises:
        SettingsError: `frames` missing for learned positions, given for rotary ones, or fewer than `picture` has.
        pydantic's ValidationError: `frames` or `window_frames` below 1, or no whole number.
    """
    asked = {"time": "causal", "window_frames": window_frames}
    parts: dict[str, Any] = {}
    for part in ("encoder", "decoder"):
        settings: TransformerSettings = getattr(picture.settings, part)
        match settings.positions:
            case LearnedPositionsSettings():
                if frames is None:
                    raise SettingsError(f"the {part} has learned positions: say how many frames its table is to have")
                positions = settings.positions.model_dump() | {"frames": frames}
            case _:
                positions = settings.positions.model_dump()
        parts[part] = settings.model_dump() | asked | {"positions": positions}
    if frames is not None and not any("frames" in part["positions"] for part in parts.values()):
        raise SettingsError(f"rotary positions take clips of any length and have no table of frames={frames}")
    video = Tokenizer(TokenizerSettings.model_validate(picture.settings.model_dump() | parts))
    begin_from(picture, video)
    return video.to(picture.encoder.embed.weight.device).eval()


def begin_from(given: Tokenizer, model: Tokenizer) -> None:
    """Copy the weights of `given` into `model`: the same model, one that sees further in time, one whose encoder or
    decoder has more blocks, or whose decoder has a refiner; what is new changes nothing yet.

    Raises SettingsError that names the first other setting that differs, or what would be cut: frames, blocks, a
    refiner.
    """
    _check(_meaning(given.settings), _meaning(model.settings), "")
    for part, there in ((model.encoder, given.encoder), (model.decoder, given.decoder)):
        for block in part.body.blocks[len(there.body.blocks) :]:
            cast(Block, block).add_nothing()
    if model.decoder.refiner is not None and given.decoder.refiner is None:
        model.decoder.refiner.add_nothing()
    tensors = {**model.state_dict(), **given.state_dict()}  # what is new keeps its own
    for name, wanted in model.state_dict().items():
        if name.endswith("positions.frames"):
            table = torch.zeros_like(wanted)
            known = given.state_dict().get(name, table[:1])
            table[: len(known)] = known
            tensors[name] = table
    model.load_state_dict(tensors)


def _meaning(settings: TokenizerSettings) -> dict[str, Any]:
    """The settings that both must share, and the frames of tables, 1 where there is none."""
    told = settings.model_dump()
    told["quantizer"] = settings.quantizer.meaning()
    for part in ("encoder", "decoder"):
        for name in TEMPORAL:
            del told[part][name]
    return told


def _check(given: Any, wanted: Any, name: str) -> None:
    if isinstance(given, dict) and isinstance(wanted, dict):
        for key in {**given, **wanted}:
            _check(given.get(key), wanted.get(key), f"{name}.{key}" if name else key)
        return
    if name == NEW and given is None:
        return
    if name == NEW and wanted is None:
        raise SettingsError(f"{name}=null would cut the given model's refiner")
    grows = GROWING.get(name)
    if grows is not None and given is not None and wanted is not None:
        if given > wanted:
            raise SettingsError(f"{name}={wanted} would cut the given model's {grows.format(given)}")
    elif given != wanted:
        raise SettingsError(f"the given model is one of other settings: its {name} is {given}, wanted {wanted}")
