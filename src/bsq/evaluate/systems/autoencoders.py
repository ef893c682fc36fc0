"""Public autoencoders as systems. What enters: a folder or hub id of diffusers, DALL·E's. What leaves: a `System`.

A diffusers `AutoencoderKL` (SD-VAE 1.x and 2.x, SDXL) goes through the mean of its posterior; its latent counts as
16-bit floats, the paper's rule by which 4 channels make 64 bits a token. A `VQModel` counts log2 of its codebook.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor, nn

from bsq.checkpoint.unpickle import read_module
from bsq.codes import Codes
from bsq.errors import CheckpointError, MissingDependencyError
from bsq.evaluate.systems.base import Reconstructed
from bsq.evaluate.systems.fitting import PADDED, clip_of, frames_of, one_by_one, pad_to_multiple
from bsq.evaluate.systems.tokenizers import FLOAT_BITS
from bsq.folders import check_fit
from bsq.frozen.dalle import STRIDE, DalleDecoder, DalleEncoder, DalleVae
from bsq.metrics.given import hash_of_tensors

SD_VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 256,
}
"""The shape of Stable Diffusion's VAE: 83.65 M parameters."""
SPEED_ONLY = "random weights: for speed only"


@dataclass(frozen=True, eq=False)
class Through:
    """Pictures (B, 3, H, W) that came back, their bits, and what they were between."""

    pixels: Tensor
    bits: float
    latent: Tensor


class AutoencoderSystem(ABC):
    """Frames one after another through `encode` and `decode`; subclasses say how."""

    codebook: int | None = None  # its size; None for continuous latents

    def __init__(self, name: str, network: nn.Module, stride: int, description: str, currency: str) -> None:
        self.name, self.network, self.stride = name, network.eval().requires_grad_(False), stride
        self.description, self.currency = f"{description}; {PADDED.format(stride=stride)}", currency
        self.parameters: int | None = sum(parameter.numel() for parameter in network.parameters())
        self.notes: tuple[str, ...] = ()

    def reconstruct(self, pixels: Tensor) -> Reconstructed:
        clips, bits, indices = [], [], []
        for clip in one_by_one(pixels):
            frames = [self._frame(frame[None]) for frame in frames_of(clip)]
            clips.append(clip_of(torch.cat([one.pixels for one in frames])))
            bits.append(math.fsum(one.bits for one in frames))
            indices += [torch.cat([self.indices(one.latent) for one in frames])] if self.codebook else []
        codes = Codes(torch.stack(indices)[..., None], (self.codebook,)) if self.codebook else None
        return Reconstructed(torch.cat(clips), tuple(bits), codes)

    def reconstruct_together(self, pixels: Tensor) -> Tensor:
        again = self._frame(pixels.transpose(1, 2).flatten(0, 1))
        return again.pixels.unflatten(0, (len(pixels), -1)).transpose(1, 2)

    def _frame(self, picture: Tensor) -> Through:
        """(B, 3, H, W) of any size."""
        height, width = picture.shape[-2:]
        device = next(self.network.parameters()).device
        with torch.no_grad():
            found = self.through(pad_to_multiple(picture, self.stride).to(device))
        return replace(found, pixels=found.pixels[..., :height, :width].float().clamp(-1, 1).cpu())

    @abstractmethod
    def through(self, picture: Tensor) -> Through:
        """(B, 3, H, W) of whole strides."""

    def indices(self, latent: Tensor) -> Tensor:
        """A latent as codes int64 (B, h, w) on the CPU, where there is a codebook; not timed."""
        raise AssertionError(f"{self.name} has a continuous latent")


class KlSystem(AutoencoderSystem):
    """A diffusers AutoencoderKL."""

    def through(self, picture: Tensor) -> Through:
        latent = self.network.encode(picture).latent_dist.mode()  # type: ignore[operator]
        return Through(self.network.decode(latent).sample, float(latent.numel() * FLOAT_BITS), latent)  # type: ignore[operator]


class VqSystem(AutoencoderSystem):
    """A diffusers VQModel."""

    @property
    def codebook(self) -> int:  # type: ignore[override]
        return self.network.config["num_vq_embeddings"]  # type: ignore[index, return-value]

    def through(self, picture: Tensor) -> Through:
        latent = self.network.encode(picture).latents  # type: ignore[operator]
        bits = latent[:, 0].numel() * math.log2(self.codebook)
        return Through(self.network.decode(latent).sample, bits, latent)  # type: ignore[operator]

    @torch.no_grad()
    def indices(self, latent: Tensor) -> Tensor:
        _, _, (_, _, nearest) = self.network.quantize(latent)  # type: ignore[operator]
        return nearest.reshape(len(latent), *latent.shape[2:]).cpu()


