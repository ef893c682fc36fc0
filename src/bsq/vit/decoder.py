"""Code → pixels. What enters: quantized (B, T, h, w, C). What leaves: pixels (B, 3, T, h·p, w·p), not clamped."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator
from torch import Tensor, nn

from bsq.layers.patches import unpatchify
from bsq.layers.products import Linear
from bsq.parts import Reach
from bsq.vit.refiner import Refiner, RefinerSettings
from bsq.vit.transformer import BodyPast, Transformer, TransformerSettings, initialise, map_in_portions, on_frames


class DecoderSettings(TransformerSettings):
    """A transformer, and what becomes of the patches that it paints."""

    refiner: RefinerSettings | None = None
    """Convolutions across the borders of patches, behind the transformer; None: none, as in the paper."""

    @model_validator(mode="before")
    @classmethod
    def _transformer_alone(cls, given: Any) -> Any:
        """A transformer's settings are those of a decoder without more."""
        return given.model_dump() if type(given) is TransformerSettings else given

    def least_weights(self) -> int:
        """With the refiner's."""
        return super().least_weights() + (0 if self.refiner is None else self.refiner.least_weights(self.width))


class Decoder(nn.Module):
    """Linear from the code, transformer, Linear D→4D, Tanh, Linear 4D→3p², unpatchify; a refiner, if there is one."""

    def __init__(self, settings: DecoderSettings, patch: int, code_width: int) -> None:
        """Raises SettingsError: a refiner, and an odd patch."""
        super().__init__()
        self.patch = patch
        self.from_code = Linear(code_width, settings.width)
        self.body = Transformer(settings)
        self.to_patches = nn.Sequential(
            Linear(settings.width, 4 * settings.width), nn.Tanh(), Linear(4 * settings.width, 3 * patch * patch)
        )
        self.refiner = None if settings.refiner is None else Refiner(settings.refiner, settings.width, patch)
        initialise(self)

    def forward(self, quantized: Tensor, past: BodyPast | None = None) -> Tensor:
        """With a `past`: the frames that follow it."""
        hidden = self.body(on_frames(self.from_code, quantized.to(self.from_code.weight.dtype)), past)
        pixels = unpatchify(on_frames(self._paint, hidden), self.patch)
        return pixels if self.refiner is None else self.refiner(pixels, hidden)

    def reach(self, rows: int, columns: int) -> Reach:
        """How far a token's pixels see other tokens of a rows × columns grid."""
        body = self.body.settings.reach(rows, columns)
        # Tokens up to half a window outside a border of windows see no farther than those inside of it do: the margin
        # is whole windows, by turns shifted by half of one.
        further = 0 if self.refiner is None else self.refiner.halo - body.step // 2
        return body if further <= 0 else Reach(body.margin + -(-further // body.step) * body.step, body.step)

    def _paint(self, hidden: Tensor) -> Tensor:
        return map_in_portions(self.to_patches, hidden)
