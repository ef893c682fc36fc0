"""Masked priors ↔ integers ↔ files. What enters: a trained float prior, or a folder. What leaves: an exact prior.

Two files: `prior.safetensors` holds integers only, `prior.json` the settings, the digest of the integers and the digest
of the logits they gave where they were frozen. A prior that gives other logits on this machine refuses to code.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from bsq.errors import CheckpointError
from bsq.prior.base import FREQUENCY_BITS, TOTAL_FREQUENCY, Grid
from bsq.prior.exact import TABLE_SIZE, ExactPrior, IntegerLayer, IntegerNetwork, IntegerWeights, digest
from bsq.prior.masked import MaskedPrior, MaskedSettings, RoundedConv
from bsq.prior.passes import quincunx_passes
from bsq.prior.rounding import ACTIVATION_UNIT, CHAIN_UNIT, LOGIT_UNIT, RESIDUAL_UNIT, weight_scales

FORMAT_VERSION = 1
WEIGHTS_FILE, SETTINGS_FILE = "prior.safetensors", "prior.json"
PROBE_GRID = Grid(1, 12, 10)


def freeze(prior: MaskedPrior) -> ExactPrior:
    """The integers of a float prior trained with rounding. Raises CheckpointError if a sum could overflow."""
    weights = IntegerWeights(
        window=freeze_convolution(prior.window, 1.0, RESIDUAL_UNIT),
        memory=None if prior.memory is None else freeze_convolution(prior.memory, 1.0, RESIDUAL_UNIT),
        gathers=tuple(freeze_convolution(conv, ACTIVATION_UNIT, ACTIVATION_UNIT) for conv in prior.gathers),
        mixes=tuple(freeze_convolution(conv, ACTIVATION_UNIT, RESIDUAL_UNIT) for conv in prior.mixes),
        condition_head=freeze_convolution(prior.condition_head, ACTIVATION_UNIT, CHAIN_UNIT),
        chain_in=(prior.chain.entering.detach() / CHAIN_UNIT).round().to(torch.int16),
        chain_out=freeze_layer(prior.chain.leaving, prior.chain.bias, CHAIN_UNIT, LOGIT_UNIT),
        table=frequency_table(),
    )
    return ExactPrior(prior.settings, weights)


def freeze_convolution(convolution: RoundedConv, unit_in: float, unit_out: float) -> IntegerLayer:
    """A convolution as a product with gathered neighbours."""
    return freeze_layer(convolution.weight, convolution.bias, unit_in, unit_out)


def freeze_layer(weight: Tensor, bias: Tensor, unit_in: float, unit_out: float) -> IntegerLayer:
    """Weights (outputs, inputs) and bias as integers."""
    scale = weight_scales(weight).double()
    mantissa, exponent = torch.frexp(scale * unit_in / unit_out)
    return IntegerLayer(
        weight=(weight.detach().double() / scale[:, None]).round().clamp(-127, 127).to(torch.int8),
        bias=(bias.detach().double() / (scale * unit_in)).round().to(torch.int32),
        multiplier=(mantissa * 128).to(torch.int32),
        shift=(7 - exponent).to(torch.int32),
    )


def thaw(exact: ExactPrior) -> MaskedPrior:
    """Mirror of `freeze`: a float prior of the same weights, on the CPU, whose logits have gradients. Activations are
    not rounded, so that it says nearly what the exact one says; it must not drive a coder.
    """
    with torch.device("meta"):  # nothing is drawn
        prior = MaskedPrior(exact.settings).float()
    prior, weights = prior.to_empty(device="cpu"), exact.weights
    with torch.no_grad():
        thaw_convolution(prior.window, weights.window, 1.0, RESIDUAL_UNIT)
        if prior.memory is not None and weights.memory is not None:
            thaw_convolution(prior.memory, weights.memory, 1.0, RESIDUAL_UNIT)
        for convolution, layer in zip(prior.gathers, weights.gathers, strict=True):
            thaw_convolution(convolution, layer, ACTIVATION_UNIT, ACTIVATION_UNIT)
        for convolution, layer in zip(prior.mixes, weights.mixes, strict=True):
            thaw_convolution(convolution, layer, ACTIVATION_UNIT, RESIDUAL_UNIT)
        thaw_convolution(prior.condition_head, weights.condition_head, ACTIVATION_UNIT, CHAIN_UNIT)
        prior.chain.entering.copy_(weights.chain_in * CHAIN_UNIT)
        thaw_layer(prior.chain.leaving, prior.chain.bias, weights.chain_out, CHAIN_UNIT, LOGIT_UNIT)
    return prior.eval()


def thaw_convolution(convolution: RoundedConv, layer: IntegerLayer, unit_in: float, unit_out: float) -> None:
    """Mirror of `freeze_convolution`, in place."""
    thaw_layer(convolution.weight, convolution.bias, layer, unit_in, unit_out)


def thaw_layer(weight: Tensor, bias: Tensor, layer: IntegerLayer, unit_in: float, unit_out: float) -> None:
    """Mirror of `freeze_layer`, in place."""
    scale = layer.multiplier.double() * torch.exp2(-layer.shift.double()) * unit_out / unit_in
    weight.copy_(layer.weight.double() * scale[:, None])
    bias.copy_(layer.bias.double() * scale * unit_in)


def frequency_table() -> Tensor:
    """(2048,) int32: p·2^16 of logit (i − 1024) / 64, in 1 … 65535. Stored with the weights, never computed again."""
    logits = (torch.arange(TABLE_SIZE, dtype=torch.float64) - TABLE_SIZE // 2) * LOGIT_UNIT
    frequencies = (torch.sigmoid(logits) * TOTAL_FREQUENCY).round().clamp(1, TOTAL_FREQUENCY - 1)
    assert FREQUENCY_BITS == 16
    return frequencies.to(torch.int32)


def probe(prior: ExactPrior, grid: Grid = PROBE_GRID) -> str:
    """SHA-256 (hex) of every logit the prior gives for fixed digits on `grid`, layer by layer, pass by pass.

    A prior that looks at the frame before sees the grid a second time, with other digits, after itself.
    """
    total = hashlib.sha256()
    network, layout = IntegerNetwork(prior, grid), prior.layout
    frames, before = 1 + prior.settings.earlier_frames, None
    truths = (2 * probe_bits(frames * grid.tokens * layout.bits) - 1).astype(np.int8)
    for truth in truths.reshape(frames, grid.tokens, layout.bits):
        signs, memory = np.zeros_like(truth), network.remember(before)
        for layer in layout.layers:
            for tokens in quincunx_passes(grid, layer.passes):
                state = network.condition(signs, tokens, memory)
                for bit in layer.bits:
                    total.update(network.logits(state, bit).astype("<i4").tobytes())
                    state = network.learn(state, bit, truth[tokens, bit])
                signs[tokens, layer.bits.start : layer.bits.stop] = truth[tokens, layer.bits.start : layer.bits.stop]
        before = truth
    return total.hexdigest()


def probe_bits(count: int) -> np.ndarray:
    """(count,) 0 or 1: the top bits of a fixed 32-bit linear congruential generator, runs of eight made alike."""
    state, bits = 1, []
    for _ in range(-(-count // 8)):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        bits.append(state >> 24)
    return np.unpackbits(np.array(bits, np.uint8))[:count]


def save_prior(prior: ExactPrior, folder: Path, *, code_hash: str = "", notes: str = "") -> None:
    """Write `prior.safetensors` and `prior.json`. `code_hash`: of the tokenizer whose codes it models."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(save(prior.weights.tensors()))
    record = {
        "format": FORMAT_VERSION,
        "settings": prior.settings.model_dump(mode="json"),
        "weights_sha256": digest(prior.settings, prior.weights).hex(),
        "logits_sha256": probe(prior),
        "code_hash": code_hash,
        "notes": notes,
    }
    (folder / SETTINGS_FILE).write_text(json.dumps(record, indent=2) + "\n")


