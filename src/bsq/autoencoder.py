"""A tokenizer as diffusers' users expect an autoencoder. What enters: pictures. What leaves: latents, and pictures.

>>> vae = bsq.Autoencoder.from_pretrained("biscuit-s", bits=18).to("cuda")
>>> latents = vae.encode(pixels).latents * vae.config.scaling_factor     # (B, 18, H/8, W/8), every number −1 or 1
>>> pixels = vae.decode(latents / vae.config.scaling_factor).sample      # (B, 3, H, W) in [−1, 1]

`encode`, `decode` and `config` are those of diffusers' `AutoencoderKL` and `VQModel`, so that its pipelines and
training scripts take this in their place; diffusers itself is not needed. A latent is the decoder's input, one vector a
token; what a sampler says between the codes goes to the nearest code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from bsq.checkpoint import load
from bsq.codes import Codes
from bsq.errors import SettingsError, ShapeError
from bsq.quantizers import BSQ, FSQ, LFQ, VQ, Gumbel, Quantizer
from bsq.quantizers.base import digit_dtype, require_finite
from bsq.tokenizer import Tokenizer

ROWS = 4096  # of a table of distances to a codebook, at once


class AutoencoderConfig(dict[str, Any]):
    """Facts by attribute or by key, as diffusers' configurations give them."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"this autoencoder's config has no {name!r}; it has {', '.join(self)}") from error


@dataclass(frozen=True, eq=False)
class CodeDistribution:
    """All of its weight on one latent (B, C, h, w): what stands for a posterior where `latent_dist` is asked for."""

    mean: Tensor

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """The one latent there is; `generator` draws nothing."""
        del generator
        return self.mean


class EncoderOutput(NamedTuple):
    """`latents` (B, C, h, w) as of a `VQModel`, `latent_dist` as of an `AutoencoderKL`; the same numbers."""

    latents: Tensor
    latent_dist: CodeDistribution


class DecoderOutput(NamedTuple):
    """`sample` (B, 3, H, W) in [−1, 1]."""

    sample: Tensor


