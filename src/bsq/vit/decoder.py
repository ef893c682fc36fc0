"""Code → pixels. What enters: quantized (B, T, h, w, C). What leaves: pixels (B, 3, T, h·p, w·p), not clamped."""

from torch import Tensor, nn

from bsq.layers.patches import unpatchify
from bsq.vit.transformer import Transformer, TransformerSettings, initialise, map_in_portions


class Decoder(nn.Module):
    """Linear from the code, transformer, Linear D→4D, Tanh, Linear 4D→3p², unpatchify."""

    def __init__(self, settings: TransformerSettings, patch: int, code_width: int) -> None:
        super().__init__()
        self.patch = patch
        self.from_code = nn.Linear(code_width, settings.width)
        self.body = Transformer(settings)
        self.to_patches = nn.Sequential(
            nn.Linear(settings.width, 4 * settings.width), nn.Tanh(), nn.Linear(4 * settings.width, 3 * patch * patch)
        )
        initialise(self)

    def forward(self, quantized: Tensor) -> Tensor:
        hidden = self.body(self.from_code(quantized.to(self.from_code.weight.dtype)))
        return unpatchify(map_in_portions(self.to_patches, hidden), self.patch)