class DalleSystem(AutoencoderSystem):
    """DALL·E's discrete VAE."""

    network: DalleVae

    @property
    def codebook(self) -> int:  # type: ignore[override]
        return self.network.vocabulary

    def through(self, picture: Tensor) -> Through:
        codes = self.network.encode((picture + 1) / 2)
        return Through(self.network.decode(codes) * 2 - 1, codes.numel() * math.log2(self.codebook), codes)

    def indices(self, latent: Tensor) -> Tensor:
        return latent.cpu()


def open_diffusers(name: str, source: str, device: str = "cpu") -> AutoencoderSystem:
    """An AutoencoderKL or VQModel from a folder in diffusers' format (its own, or one with a subfolder `vae`), or a hub
    id, "owner/name" or "owner/name/vae". Only safetensors are read. Raises CheckpointError.
    """
    folder = folder_of(source)
    kind = read_kind(folder, source)
    models = _diffusers()
    try:
        network = getattr(models, kind).from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{source} cannot be read as a {kind} of diffusers: {error}") from error
    return _as_system(name, network.to(device), f"diffusers {kind} {Path(source).name}")


def folder_of(source: str) -> Path:
    """Where config.json and the weights lie, fetched from the hub if need be. Raises CheckpointError."""
    folder = Path(source)
    if folder.is_dir():
        return folder / "vae" if (folder / "vae" / "config.json").is_file() else folder
    owner, _, rest = source.partition("/")
    # As the first thing that is asked of the hub's package, it prints that it could not import parts of itself.
    from huggingface_hub import snapshot_download

    repository, _, inside = rest.partition("/")
    wanted = [f"{inside}/{file}".lstrip("/") for file in ("config.json", "diffusion_pytorch_model*.safetensors")]
    try:
        return Path(snapshot_download(f"{owner}/{repository}", allow_patterns=wanted)) / inside
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"no folder {source!r}, and the hub did not give it: {reason}") from error


def random_sd_vae(name: str, device: str = "cpu") -> AutoencoderSystem:
    """Stable Diffusion's VAE with seeded random weights: what it costs, not what it gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _diffusers().AutoencoderKL(**SD_VAE)
    system = _as_system(name, network.to(device), "diffusers AutoencoderKL of Stable Diffusion's shape")
    system.notes = (SPEED_ONLY,)
    return system


def open_dalle(name: str, folder: Path, device: str = "cpu") -> AutoencoderSystem:
    """encoder.pkl and decoder.pkl as published, whole pickled modules, read without running any of them.

    Raises CheckpointError for files that are missing or do not fit.
    """
    tensors = {part: read_module(folder / f"{part}.pkl") for part in ("encoder", "decoder")}
    network = _dalle_of(tensors["encoder"], tensors["decoder"], folder)
    for part, module in (("encoder", network.encoder), ("decoder", network.decoder)):
        loaded = {key: tensor.float() for key, tensor in tensors[part].items()}
        check_fit(module, loaded, f"{folder / part}.pkl")
        module.load_state_dict(loaded)
    description = f"DALL·E dVAE, weights {hash_of_tensors(network)[:8]}"
    return DalleSystem(name, network.to(device), STRIDE, description, "code bits")


def _dalle_of(encoder: dict[str, Tensor], decoder: dict[str, Tensor], folder: Path) -> DalleVae:
    """Without memory for more than the files hold: sizes come from their first and last tensors."""
    try:
        width, entry = encoder["blocks.input.w"].shape[0], decoder["blocks.input.w"].shape[0]
        vocabulary = encoder["blocks.output.conv.w"].shape[0]
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{folder} holds other networks than DALL·E's: there is no {error}") from error
    return DalleVae(DalleEncoder(width, vocabulary), DalleDecoder(width, vocabulary, entry))


def read_kind(folder: Path, source: str) -> str:
    """ "AutoencoderKL" or "VQModel", from a folder's config.json."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{source} has no config.json of diffusers: {error}") from error
    if kind not in ("AutoencoderKL", "VQModel"):
        raise CheckpointError(f"{source} is a {kind!r} of diffusers; evaluated are AutoencoderKL and VQModel")
    return kind


def _as_system(name: str, network: Any, description: str) -> AutoencoderSystem:
    stride = 2 ** (len(network.config["block_out_channels"]) - 1)
    words = f"{description}, weights {hash_of_tensors(network)[:8]}"
    if type(network).__name__ == "VQModel":
        return VqSystem(name, network, stride, words, "code bits")
    return KlSystem(name, network, stride, f"{words}, the posterior's mean", f"{FLOAT_BITS}-bit floats")


def _diffusers() -> Any:
    try:
        import diffusers.models as models
    except ImportError as error:
        raise MissingDependencyError(
            "public autoencoders need diffusers, which is not installed; pip install 'bsq[peers]'"
        ) from error
    return models
