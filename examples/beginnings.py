"""Patches that begin as a basis. What enters: a new tokenizer. What leaves: it, with the basis in its first and last
product.

The first product gives the coefficients of a patch, as many of the basis' first elements as the model is wide; the last
one puts the same elements together again. Both have the size that random weights have.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bsq import Tokenizer
from bsq.layers.patches import patchify

COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))  # brightness, then two differences
COLOUR_IS_LATER = 3.0  # how many times its frequency a difference of colour counts as


@torch.no_grad()
def begin_with(tokenizer: Tokenizer, basis: Tensor) -> None:
    """Write a basis (3·p², 3·p²) over the first and the last product of a tokenizer that has not learned yet."""
    first, last = tokenizer.encoder.embed.weight, tokenizer.decoder.to_patches[-1].weight
    for rows in (first, last.t()):
        few = basis[: len(rows)]
        rows[: len(few)] = few * (rows[: len(few)].norm() / few.norm())


def cosines(patch: int) -> Tensor:
    """An orthonormal basis (3·p², 3·p²) of patches in channel, row, column order, one element in each row: the DCT,
    brightness before colour and low frequencies first.
    """
    along = torch.arange(patch)
    waves = torch.cos(math.pi / patch * along[:, None] * (along + 0.5)) * math.sqrt(2 / patch)
    waves[0] /= math.sqrt(2)
    colours = torch.nn.functional.normalize(torch.tensor(COLOURS), dim=1)
    basis = torch.einsum("kc,ux,vy->kuvcxy", colours, waves, waves).reshape(3 * patch**2, -1)
    later = torch.tensor([1.0, COLOUR_IS_LATER, COLOUR_IS_LATER])[:, None, None]
    frequency = (torch.hypot(along[:, None].float(), along.float()) + 0.5) * later
    return basis[frequency.flatten().argsort(stable=True)]


def components(crops: Tensor, patch: int) -> Tensor:
    """The principal components (3·p², 3·p²) of the patches of crops (N, 3, T, H, W), those of most variance first."""
    patches = patchify(crops, patch).reshape(-1, 3 * patch**2)
    _, vectors = torch.linalg.eigh(torch.cov(patches.double().t()))
    return vectors.t().flip(0).float()
