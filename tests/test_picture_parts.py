import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bsq.parts as parts
from bsq.layers.windows import FullAttentionSettings, WindowAttentionSettings
from bsq.parts import Reach, cut_parts
from bsq.quantizers import BsqSettings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.transformer import TransformerSettings


@given(
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    margin=st.integers(0, 5).map(lambda n: 4 * n),
    tokens=st.integers(1, 5000),
)
def test_parts_cover_the_grid_once_and_carry_their_margin(rows, columns, margin, tokens):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "TOKENS", tokens)
        covered = torch.zeros(rows, columns, dtype=torch.int32)
        for part in cut_parts(rows, columns, Reach(margin, 4)):
            covered[part.rows.own, part.columns.own] += 1
            for span, size in ((part.rows, rows), (part.columns, columns)):
                assert span.outer_start == max(0, span.start - margin)
                assert span.outer_stop == min(size, span.stop + margin)
                assert span.outer_start % 4 == 0
        assert (covered == 1).all()


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(40, 24), (37, 50)])
def test_a_picture_in_parts_is_the_picture_at_once(monkeypatch, depth, size):
    torch.manual_seed(0)
    part = TransformerSettings(width=32, depth=depth, head_width=16, attention=WindowAttentionSettings(size=4))
    tokenizer = Tokenizer(TokenizerSettings(patch=4, quantizer=BsqSettings(bits=12), encoder=part, decoder=part)).eval()
    for parameter in tokenizer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    pixels = torch.rand(1, 3, 4 * size[0], 4 * size[1]) * 2 - 1
    codes = tokenizer.encode(pixels)
    whole = tokenizer.decode(codes)
    monkeypatch.setattr(parts, "TOKENS", 100)
    assert len(list(cut_parts(*size, part.reach(*size)))) > 1
    assert (tokenizer.encode(pixels).digits == codes.digits).float().mean() > 0.9999
    torch.testing.assert_close(tokenizer.decode(codes), whole, atol=1e-5, rtol=0)


def test_the_margin_is_no_wider_than_needed(monkeypatch):
    """A token as far away as the margin does reach the part: with less, results would differ."""
    part = TransformerSettings(width=32, depth=2, head_width=16, attention=WindowAttentionSettings(size=4))
    assert part.reach(100, 100) == Reach(margin=4, step=4)
    deep = TransformerSettings(width=32, depth=4, head_width=16, attention=WindowAttentionSettings(size=8))
    assert deep.reach(100, 100) == Reach(margin=16, step=8)


def test_attention_over_everything_is_one_part(monkeypatch):
    monkeypatch.setattr(parts, "TOKENS", 10)
    part = TransformerSettings(width=32, depth=1, head_width=16, attention=FullAttentionSettings())
    assert len(list(cut_parts(20, 700, part.reach(20, 700)))) == 1


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_margins_are_a_small_part_of_what_is_computed(side):
    cut = list(cut_parts(side, side, Reach(16, 8)))
    outer = [(p.rows.outer_stop - p.rows.outer_start) * (p.columns.outer_stop - p.columns.outer_start) for p in cut]
    assert max(outer) < 1.5 * parts.TOKENS
    assert sum(outer) < 1.4 * side**2


@pytest.mark.parametrize("size", [(1, 4_000_000), (4_000_000, 1), (4096, 4096)])
def test_extreme_grids_are_cut_without_trying_everything(size, monkeypatch):
    tried = []
    computed = parts._computed
    monkeypatch.setattr(parts, "_computed", lambda *words: tried.append(0) or computed(*words))
    monkeypatch.setattr(parts, "_spans", lambda *words: pytest.fail("spans are walked to choose sides"))
    parts._sides(*size, Reach(16, 8), parts.TOKENS)
    assert len(tried) <= 2 * parts.MOST_PIECES


@given(st.integers(1, 400), st.integers(1, 500), st.integers(0, 15).map(lambda n: 4 * n))
def test_computed_tokens_are_those_of_the_spans(size, length, margin):
    spans = parts._spans(size, length, Reach(margin, 4))
    assert parts._computed(size, length, Reach(margin, 4)) == sum(s.outer_stop - s.outer_start for s in spans)
