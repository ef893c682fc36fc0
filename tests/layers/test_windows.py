import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from bsq.layers.windows import FullAttentionSettings, WindowAttentionSettings, cut_windows

CPU = torch.device("cpu")


@given(rows=st.integers(1, 21), columns=st.integers(1, 21), block=st.integers(0, 1), frames=st.integers(1, 2))
def test_join_mirrors_split_on_any_grid(rows, columns, block, frames):
    hidden = torch.rand(2, frames, rows, columns, 3)
    windows = cut_windows(WindowAttentionSettings(size=4), block, rows, columns, CPU)
    assert torch.equal(windows.join(windows.split(hidden)), hidden)


@given(
    batch=st.integers(1, 2),
    rows=st.integers(1, 21),
    columns=st.integers(1, 21),
    block=st.integers(0, 1),
    few=st.sampled_from([1, 40, 90, 999]),
    written=st.booleans(),
)
@example(batch=1, rows=8, columns=4, block=0, few=999, written=True)  # its windows lie in the grid as they are
def test_strips_are_the_same_windows_in_place(batch, rows, columns, block, few, written):
    """Whether tokens are written to, as blocks do, or new ones come back."""
    hidden = torch.rand(batch, 1, rows, columns, 3)
    windows = cut_windows(WindowAttentionSettings(size=4), block, rows, columns, CPU)
    changed = hidden.clone()
    tokens, marks = [], []
    for strip in windows.strips(batch, few):
        here = strip.split(changed)
        tokens.append(here.unflatten(0, (batch, -1)).clone())
        marks.append(strip.regions)
        strip.join_into(changed, here.add_(1) if written else here + 1)
    assert torch.equal(torch.cat(tokens, 1).flatten(0, 1), windows.split(hidden))
    assert torch.equal(changed, hidden + 1)
    if windows.regions is None:
        assert set(marks) == {None}
    else:
        assert torch.equal(torch.cat([mark.unflatten(0, (batch, -1)) for mark in marks], 1)[-1], windows.regions)


@given(rows=st.integers(1, 13), columns=st.integers(1, 13), block=st.integers(0, 1))
def test_tokens_see_each_other_exactly_when_they_share_a_shifted_window(rows, columns, block):
    size = 4
    windows = cut_windows(WindowAttentionSettings(size=size), block, rows, columns, CPU)
    names = torch.arange(1, rows * columns + 1).view(1, 1, rows, columns, 1)
    tokens = windows.split(names)[:, 0, :, 0]
    regions = torch.zeros_like(tokens) if windows.regions is None else windows.regions
    seen = set()
    for names_here, regions_here in zip(tokens.tolist(), regions.tolist(), strict=True):
        for a, mark_a in zip(names_here, regions_here, strict=True):
            seen |= {(a, b) for b, mark_b in zip(names_here, regions_here, strict=True) if a and b and mark_a == mark_b}
    shift = 0 if windows.count == 1 else (size // 2) * (block % 2)

    def window(token: int) -> tuple[int, int]:
        row, column = divmod(token - 1, columns)
        return (row + size - shift) // size, (column + size - shift) // size

    everything = range(1, rows * columns + 1)
    single = windows.count == 1
    assert seen == {(a, b) for a in everything for b in everything if single or window(a) == window(b)}


def test_padding_is_seen_by_no_token():
    windows = cut_windows(WindowAttentionSettings(size=4), 0, 5, 6, CPU)
    marks = windows.regions
    real = windows.split(torch.ones(1, 1, 5, 6, 1))[:, 0, :, 0].bool()
    for window_marks, window_real in zip(marks, real, strict=True):
        assert not set(window_marks[window_real].tolist()) & set(window_marks[~window_real].tolist())


def test_full_attention_is_one_window():
    windows = cut_windows(FullAttentionSettings(), 1, 9, 30, CPU)
    assert windows.count == 1
    assert windows.regions is None


def test_window_size_must_be_even():
    with pytest.raises(ValueError, match="multiple of 2"):
        WindowAttentionSettings(size=7)
