"""Pixels ↔ Codes: the waist of the house. What enters: pixels in [−1, 1]. What leaves: `Codes`, and pixels again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from operator import index as whole_number
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from bsq.card import ModelFacts
from bsq.codes import Codes
from bsq.errors import CodesError, SettingsError, ShapeError
from bsq.folders import check_claim, check_fit, download, read_settings, read_tensors
from bsq.hub import HubModel
from bsq.layers.products import Linear
from bsq.pixels import as_clip, check_range, check_size, pad_to
from bsq.quantizers import KL, GumbelSettings, KlSettings, QuantizerSettings, VqSettings, build_quantizer
from bsq.quantizers.base import Quantized
from bsq.settings import Settings
from bsq.streaming import StreamDecoder, StreamEncoder
from bsq.vit.decoder import Decoder, DecoderSettings
from bsq.vit.encoder import Encoder
from bsq.vit.grids import GridPast, decode_grid, encode_grid, tiling_of
from bsq.vit.transformer import TransformerSettings


class TokenizerSettings(Settings):
    """Everything that fixes a tokenizer's shape: side of a patch in pixels, quantizer, encoder and decoder."""

    patch: int = Field(default=8, ge=1)
    quantizer: QuantizerSettings
    encoder: TransformerSettings = TransformerSettings()
    decoder: DecoderSettings = DecoderSettings()

    def least_weights(self) -> int:
        """How many numbers the weights are at least, without building anything."""
        match self.quantizer:
            case VqSettings(size=size, width=latent) | GumbelSettings(size=size, width=latent):
                codebook = size * latent
            case KlSettings(width=latent):
                codebook = 0
            case _:
                codebook = latent = 0
        sides = (self.encoder, self.decoder)
        return codebook + sum(side.least_weights() + side.width * (3 * self.patch**2 + latent) for side in sides)


@dataclass(frozen=True)
class Reconstruction:
    """What a training step sees: pixels (B, 3, T, H, W), not clamped, and what the quantizer made of the latent."""

    pixels: Tensor
    quantized: Quantized


