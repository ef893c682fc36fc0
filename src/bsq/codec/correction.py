"""A second look. What enters: a clip and its latent. What leaves: a latent whose codes show more of the clip.

The encoder does not see what its codes will show. Here it is shown the clip again, with a share of what was missing
added to it, a few times over: analysis by synthesis, without gradients. Fine detail is left out of what is added: what
a token cannot hold in its place would only disturb the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from bsq.codes import Codes
from bsq.tokenizer import Tokenizer

ReadCodes = Callable[[Tensor], Codes]
"""Latents (1, T, h, w, L) → the codes that stand for them."""
Show = Callable[[Codes], Tensor]
"""Codes → pixels (1, 3, T, H, W)."""

SHARE = 0.6
"""Of what is missing, added after the first decoding; with every further one less, down to half of it."""
TRUST = 0.5
"""Weight of the encoder's first latent in the codes: it knows what the prior expects."""


@torch.no_grad()
def corrected(
    model: Tokenizer,
    clip: Tensor,
    first: Tensor,
    read: ReadCodes,
    show: Show,
    passes: int,
    tell: Callable[[float], None],
) -> Tensor:
    """The latent (1, T, h, w, L) of a clip (1, 3, T, H, W) in [−1, 1], like its `first`, after so many corrections of
    what is shown of the codes that `read` makes of latents; `tell` is told what share of them is done.
    """
    size, latent, missing = (clip.shape[-2], clip.shape[-1]), first, torch.zeros(())
    for number in range(passes):
        share = SHARE * (1 - number / (2 * passes))
        shown = show(read(mixed(first, latent)))
        missing = missing + share * coarse(clip - shown, model.patch)
        latent = model.latent((clip + fine(missing, model.patch, size)).clamp_(-1, 1)).float()
        tell((number + 1) / passes)
    return latent


def mixed(first: Tensor, latent: Tensor, trust: float = TRUST) -> Tensor:
    """Two latents (…, L) in one, each of length 1 before; where they say the opposite equally, the first is right."""
    first, latent = F.normalize(first, dim=-1), F.normalize(latent, dim=-1)
    both = trust * first + (1 - trust) * latent
    return torch.where(both == 0, first, both)


def coarse(pixels: Tensor, patch: int) -> Tensor:
    """Means (T, 3, ⌈H / s⌉, ⌈W / s⌉) of squares of s = half a patch, of pixels (1, 3, T, H, W)."""
    return F.avg_pool2d(pixels[0].transpose(0, 1), half(patch), ceil_mode=True, count_include_pad=False)


def fine(means: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """Mirror of `coarse`: pixels (1, 3, T, H, W) between whose squares' centres colours change evenly."""
    grown = F.interpolate(means, scale_factor=half(patch), mode="bilinear", align_corners=False)
    return grown[..., : size[0], : size[1]].transpose(0, 1)[None]


def half(patch: int) -> int:
    return max(1, patch // 2)
