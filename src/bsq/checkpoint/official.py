"""The authors' BSQ-ViT checkpoints → our folders. What enters: their file (torch pickle or safetensors). What leaves:
a model.

Names and layout: the released code of arXiv 2406.07548. Sizes are read off the tensors; the number of heads is not in
them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bsq.checkpoint.unpickle import read_pickle
from bsq.errors import CheckpointError
from bsq.folders import fit
from bsq.layers.positions import LearnedPositionsSettings
from bsq.layers.windows import FullAttentionSettings
from bsq.quantizers.bsq import BsqSettings
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.transformer import TransformerSettings

PREFIXES = ("state_dict.", "module.", "_orig_mod.")
RENAMED = [
    (r"quant_embed\.", "encoder.to_latent."),
    (r"post_quant_embed\.", "decoder.from_code."),
    (r"encoder\.conv1\.", "encoder.embed."),
    (r"decoder\.ffn\.0\.", "decoder.to_patches.0."),
    (r"decoder\.conv_out\.", "decoder.to_patches.2."),
    (r"(encoder|decoder)\.positional_embedding", r"\1.body.positions.places"),
    (r"(encoder|decoder)\.temporal_positional_embedding", r"\1.body.positions.frames"),
    (r"(encoder|decoder)\.ln_pre\.", r"\1.body.norm_in."),
    (r"(encoder|decoder)\.ln_post\.", r"\1.body.norm_out."),
    (r"(encoder|decoder)\.transformer\.resblocks\.(\d+)\.ln_1\.", r"\1.body.blocks.\2.attention_norm."),
    (r"(encoder|decoder)\.transformer\.resblocks\.(\d+)\.ln_2\.", r"\1.body.blocks.\2.mlp_norm."),
    (r"(encoder|decoder)\.transformer\.resblocks\.(\d+)\.attn\.in_proj_", r"\1.body.blocks.\2.attention.qkv."),
    (r"(encoder|decoder)\.transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"\1.body.blocks.\2.attention.out."),
    (r"(encoder|decoder)\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"\1.body.blocks.\2.mlp.up."),
    (r"(encoder|decoder)\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"\1.body.blocks.\2.mlp.down."),
]
BUFFERS = {"quantize.basis", "quantize.group_basis"}


class OfficialSettings(Settings):
    """What the file does not say.

    Attributes:
        weights: the averaged (`ema`) or the last (`raw`) weights; `auto` takes the averaged ones if there are any.
        heads: attention heads; default width / 64, as in all published models.
        time: attention over frames. The released mask does not mask, so video models were run with `full`.
    """

    weights: Literal["auto", "ema", "raw"] = "auto"
    heads: PositiveInt | None = None
    time: Literal["full", "causal"] = "full"


@dataclass(frozen=True)
class Conversion:
    """The model, and what was read to make it."""

    tokenizer: Tokenizer
    weights: str
    tensors: int
    parameters: int


def convert_official(source: Path, settings: OfficialSettings | None = None) -> Conversion:
    """Read one of the authors' checkpoints, strictly.

    Raises:
        CheckpointError: unreadable, weights of that kind absent, or any tensor missing, unknown or of another shape
        (each named).
    """
    settings = settings or OfficialSettings()
    content = _read(source)
    weights, state = _choose(content, settings.weights, source)
    named = {_bare(name): tensor for name, tensor in state.items()}
    tokenizer = Tokenizer(_settings_of(named, settings, source))
    renamed = {_rename(name): tensor.float() for name, tensor in named.items() if name not in BUFFERS}
    fit(tokenizer, renamed, f"{source} ({weights})")
    return Conversion(tokenizer.eval(), weights, len(renamed), sum(tensor.numel() for tensor in renamed.values()))


def _read(source: Path) -> Any:
    if source.suffix != ".safetensors":
        return read_pickle(source)
    try:
        return load_file(source)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{source} cannot be read: {error}") from error


def _choose(content: Any, wanted: str, source: Path) -> tuple[str, Mapping[str, Tensor]]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source} holds a {type(content).__name__}, not a dictionary of tensors")
    if "state_dict" not in content:
        if wanted == "ema":
            raise CheckpointError(f"{source} holds one set of weights and does not say that they are averaged; use raw")
        return "raw", _tensors(content, source)
    averaged = content.get("ema_state_dict")
    if wanted == "ema" and averaged is None:
        raise CheckpointError(f"{source} has no averaged weights (ema_state_dict); use raw")
    if wanted != "raw" and averaged is not None:
        return "ema", _tensors(averaged, source)
    return "raw", _tensors(content["state_dict"], source)


def _tensors(content: Any, source: Path) -> Mapping[str, Tensor]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source}: the weights are a {type(content).__name__}, not a dictionary of tensors")
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f"{source} holds no tensors")
    return state


def _bare(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.removeprefix(next(prefix for prefix in PREFIXES if name.startswith(prefix)))
    return name


def _rename(name: str) -> str:
    for pattern, ours in RENAMED:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", ours, name)
    return name


def _settings_of(state: Mapping[str, Tensor], settings: OfficialSettings, source: Path) -> TokenizerSettings:
    """Sizes from the shapes of the tensors that fix them."""
    try:
        width, values = state["encoder.conv1.weight"].shape
        bits = state["quant_embed.weight"].shape[0]
        places = state["encoder.positional_embedding"].shape[0]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{source} is not a BSQ-ViT checkpoint: {error} is missing or of another rank") from error
    temporal = state.get("encoder.temporal_positional_embedding")
    group = state.get("quantize.group_basis")
    patch, side = math.isqrt(values // 3), math.isqrt(places)
    heads = settings.heads or width // 64
    if 3 * patch * patch != values or side * side != places:
        raise CheckpointError(
            f"{source}: patches of {values} values on {places} places are not square RGB patches on a square"
        )
    if heads < 1 or width % heads or width // heads % 2:
        raise CheckpointError(
            f"{source}: width {width} cannot be split into {heads} heads of even width; give the number of heads"
        )
    blocks = {
        side_name: len(
            {match[1] for name in state if (match := re.match(rf"{side_name}\.transformer\.resblocks\.(\d+)\.", name))}
        )
        for side_name in ("encoder", "decoder")
    }
    parts = {
        side_name: TransformerSettings(
            width=width,
            depth=max(1, depth),
            head_width=width // heads,
            positions=LearnedPositionsSettings(
                rows=side, columns=side, frames=1 if temporal is None else temporal.shape[0]
            ),
            attention=FullAttentionSettings(),
            time="causal" if temporal is None else settings.time,
        )
        for side_name, depth in blocks.items()
    }
    return TokenizerSettings(
        patch=patch,
        quantizer=BsqSettings(bits=bits, group=1 if group is None else group.shape[0]),
        encoder=parts["encoder"],
        decoder=parts["decoder"],
    )