def load_prior(folder: Path) -> ExactPrior:
    """Mirror of `save_prior`.

    Raises CheckpointError if a file is missing or damaged, a sum could overflow, or this machine computes other logits
    than the one that froze the prior.
    """
    record = read_record(folder)
    try:
        settings = MaskedSettings.model_validate(record["settings"])
        tensors = load_file(folder / WEIGHTS_FILE)
        weights = assemble(tensors, settings)
        found = digest(settings, weights).hex()
    except (KeyError, TypeError, OSError, SafetensorError, ValidationError) as error:
        raise CheckpointError(f"cannot read the prior in {folder}: {error}; copy or train it again") from error
    if found != record.get("weights_sha256"):
        raise CheckpointError(f"the prior's weights in {folder} are damaged: their digest differs from {SETTINGS_FILE}")
    prior = ExactPrior(settings, weights)
    if probe(prior) != record.get("logits_sha256"):
        raise CheckpointError(
            f"this machine computes other logits than the prior in {folder} was frozen with, so files would not decode "
            "elsewhere; please report your CPU and torch version, and use the adaptive or raw prior meanwhile"
        )
    return prior


def read_record(folder: Path) -> dict:
    """`prior.json` of a folder."""
    try:
        record = json.loads((folder / SETTINGS_FILE).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"no readable {SETTINGS_FILE} in {folder}: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT_VERSION:
        raise CheckpointError(f"{folder / SETTINGS_FILE} is not a prior of format {FORMAT_VERSION}")
    return record


def assemble(tensors: dict[str, Tensor], settings: MaskedSettings) -> IntegerWeights:
    """Mirror of `IntegerWeights.tensors`. Raises KeyError for a missing tensor."""

    def layer(name: str) -> IntegerLayer:
        return IntegerLayer(*(tensors[f"{name}.{part}"] for part in ("weight", "bias", "multiplier", "shift")))

    return IntegerWeights(
        window=layer("window"),
        memory=layer("memory") if settings.earlier_frames else None,
        gathers=tuple(layer(f"gathers.{i}") for i in range(settings.blocks)),
        mixes=tuple(layer(f"mixes.{i}") for i in range(settings.blocks)),
        condition_head=layer("condition_head"),
        chain_in=tensors["chain_in"],
        chain_out=layer("chain_out"),
        table=tensors["table"],
    )
