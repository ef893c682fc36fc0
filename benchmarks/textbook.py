"""The ViT-VQ tokenizer as a textbook writes it, with our weights: what our speed is measured against.

nn.MultiheadAttention (tokens first, its default), nn.LayerNorm, nn.Linear, nn.GELU; learned positions, one size, BSQ.
What enters: one of our tokenizers of that shape. What leaves: a model of equal weights and outputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bsq.layers.positions import LearnedPositionsSettings
from bsq.layers.windows import FullAttentionSettings
from bsq.quantizers import BSQ, BsqSettings
from bsq.quantizers.base import Quantized
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.transformer import TransformerSettings

# Where a part of ours stands in the textbook's model.
RENAMED = [
    ("encoder.embed.", "encoder.first."),
    ("encoder.to_latent.", "encoder.last."),
    ("decoder.from_code.", "decoder.first."),
    ("decoder.to_patches.", "decoder.last."),
    (".body.", "."),
    (".positions.places", ".positions"),
    (".attention.qkv.", ".attention.in_proj_"),
    (".attention.out.", ".attention.out_proj."),
    (".mlp.up.", ".mlp.0."),
    (".mlp.down.", ".mlp.2."),
]


def vit_b(side: int, bits: int = 36) -> TokenizerSettings:
    """ViT-B of arXiv:2406.07548 for squares of `side` pixels: 174 M parameters at 256."""
    positions = LearnedPositionsSettings(rows=side // 8, columns=side // 8)
    part = TransformerSettings(positions=positions, attention=FullAttentionSettings())
    return TokenizerSettings(patch=8, quantizer=BsqSettings(bits=bits), encoder=part, decoder=part)


class TextbookBlock(nn.Module):
    """x + Attention(LN x), then x + MLP(LN x). Tokens (N, B, D)."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.attention_norm(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return tokens + self.mlp(self.mlp_norm(tokens))


class TextbookTransformer(nn.Module):
    """A layer in front, positions, LayerNorm, blocks, LayerNorm, a layer behind. Tokens (B, N, …)."""

    def __init__(self, first: nn.Module, settings: TransformerSettings, places: int, last: nn.Module) -> None:
        super().__init__()
        width = settings.width
        self.first, self.last = first, last
        self.positions = nn.Parameter(torch.zeros(places, width))
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.Sequential(
            *(
                TextbookBlock(width, width // settings.head_width, settings.mlp_ratio * width)
                for _ in range(settings.depth)
            )
        )

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.norm_in(self.first(tokens) + self.positions).transpose(0, 1)
        return self.last(self.norm_out(self.blocks(hidden).transpose(0, 1)))


class Textbook(nn.Module):
    """Pixels (B, 3, H, W) → latent → corners of the sphere → pixels."""

    def __init__(self, settings: TokenizerSettings) -> None:
        super().__init__()
        assert isinstance(settings.encoder.positions, LearnedPositionsSettings)
        assert isinstance(settings.decoder.positions, LearnedPositionsSettings)
        assert isinstance(settings.quantizer, BsqSettings)
        self.patch, bits = settings.patch, settings.quantizer.bits
        self.rows, self.columns = settings.encoder.positions.rows, settings.encoder.positions.columns
        values, places = 3 * self.patch**2, self.rows * self.columns
        width, wide = settings.encoder.width, settings.decoder.width
        self.encoder = TextbookTransformer(
            nn.Linear(values, width, bias=False), settings.encoder, places, nn.Linear(width, bits)
        )
        self.decoder = TextbookTransformer(
            nn.Linear(bits, wide),
            settings.decoder,
            places,
            nn.Sequential(nn.Linear(wide, 4 * wide), nn.Tanh(), nn.Linear(4 * wide, values)),
        )
        self.quantizer = BSQ(settings.quantizer)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) → digits (B, N, L)."""
        return self.quantizer.digits(self._latent(pixels))

    def decode(self, digits: Tensor) -> Tensor:
        """Digits (B, N, L) → pixels (B, 3, H, W) in [−1, 1]."""
        return self._paint(self.quantizer.lookup(digits).to(self.decoder.first.weight.dtype)).float().clamp(-1, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Quantized]:
        """Training: pixels not clamped, and what the quantizer made of the latent."""
        quantized = self.quantizer(self._latent(pixels))
        return self._paint(quantized.quantized), quantized

    def _latent(self, pixels: Tensor) -> Tensor:
        return self.encoder(F.unfold(pixels, self.patch, stride=self.patch).transpose(1, 2))

    def _paint(self, code: Tensor) -> Tensor:
        patches, size = self.decoder(code), (self.rows * self.patch, self.columns * self.patch)
        return F.fold(patches.transpose(1, 2), size, self.patch, stride=self.patch)


def textbook_of(tokenizer: Tokenizer) -> Textbook:
    """The textbook's model with copies of a tokenizer's weights."""
    model = Textbook(tokenizer.settings)
    weights: dict[str, Any] = {}
    for name, tensor in tokenizer.state_dict().items():
        for ours, theirs in RENAMED:
            name = name.replace(ours, theirs)
        weights[name] = tensor
    model.load_state_dict(weights)
    return model.train(tokenizer.training)
