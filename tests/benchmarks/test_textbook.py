"""The model that speed is measured against does the same work: equal weights, outputs and gradients."""

import pytest
import torch

from benchmarks.textbook import RENAMED, textbook_of, vit_b
from bsq.layers.positions import LearnedPositionsSettings
from bsq.layers.windows import FullAttentionSettings
from bsq.quantizers import BsqSettings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.transformer import TransformerSettings


@pytest.fixture
def small() -> Tokenizer:
    torch.manual_seed(0)
    positions = LearnedPositionsSettings(rows=4, columns=6)
    part = TransformerSettings(width=64, depth=2, head_width=16, positions=positions, attention=FullAttentionSettings())
    return Tokenizer(TokenizerSettings(patch=4, quantizer=BsqSettings(bits=12), encoder=part, decoder=part)).eval()


def test_the_textbook_has_the_same_codes_and_pixels(small: Tokenizer) -> None:
    pixels = torch.rand(2, 3, 16, 24) * 2 - 1
    textbook, codes = textbook_of(small), small.encode(pixels)
    with torch.no_grad():
        digits = textbook.encode(pixels)
        again = textbook.decode(digits)
    assert torch.equal(digits, codes.digits.flatten(1, 3))
    torch.testing.assert_close(again, small.decode(codes)[:, :, 0], atol=1e-5, rtol=0)


def test_the_textbook_has_the_same_gradients(small: Tokenizer) -> None:
    pixels = torch.rand(2, 3, 16, 24) * 2 - 1
    textbook = textbook_of(small)
    (textbook(pixels)[0] - pixels).square().mean().backward()
    (small(pixels[:, :, None]).pixels[:, :, 0] - pixels).square().mean().backward()
    theirs = dict(textbook.named_parameters())
    for name, parameter in small.named_parameters():
        for ours, other in RENAMED:
            name = name.replace(ours, other)
        torch.testing.assert_close(theirs[name].grad, parameter.grad, atol=1e-6, rtol=1e-4)


def test_vit_b_is_the_papers() -> None:
    """PAPER: 174,843,876 parameters at 256 pixels and 36 bits."""
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in Tokenizer(vit_b(256)).parameters()) == 174_843_876
