"""Binary digits, layers and the frequencies of digits from those of their binary digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bsq.codes import Codes, digit_bits
from bsq.errors import SettingsError
from bsq.prior.layout import code_bits, make_layout, split_frequencies


def test_layers_cover_all_digits_in_order() -> None:
    layout = make_layout((2, 5, 8, 2, 3), 2, (6, 3))
    assert [list(layer.digits) for layer in layout.layers] == [[0, 1], [2, 3], [4]]
    assert [list(layer.bits) for layer in layout.layers] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [layer.passes for layer in layout.layers] == [6, 3, 3]
    assert layout.bits == 10
    assert list(layout.digit_span(2)) == [4, 5, 6]


def test_first_digits_are_the_first_layers() -> None:
    whole = make_layout((2,) * 36, 9, (6, 4))
    cut = whole.first((2,) * 20)
    assert cut.layers[:2] == whole.layers[:2]
    assert list(cut.layers[2].bits) == [18, 19]
    with pytest.raises(SettingsError, match="36 digits of radix 2"):
        whole.first((2, 3))
    with pytest.raises(SettingsError):
        whole.first(())


def test_bits_are_those_codes_pack() -> None:
    radices = (2, 5, 300, 2)
    digits = np.stack([np.random.default_rng(0).integers(r, size=24) for r in radices], axis=1)
    packed = Codes(torch.from_numpy(digits).reshape(1, 1, 4, 6, 4), radices).pack()
    assert np.packbits(code_bits(digits, radices)).tobytes() == packed


@pytest.mark.parametrize("radix", [2, 3, 4, 5, 8, 13, 1000])
def test_frequencies_split_exactly(radix: int) -> None:
    nodes = np.random.default_rng(radix).integers(1, 65536, size=(50, 2 ** digit_bits(radix) - 1))
    nodes[0], nodes[1] = 1, 65535
    frequencies = split_frequencies(nodes, radix)
    assert frequencies.shape == (50, radix)
    assert frequencies.min() >= 1
    assert (frequencies.sum(1) == 65536).all()


def test_frequencies_follow_the_tree() -> None:
    nodes = np.array([[16384, 32768, 8192]])
    assert np.allclose(split_frequencies(nodes, 4)[0] / 65536, [0.375, 0.375, 0.21875, 0.03125], atol=1e-4)
