"""Convolutions behind the decoder: strips, frames, parts, and how far they see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

import bsq.parts as parts
import bsq.vit.refiner as refiner
from bsq.errors import SettingsError
from bsq.layers.windows import FullAttentionSettings, WindowAttentionSettings
from bsq.parts import Reach, cut_parts
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.decoder import Decoder, DecoderSettings
from bsq.vit.refiner import Refiner, RefinerSettings
from bsq.vit.transformer import TransformerSettings

PATCH = 4


def build(depth: int = 1) -> Refiner:
    """One that has learned something."""
    torch.manual_seed(0)
    made = Refiner(RefinerSettings(width=8, depth=depth), 16, PATCH).eval()
    torch.nn.init.normal_(made.last.weight, std=0.2)
    return made


def clip(rows: int, columns: int, frames: int = 1) -> tuple[Tensor, Tensor]:
    """Pixels and hidden tokens."""
    torch.manual_seed(1)
    return torch.randn(2, 3, frames, PATCH * rows, PATCH * columns), torch.randn(2, frames, rows, columns, 16)


def tokenizer_of(**decoder: Any) -> Tokenizer:
    torch.manual_seed(0)
    body = {"width": 32, "depth": 2, "head_width": 16, "attention": {"kind": "windows", "size": 4}}
    told = {"patch": 4, "quantizer": {"kind": "bsq", "bits": 12}, "encoder": body, "decoder": body | decoder}
    tokenizer = Tokenizer(TokenizerSettings.model_validate(told)).eval()
    for name, parameter in tokenizer.named_parameters():
        torch.nn.init.normal_(parameter, std=0.1 if "refiner" in name else 0.2)
    return tokenizer


def test_pixels_leave_as_they_came_until_something_is_learned() -> None:
    fresh = Refiner(RefinerSettings(width=8), 16, 4)
    pixels, hidden = clip(5, 3)
    assert fresh(pixels, hidden).equal(pixels)
    fresh(pixels, hidden).square().mean().backward()
    assert (fresh.last.weight.grad != 0).any()


@given(rows=st.integers(1, 12), columns=st.integers(1, 6), tokens=st.integers(1, 40), depth=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_strips_are_the_whole_bit_for_bit(rows: int, columns: int, tokens: int, depth: int) -> None:
    made, (pixels, hidden) = build(depth), clip(rows, columns)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        whole = made.refine(pixels[:, :, 0], hidden[:, 0])
        patch.setattr(refiner, "portion", lambda device: tokens)
        assert made(pixels, hidden)[:, :, 0].equal(whole)


def test_a_frame_does_not_see_the_others() -> None:
    made, (pixels, hidden) = build(), clip(4, 4, frames=3)
    with torch.no_grad():
        apart = [made(pixels[:, :, t : t + 1], hidden[:, t : t + 1]) for t in range(3)]
        assert made(pixels, hidden).equal(torch.cat(apart, dim=2))
    torch.testing.assert_close(made(pixels, hidden), torch.cat(apart, dim=2))  # with gradients, all at once


@pytest.mark.parametrize("depth", [1, 3])
def test_how_far_a_pixel_sees(depth: int) -> None:
    made, (pixels, hidden) = build(depth), clip(12, 12)
    reach = made.halo * made.patch
    assert 2 * (depth + 2) <= reach < 2 * (depth + 2) + made.patch
    changed = pixels.clone()
    changed[:, :, :, 24, 24] += 1
    with torch.no_grad():
        moved = (made(changed, hidden) - made(pixels, hidden)).abs().amax((0, 1, 2)) > 1e-7
    rows = moved.any(1).nonzero().flatten() - 24
    assert -reach <= rows.min() < -made.patch < made.patch < rows.max() <= reach


def test_odd_patches_are_refused() -> None:
    with pytest.raises(SettingsError, match="even side, got 5"):
        Refiner(RefinerSettings(), 16, 5)
    with pytest.raises(ValidationError, match="greater than 0"):
        RefinerSettings(depth=0)


def test_a_transformer_is_a_decoder_without_one() -> None:
    plain = TransformerSettings(width=32, depth=2, head_width=16)
    told = TokenizerSettings.model_validate({"quantizer": {"kind": "bsq", "bits": 8}, "decoder": plain})
    assert told.decoder == DecoderSettings(**plain.model_dump())
    assert Tokenizer(told).decoder.refiner is None


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("refiner_depth", [1, 2, 7])
def test_a_picture_in_parts_is_the_picture_at_once(
    monkeypatch: pytest.MonkeyPatch, depth: int, refiner_depth: int
) -> None:
    tokenizer = tokenizer_of(depth=depth, refiner={"width": 8, "depth": refiner_depth})
    codes = tokenizer.encode(torch.rand(1, 3, 148, 200) * 2 - 1)
    whole = tokenizer.decode(codes)
    monkeypatch.setattr(parts, "TOKENS", 100)
    assert len(list(cut_parts(37, 50, tokenizer.decoder.reach(37, 50)))) > 1
    torch.testing.assert_close(tokenizer.decode(codes), whole, atol=1e-5, rtol=0)


def test_margins_grow_where_a_pixel_sees_beyond_half_a_window() -> None:
    def reach(refiner_depth: int | None, attention: Any) -> Reach:
        told = None if refiner_depth is None else RefinerSettings(width=8, depth=refiner_depth)
        decoder = DecoderSettings(width=32, depth=2, head_width=16, attention=attention, refiner=told)
        return Decoder(decoder, 4, 12).reach(100, 100)

    windows = WindowAttentionSettings(size=4)
    assert [reach(n, windows) for n in (None, 1, 2, 3)] == [Reach(4, 4), Reach(4, 4), Reach(4, 4), Reach(8, 4)]
    assert reach(1, FullAttentionSettings()).margin >= 100


def test_codes_and_their_hash_do_not_depend_on_it() -> None:
    plain, refined = tokenizer_of(), tokenizer_of(refiner={"width": 8})
    refined.encoder.load_state_dict(plain.encoder.state_dict())
    assert refined.code_hash == plain.code_hash
    codes = refined.encode(torch.rand(1, 3, 40, 24) * 2 - 1)
    assert not refined.decode(codes).equal(plain.decode(codes))
