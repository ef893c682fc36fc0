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

import torch
from pydantic import PositiveInt, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bsq.checkpoint.unpickle import read_pickle
from bsq.errors import CheckpointError
from bsq.folders import check_fit
from bsq.layers.positions import LearnedPositionsSettings
from bsq.layers.windows import FullAttentionSettings
from bsq.quantizers.bsq import BsqSettings
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.decoder import DecoderSettings
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
        CheckpointError: unreadable, weights of that kind absent, or any tensor missing, unknown, twice there, of
        another shape or not floating-point (each named).
    """
    settings = settings or OfficialSettings()
    content = _read(source)
    weights, state = _choose(content, settings.weights, source)
    named = _by_bare_name(state, source)
    renamed = {_rename(name): tensor.float() for name, tensor in named.items() if name not in BUFFERS}
    sizes = _settings_of(named, settings, source)
    with torch.device("meta"):  # a model without memory: what a file only claims is never allocated
        check_fit(Tokenizer(sizes), renamed, f"{source} ({weights})")
    tokenizer = Tokenizer(sizes)
    tokenizer.load_state_dict(renamed)
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
    for name, tensor in state.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{source}: a tensor is called {name!r}, which is no name")
        held = tensor.untyped_storage().nbytes() if tensor.layout is torch.strided else 0
        if held < tensor.numel() * tensor.element_size():
            raise CheckpointError(f"{source}: {name} claims to be {tuple(tensor.shape)}, the file holds {held} bytes")
    return state


def _by_bare_name(state: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The tensors by their names without wrappers' prefixes."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        bare = _bare(name)
        if bare in named:
            raise CheckpointError(f"{source} holds {bare} twice, under different prefixes")
        if bare not in BUFFERS and not tensor.is_floating_point():
            raise CheckpointError(f"{source}: {bare} is {tensor.dtype}, weights are floating-point numbers")
        named[bare] = tensor
    return named


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
    width, values = _shape(state, "encoder.conv1.weight", 2, source)
    places, _ = _shape(state, "encoder.positional_embedding", 2, source)
    bits, _ = _shape(state, "quant_embed.weight", 2, source)
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
    temporal, group = "encoder.temporal_positional_embedding", "quantize.group_basis"
    frames = _shape(state, temporal, 2, source)[0] if temporal in state else 1

    def transformer(part: str) -> TransformerSettings:
        return TransformerSettings(
            width=width,
            depth=max(1, _depth(state, part)),
            head_width=width // heads,
            positions=LearnedPositionsSettings(rows=side, columns=side, frames=frames),
            attention=FullAttentionSettings(),
            time=settings.time if temporal in state else "causal",
        )

    try:
        return TokenizerSettings(
            patch=patch,
            quantizer=BsqSettings(bits=bits, group=_shape(state, group, 1, source)[0] if group in state else 1),
            encoder=transformer("encoder"),
            decoder=DecoderSettings.model_validate(transformer("decoder")),
        )
    except ValidationError as error:
        fault = error.errors()[0]
        raise CheckpointError(f"{source}: {fault['loc'][-1]}={fault['input']} is no size of a model") from error


def _shape(state: Mapping[str, Tensor], name: str, rank: int, source: Path) -> tuple[int, ...]:
    if name not in state or state[name].ndim != rank:
        raise CheckpointError(f"{source} is not a BSQ-ViT checkpoint: {name} is missing or of another rank")
    return tuple(state[name].shape)


def _depth(state: Mapping[str, Tensor], part: str) -> int:
    """Blocks of the encoder or decoder."""
    pattern = re.compile(rf"{part}\.transformer\.resblocks\.(\d+)\.")
    return len({match[1] for name in state if (match := pattern.match(name))})
