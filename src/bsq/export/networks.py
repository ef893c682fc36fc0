"""Encoder and decoder as programs of plain operators. What enters: pictures, or digits. What leaves: the other.

Each is what `Tokenizer.encode` and `decode` compute of a picture, from the door to the codes: padding, transformer,
quantizer. What they check about pixels is left to the caller. Pictures go through whole, not in parts.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bsq.export.windows import gather_windows
from bsq.layers.patches import patchify, unpatchify
from bsq.layers.positions import Rotary, RotaryPositionsSettings, rotary_table
from bsq.quantizers import BSQ, FSQ, LFQ, VQ, Gumbel, Quantizer
from bsq.quantizers.base import digit_dtype
from bsq.tokenizer import Tokenizer
from bsq.vit.transformer import Transformer


class PictureEncoder(nn.Module):
    """Pixels float32 (B, 3, H, W) in [−1, 1] → digits (B, h, w, L), h = ⌈H/p⌉, w = ⌈W/p⌉."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.encoder, self.quantizer = tokenizer.encoder, tokenizer.quantizer

    def forward(self, pixels: Tensor) -> Tensor:
        patch, (height, width) = self.encoder.patch, pixels.shape[-2:]
        down, right = (height + patch - 1) // patch * patch - height, (width + patch - 1) // patch * patch - width
        padded = F.pad(pixels, (0, right, 0, down), mode="replicate")
        hidden = through(self.encoder.body, self.encoder.embed(patchify(padded[:, :, None], patch)))
        return read_digits(self.quantizer, self.encoder.to_latent(hidden))[:, 0]


class PictureDecoder(nn.Module):
    """Digits (B, h, w, k), all or the first k of a code → pixels float32 (B, 3, h·p, w·p) in [−1, 1]."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.decoder, self.quantizer = tokenizer.decoder, tokenizer.quantizer

    def forward(self, digits: Tensor) -> Tensor:
        code = self.quantizer.lookup(digits)[:, None]
        hidden = through(self.decoder.body, self.decoder.from_code(code))
        pixels = unpatchify(self.decoder.to_patches(hidden), self.decoder.patch)[:, :, 0]
        if self.decoder.refiner is not None:
            pixels = self.decoder.refiner.refine(pixels, hidden[:, 0])
        return pixels.clamp(-1, 1)


def through(body: Transformer, hidden: Tensor) -> Tensor:
    """Hidden (B, 1, h, w, D) of one frame → the same shape, as `Transformer.forward`."""
    settings = body.settings
    hidden = body.norm_in(body.positions(hidden))
    batch, _, rows, columns, width = hidden.shape
    for number, block in enumerate(body.blocks):
        windows = gather_windows(settings.attention, number, rows, columns, hidden.device)
        if windows is None:
            tokens = hidden.reshape(batch, 1, -1, width)
            hidden = block(tokens, rotary_of(body, rows, columns, hidden.device), None).reshape(hidden.shape)
        else:
            rotary = rotary_of(body, windows.rows.window, windows.columns.window, hidden.device)
            hidden = windows.join(block(windows.split(hidden), rotary, windows.regions.repeat(batch, 1)), batch)
    return cast(Tensor, body.norm_out(hidden))


def rotary_of(body: Transformer, rows: int, columns: int, device: torch.device) -> Rotary | None:
    """The angles of a window of one frame, if the model has rotary positions."""
    match body.settings.positions:
        case RotaryPositionsSettings() as positions:
            return rotary_table(positions, 1, rows, columns, body.settings.head_width, device)
        case _:
            return None


def read_digits(quantizer: Quantizer, latent: Tensor) -> Tensor:
    """As `Quantizer.digits`, without its look at the numbers, which a program cannot take back."""
    match quantizer:
        case BSQ():
            return (latent / torch.linalg.vector_norm(latent, dim=-1, keepdim=True) > 0).to(torch.uint8)
        case LFQ():
            return (latent > 0).to(torch.uint8)
        case FSQ():
            return (quantizer.bound(latent).round() + quantizer.middle).to(digit_dtype(quantizer.radices))
        case VQ():
            flat = quantizer.normalise(latent).reshape(-1, quantizer.latent_width)
            codebook = quantizer.normalise(quantizer.codebook)
            index = torch.addmm(codebook.square().sum(-1), flat, codebook.T, alpha=-2).argmin(-1)
            return index.reshape(*latent.shape[:-1], 1).to(digit_dtype(quantizer.radices))
        case Gumbel():
            return latent.argmax(-1, keepdim=True).to(digit_dtype(quantizer.radices))
        case _:
            raise AssertionError(quantizer)