class Tokenizer(
    nn.Module,
    HubModel,
    coders={TokenizerSettings: (lambda s: s.model_dump(mode="json"), lambda d: TokenizerSettings.model_validate(d))},
):
    """A visual tokenizer.

    >>> tokenizer = bsq.load("biscuit-s")
    >>> codes = tokenizer.encode(pixels)             # pixels (B, 3, H, W) or (B, 3, T, H, W) in [−1, 1]
    >>> again = tokenizer.decode(codes, size=(H, W)) # (B, 3, T, H, W)
    """

    def __init__(self, settings: TokenizerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.quantizer = build_quantizer(settings.quantizer)
        self.encoder = Encoder(settings.encoder, settings.patch, self.quantizer.latent_width)
        self.decoder = Decoder(settings.decoder, settings.patch, self.quantizer.code_width)
        # Hashing a large model takes a second: kept for as long as no weight is written to.
        self._hashed: tuple[tuple[tuple[int, int], ...], str] | None = None

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return self.settings.patch

    @property
    def radices(self) -> tuple[int, ...]:
        """Radices of a whole code; empty for a continuous latent."""
        return self.quantizer.radices

    @property
    def code_hash(self) -> str:
        """SHA-256 (hex) of all that gives codes their meaning: patch, quantizer and encoder, settings and weights.

        The decoder is left out: several decoders may serve the same codes.
        """
        weights = {n: t for n, t in self.state_dict().items() if n.startswith(("encoder.", "quantizer."))}
        if any(tensor.is_inference() for tensor in weights.values()):  # these do not count writes
            return _hash_weights(self.settings, weights)
        state = tuple((tensor.data_ptr(), tensor._version) for tensor in weights.values())
        if self._hashed is None or self._hashed[0] != state:
            self._hashed = state, _hash_weights(self.settings, weights)
        return self._hashed[1]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens of a picture of that many pixels.

        The picture is padded to whole patches and, where encoder or decoder has learned positions, to at least a tile.
        """
        rows, columns = -(-height // self.patch), -(-width // self.patch)
        for tiling in filter(None, map(tiling_of, (self.settings.encoder, self.settings.decoder))):
            rows, columns = max(rows, tiling.rows), max(columns, tiling.columns)
        return rows, columns

    def prepare(self) -> Self:
        """Before much work on a CPU: lay weights out for its products, which is sooner by a twentieth and gives the
        same bits. Takes the weights' memory again; a weight that is written to later is used as it is.
        """
        for part in self.modules():
            if isinstance(part, Linear):
                part.lay_out()
        return self

    def forward(self, pixels: Tensor, kept: Tensor | None = None) -> Reconstruction:
        """Training: pixels (B, 3, T, H, W) of whole patches; `kept` (B,) int64, how many digits of each sample to
        keep.
        """
        quantized = self.quantizer(self.encoder(pixels), kept)
        return Reconstruction(self.decoder(quantized.quantized), quantized)

    @torch.no_grad()
    def encode(self, pixels: Tensor, bits: int | None = None) -> Codes:
        """Pixels → codes.

        Args:
            pixels: float (B, 3, H, W) or (B, 3, T, H, W) in [−1, 1], up to 0.01 beyond, any height and width.
            bits: keep only the first `bits` digits of each code (default: all).

        Returns:
            Codes on the grid (B, T, *self.grid(H, W)).

        Raises:
            ShapeError: wrong rank, channels, dtype or an empty axis. RangeError: pixels outside the range.
            SettingsError: `bits` out of range, or a continuous latent. NumericsError: pixels or latents that are not
            numbers.
        """
        self._check_discrete()
        return self._encode_frames(pixels, None, None if bits is None else self.check_bits(bits))

    @torch.no_grad()
    def latent(self, pixels: Tensor) -> Tensor:
        """What the quantizer is given for pixels as `encode` takes them: float (B, T, h, w, latent_width)."""
        return self._encode(pixels, lambda latent: latent)

    @torch.no_grad()
    def decode(self, codes: Codes, size: tuple[int, int] | None = None, kept: Tensor | None = None) -> Tensor:
        """Codes → pixels float32 (B, 3, T, H, W) in [−1, 1]. Mirror of `encode`.

        Args:
            codes: all digits or the first k of them.
            size: (H, W) to crop to; default: the whole grid, h·p × w·p.
            kept: integer (B, T, h, w) in 0 … k, where some codes are known less far: of each code only so many first
                digits count, the rest contribute zero.

        Raises:
            CodesError: no Codes, or radices that are not a prefix of this tokenizer's. ShapeError: no tokens at all,
            fewer than a tile, or a `size` that is no pair of whole numbers or larger than the grid.
        """
        return self._decode_frames(codes, None, size, kept)

    @torch.no_grad()
    def reconstruct(self, pixels: Tensor, bits: int | None = None) -> Tensor:
        """decode(encode(pixels)), in the rank and size of `pixels`; for a continuous latent, through its mean."""
        match self.quantizer:
            case KL(mean=mean):
                if bits is not None:
                    raise SettingsError("a continuous latent has no bits to choose from")
                again = self._decode(self._encode(pixels, mean), lambda latent: latent)
            case _:
                again = self.decode(self.encode(pixels, bits))
        again = again[..., : pixels.shape[-2], : pixels.shape[-1]]
        return again if pixels.ndim == 5 else again[:, :, 0]

    def stream_encoder(self, bits: int | None = None) -> StreamEncoder:
        """Frames → codes as they come: the bits of `encode`, in memory bounded by the encoder's `window_frames`.

        Raises SettingsError as `encode` does, and for an encoder whose tokens see later frames.
        """
        self._check_discrete()
        _check_causal(self.settings.encoder, "encoder")
        kept = None if bits is None else self.check_bits(bits)
        return StreamEncoder(lambda pixels, past: self._encode_frames(pixels, past, kept))

    def stream_decoder(self, size: tuple[int, int] | None = None) -> StreamDecoder:
        """Codes → pixels as they come. Mirror of `stream_encoder`; `size` as `decode` takes it."""
        self._check_discrete()
        _check_causal(self.settings.decoder, "decoder")
        return StreamDecoder(lambda codes, past: self._decode_frames(codes, past, size))

    @torch.no_grad()
    def _encode_frames(self, pixels: Tensor, past: GridPast | None, kept: int | None) -> Codes:
        codes = Codes(self._encode(pixels, self.quantizer.digits, past), self.radices)
        return codes if kept is None else codes.first(kept)

    @torch.no_grad()
    def _decode_frames(
        self, codes: Codes, past: GridPast | None, size: tuple[int, int] | None, kept: Tensor | None = None
    ) -> Tensor:
        self._check_discrete()
        if not isinstance(codes, Codes):
            raise CodesError(f"decode takes Codes, as encode makes them, got {type(codes).__name__}")
        if codes.radices != self.radices[: codes.length]:
            raise CodesError(f"these codes have radices {_brief(codes.radices)}, the tokenizer {_brief(self.radices)}")
        if 0 in codes.shape:
            raise ShapeError(f"there is nothing to decode in codes (B, T, h, w, L) of {codes.shape}")
        smallest = self.grid(1, 1)
        if codes.shape[2] < smallest[0] or codes.shape[3] < smallest[1]:
            raise ShapeError(
                f"codes of {codes.shape[2]}×{codes.shape[3]} tokens are smaller than this model's tile {smallest}"
            )
        grid = codes.shape[2] * self.patch, codes.shape[3] * self.patch
        height, width = grid if size is None else check_size(size, grid)
        digits = codes.digits.to(self._device)
        if kept is None:
            return self._decode(digits, self.quantizer.lookup, past)[..., :height, :width]
        if kept.shape != codes.shape[:-1] or kept.is_floating_point():
            raise ShapeError(f"kept must be integers {codes.shape[:-1]}, got {kept.dtype} {tuple(kept.shape)}")
        counted = torch.cat([digits.int(), kept[..., None].to(digits.device, torch.int32)], -1)
        return self._decode(counted, self._lookup_counted, past)[..., :height, :width]

    def _lookup_counted(self, counted: Tensor) -> Tensor:
        """Digits (…, k), behind them how many of them count → the decoder's input (…, code_width)."""
        digits, kept = counted[..., :-1], counted[..., -1:]
        code = torch.zeros(*kept.shape[:-1], self.quantizer.code_width, device=kept.device)
        for count in filter(None, kept.unique().tolist()):
            code = torch.where(kept == count, self.quantizer.lookup(digits[..., :count]), code)
        return code

    def _encode(self, pixels: Tensor, read: Callable[[Tensor], Tensor], past: GridPast | None = None) -> Tensor:
        """What `read` makes of the latent (B, T, h, w, C) of checked and padded pixels: (B, T, h, w, L)."""
        clip = as_clip(pixels).to(self._device)
        check_range(clip)
        rows, columns = self.grid(*clip.shape[-2:])
        return encode_grid(self.encoder, pad_to(clip, rows * self.patch, columns * self.patch), read, past)

    def _decode(self, codes: Tensor, show: Callable[[Tensor], Tensor], past: GridPast | None = None) -> Tensor:
        """Pixels float32 in [−1, 1] of the grid (B, T, h, w, L) that `show` turns into the decoder's input."""
        return decode_grid(self.decoder, codes, show, past).float().clamp_(-1, 1)

    @property
    def _device(self) -> torch.device:
        return self.encoder.embed.weight.device

    def _check_discrete(self) -> None:
        if not self.radices:
            raise SettingsError(
                f"a {self.settings.quantizer.kind} tokenizer has a continuous latent and makes no codes"
            )

    def check_bits(self, bits: int) -> int:
        """`bits` as a number of digits that this tokenizer can keep. Raises SettingsError."""
        try:
            kept = whole_number(bits)
        except TypeError:
            kept = 0
        if not 1 <= kept <= len(self.radices):
            raise SettingsError(f"bits must be 1 to {len(self.radices)} for this tokenizer, got {bits!r}")
        return kept

    def facts(self, name: str) -> ModelFacts:
        """What a card says of this model under that name."""
        sides = (self.settings.encoder, self.settings.decoder)
        return ModelFacts(
            name=name,
            kind=self.settings.quantizer.kind,
            patch=self.patch,
            radices=self.radices,
            video=any(side.window_frames != 1 for side in sides),
            parameters=sum(parameter.numel() for parameter in self.parameters()),
            bodies=" and ".join(f"{side.depth} blocks of width {side.width}" for side in sides),
            code_hash=self.code_hash,
        )

    @classmethod
    def _from_pretrained(cls, *, model_id: str | Path, **options: Any) -> Self:
        """The hub's door: strict, and in evaluation mode. `options` are the hub's own (revision, token, cache …)."""
        folder = Path(model_id) if Path(model_id).is_dir() else download(str(model_id), options)
        tokenizer = cls.of_weights(read_settings(folder, TokenizerSettings), read_tensors(folder), folder)
        tokenizer.origin = folder
        return tokenizer

    @classmethod
    def of_weights(cls, settings: TokenizerSettings, tensors: dict[str, Tensor], source: Path) -> Self:
        """A tokenizer of these settings and weights, both read from `source`, in evaluation mode.

        Raises CheckpointError: they do not fit. Nothing is built where the settings claim more than there is.
        """
        check_claim(settings.least_weights(), tensors, str(source))
        tokenizer = cls(settings)
        check_fit(tokenizer, tensors, str(source))
        tokenizer.load_state_dict(tensors)
        return tokenizer.eval()


def _hash_weights(settings: TokenizerSettings, weights: dict[str, Tensor]) -> str:
    meaning = {
        "patch": settings.patch,
        "quantizer": settings.quantizer.meaning(),
        "encoder": settings.encoder.meaning(),
    }
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        # + 0: equal numbers hash alike; −0 becomes 0, which an average of it does, too.
        digest.update((tensor.detach().float() + 0).cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_causal(settings: TransformerSettings, part: str) -> None:
    if settings.time != "causal":
        raise SettingsError(
            f"this model's {part} lets a frame see later ones (time={settings.time}): give it whole clips"
        )


def _brief(radices: tuple[int, ...]) -> str:
    return f"{radices[0]}^{len(radices)}" if len(set(radices)) == 1 else str(radices)
