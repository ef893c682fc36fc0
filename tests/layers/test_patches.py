import torch

from bsq.layers.patches import patchify, unpatchify


def test_patches_hold_channel_row_column_in_this_order():
    pixels = torch.arange(2 * 3 * 2 * 4 * 6.0).view(2, 3, 2, 4, 6)
    patches = patchify(pixels, 2)
    assert patches.shape == (2, 2, 2, 3, 12)
    assert torch.equal(patches[1, 0, 1, 2], pixels[1, :, 0, 2:4, 4:6].reshape(-1))


def test_unpatchify_mirrors_patchify():
    pixels = torch.rand(2, 3, 3, 16, 24)
    assert torch.equal(unpatchify(patchify(pixels, 8), 8), pixels)
