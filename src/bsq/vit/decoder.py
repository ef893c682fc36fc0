"""Code → pixels. What enters: quantized (B, T, h, w, C). What leaves: pixels (B, 3, T, h·p, w·p), not clamped."""

from torch import Tensor, nn

from bsq.layers.patches import unpatchify
from bsq.layers.products import Linear
from bsq.vit.transformer import BodyPast, Transformer, TransformerSettings, initialise, map_in_portions, on_frames


class Decoder(nn.Module):
    """Linear from the code, transformer, Linear D→4D, Tanh, Linear 4D→3p², unpatchify."""

    def __init__(self, settings: TransformerSettings, patch: int, code_width: int) -> None:
        super().__init__()
        self.patch = patch
        self.from_code = Linear(code_width, settings.width)
        self.body = Transformer(settings)
        self.to_patches = nn.Sequential(
            Linear(settings.width, 4 * settings.width), nn.Tanh(), Linear(4 * settings.width, 3 * patch * patch)
        )
        initialise(self)

    def forward(self, quantized: Tensor, past: BodyPast | None = None) -> Tensor:
        """With a `past`: the frames that follow it."""
        hidden = self.body(on_frames(self.from_code, quantized.to(self.from_code.weight.dtype)), past)
        return unpatchify(on_frames(self._paint, hidden), self.patch)

    def _paint(self, hidden: Tensor) -> Tensor:
        return map_in_portions(self.to_patches, hidden)