class Autoencoder(nn.Module):
    """A tokenizer with the doors of a diffusers autoencoder, at a fixed number of bits.

    Pictures are (B, 3, H, W) in [−1, 1] and latents (B, C, h, w); clips (B, 3, T, H, W) and (B, C, T, h, w). Nothing is
    differentiated: tokenizers learn by `bsq train`.
    """

    def __init__(self, tokenizer: Tokenizer, bits: int | None = None) -> None:
        """Keep the first `bits` digits of each code (default: all).

        Raises SettingsError for a continuous latent (no codes), or `bits` out of range.
        """
        super().__init__()
        if not tokenizer.radices:
            raise SettingsError("a kl tokenizer has a continuous latent and makes no codes to wrap")
        self.tokenizer = tokenizer
        self.bits = len(tokenizer.radices) if bits is None else tokenizer.check_bits(bits)
        self.config = describe(tokenizer, self.bits)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, bits: int | None = None) -> Self:
        """A bundled name, a folder or a hub id, as `bsq.load` takes it. Raises CheckpointError, SettingsError."""
        return cls(load(name_or_path), bits)

    @property
    def device(self) -> torch.device:
        return self.tokenizer.encoder.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What latents and samples come back in: the weights' own type."""
        return self.tokenizer.encoder.embed.weight.dtype

    @torch.no_grad()
    def encode(self, x: Tensor, return_dict: bool = True) -> EncoderOutput | tuple[Tensor]:
        """Pixels of any height and width → latents, bit for bit those of `Tokenizer.encode`.

        A size that is no multiple of a patch is padded by repeating the edge. With `return_dict=False`: (latents,).
        Raises as `Tokenizer.encode`.
        """
        digits = self.tokenizer.encode(x, self.bits).digits
        code = self.tokenizer.quantizer.lookup(digits)[..., : self.config.latent_channels]
        latents = channels_first(code, pictures=x.ndim == 4).to(self.dtype)
        return EncoderOutput(latents, CodeDistribution(latents)) if return_dict else (latents,)

    @torch.no_grad()
    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Latents → pixels of the whole grid, h·p × w·p, in [−1, 1].

        Args:
            z: float (B, C, h, w) or (B, C, T, h, w), C = `config.latent_channels`, not scaled; each token's vector goes
                to the nearest code.
            return_dict: False: (sample,).
            generator: taken because pipelines give it; decoding draws nothing.

        Raises:
            ShapeError: another rank or number of channels. NumericsError: NaN or infinity.
        """
        del generator
        digits = nearest_digits(self.tokenizer.quantizer, self._as_grid(z))
        pixels = self.tokenizer.decode(Codes(digits, self.tokenizer.radices[: digits.shape[-1]]))
        sample = (pixels if z.ndim == 5 else pixels[:, :, 0]).to(self.dtype)
        return DecoderOutput(sample) if return_dict else (sample,)

    def forward(self, sample: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """decode(encode(sample)), on the whole grid."""
        return self.decode(self.encode(sample)[0], return_dict=return_dict)

    def _as_grid(self, z: Tensor) -> Tensor:
        channels = self.config.latent_channels
        if not z.is_floating_point() or z.ndim not in (4, 5) or z.shape[1] != channels or 0 in z.shape:
            raise ShapeError(
                f"latents must be float (B, {channels}, h, w) or (B, {channels}, T, h, w), none of them empty; "
                f"got {z.dtype} {tuple(z.shape)}"
            )
        clip = z if z.ndim == 5 else z[:, :, None]
        grid = clip.permute(0, 2, 3, 4, 1).float().contiguous()
        require_finite(grid)
        return grid


def channels_first(code: Tensor, pictures: bool) -> Tensor:
    """(B, T, h, w, C) → (B, C, T, h, w); of pictures (B, C, h, w)."""
    latents = code.permute(0, 4, 1, 2, 3).contiguous()
    return latents[:, :, 0] if pictures else latents


def describe(tokenizer: Tokenizer, bits: int) -> AutoencoderConfig:
    """What pipelines and training scripts ask an autoencoder's `config` for.

    `scaling_factor` is one over the spread of a latent's numbers, all codes taken as equally frequent: √L for BSQ.
    `block_out_channels` is there for its length alone, of which pipelines make the spatial factor, 2^(length − 1); it
    is left out where the patch is no power of two. `spatial_compression_ratio` says it outright.
    """
    quantizer = tokenizer.quantizer
    config = AutoencoderConfig(
        in_channels=3,
        out_channels=3,
        latent_channels=bits if quantizer.can_nest else quantizer.code_width,
        scaling_factor=1 / spread(quantizer, bits),
        shift_factor=0.0,
        spatial_compression_ratio=tokenizer.patch,
        temporal_compression_ratio=1,
        force_upcast=False,
        bits=bits,
        code_hash=tokenizer.code_hash,
    )
    halvings = tokenizer.patch.bit_length() - 1
    if tokenizer.patch == 2**halvings:
        config["block_out_channels"] = (tokenizer.settings.encoder.width,) * (halvings + 1)
    return config


@torch.no_grad()
def spread(quantizer: Quantizer, bits: int) -> float:
    """Root mean square of the numbers of latents of `bits` digits, about their mean."""
    match quantizer:
        case BSQ():
            return quantizer.corner
        case LFQ():
            return 1.0
        case FSQ():
            digits = [torch.arange(radix) / (radix // 2) for radix in quantizer.radices[:bits]]
            return math.sqrt(sum(float(levels.var(correction=0)) for levels in digits) / bits)
        case VQ() | Gumbel():
            return float(all_codes(quantizer).std(correction=0))
        case _:
            raise AssertionError(quantizer)


def all_codes(quantizer: VQ | Gumbel) -> Tensor:
    """The codebook (K, C) as the decoder is given it."""
    return quantizer.lookup(torch.arange(quantizer.radices[0], device=quantizer.codebook.device)[:, None])


@torch.no_grad()
def nearest_digits(quantizer: Quantizer, latents: Tensor) -> Tensor:
    """Latents float32 (…, C) → the digits (…, k) of the codes nearest to them; of a code itself, its own digits."""
    match quantizer:
        case BSQ() | LFQ():
            return (latents > 0).to(torch.uint8)
        case FSQ():
            middle = quantizer.middle[: latents.shape[-1]]
            highest = quantizer.levels[: latents.shape[-1]] - 1
            digits = (latents * middle).round() + middle
            return digits.clamp(torch.zeros_like(highest), highest).to(digit_dtype(quantizer.radices))
        case VQ() | Gumbel():
            codes = all_codes(quantizer)
            flat = latents.reshape(-1, latents.shape[-1])
            nearest = [torch.cdist(part, codes).argmin(-1) for part in flat.split(ROWS)]
            return torch.cat(nearest).reshape(*latents.shape[:-1], 1).to(digit_dtype(quantizer.radices))
        case _:
            raise AssertionError(quantizer)
