"""Pixels → latent. What enters: pixels (B, 3, T, H, W), H and W multiples of the patch. What leaves: latent (B, T, h,
w, C).
"""

from torch import Tensor, nn

from bsq.layers.patches import patchify
from bsq.layers.products import Linear
from bsq.vit.transformer import BodyPast, Transformer, TransformerSettings, initialise, on_frames


class Encoder(nn.Module):
    """Patchify, Linear without bias, transformer, Linear to the quantizer's channels."""

    def __init__(self, settings: TransformerSettings, patch: int, latent_width: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = Linear(3 * patch * patch, settings.width, bias=False)
        self.body = Transformer(settings)
        self.to_latent = Linear(settings.width, latent_width)
        initialise(self)

    def forward(self, pixels: Tensor, past: BodyPast | None = None) -> Tensor:
        """With a `past`: the frames that follow it."""
        hidden = on_frames(self.embed, patchify(pixels, self.patch).to(self.embed.weight.dtype))
        return on_frames(self.to_latent, self.body(hidden, past))
