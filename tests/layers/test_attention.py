import pytest
import torch

from bsq.layers.attention import Attention, attend, attend_frame_by_frame, attend_masked, attend_plain
from bsq.layers.past import Past
from bsq.layers.positions import RotaryPositionsSettings, rotary_table


def rotary(frames, rows, columns, head_width=16):
    return rotary_table(RotaryPositionsSettings(), frames, rows, columns, head_width, torch.device("cpu"))


def test_plain_and_fused_attention_agree_forward_and_backward():
    torch.manual_seed(0)
    seen = torch.rand(2, 1, 12, 12) > 0.4
    seen |= torch.eye(12, dtype=torch.bool)
    results = []
    for form in (attend, attend_plain):
        torch.manual_seed(1)
        q, k, v = (torch.randn(2, 3, 12, 8, requires_grad=True) for _ in range(3))
        out = form(q, k, v, seen)
        out.square().sum().backward()
        results.append((out, q.grad, k.grad, v.grad))
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 2, 3, 9])
@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("apart", [False, True])
def test_masked_frame_by_frame_and_cached_forms_compute_the_same(frames, window, apart):
    torch.manual_seed(0)
    places = 6
    q, k, v = (torch.randn(2, 3, frames * places, 8) for _ in range(3))
    seen = torch.rand(2, 1, places, places) > 0.5
    seen = seen | torch.eye(places, dtype=torch.bool) if apart else None
    masked = attend_masked(q, k, v, seen, frames, window)
    torch.testing.assert_close(attend_frame_by_frame(q, k, v, seen, frames, window), masked, atol=1e-6, rtol=1e-6)
    past, cached = Past(window), []
    for now, keys, values in zip(*(x.split(places, dim=2) for x in (q, k, v)), strict=True):
        keys, values = past.take_in(keys, values)
        mask = None if seen is None else seen.repeat(1, 1, 1, keys.shape[2] // places)
        cached.append(attend(now, keys, values, mask))
    torch.testing.assert_close(torch.cat(cached, dim=2), masked, atol=1e-6, rtol=1e-6)


def test_the_mask_is_that_of_the_definition():
    """Token (t, s) sees token (u, r) exactly when t − 2 < u ≤ t."""
    frames, places = 4, 2
    zeros, names = torch.zeros(1, 1, frames * places, 8), torch.eye(frames * places)[None, None]
    weights = attend_masked(zeros, zeros, names, None, frames, 2)[0, 0]
    for token, row in enumerate(weights):
        t = token // places
        assert row.nonzero().flatten().tolist() == [n for n in range(frames * places) if t - 2 < n // places <= t]


@pytest.mark.parametrize("window", [None, 1, 2, 9])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_frame_by_frame_has_the_gradients_of_the_mask(window, apart, n):
    """In float64, where the fused kernel has a backward pass of its own; `seen` of one row serves all."""
    torch.manual_seed(0)
    frames, places = 4, 5
    q, k, v = (torch.randn(n, 3, frames * places, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    upstream = torch.randn_like(q)
    seen = torch.rand(1, 1, places, places) > 0.5
    seen = seen | torch.eye(places, dtype=torch.bool) if apart else None
    wanted = torch.autograd.grad(attend_masked(q, k, v, seen, frames, window), (q, k, v), upstream)
    got = torch.autograd.grad(attend_frame_by_frame(q, k, v, seen, frames, window), (q, k, v), upstream)
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)


def test_the_fused_backward_passes_gradcheck():
    torch.manual_seed(0)
    made = [torch.randn(2, 2, 6, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda q, k, v: attend_frame_by_frame(q, k, v, None, 3, 2), made)


def test_only_some_of_queries_keys_and_values_may_want_gradients():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 6, 8) for _ in range(3))
    v.requires_grad_(True)
    attend_frame_by_frame(q, k, v, None, 3, None).sum().backward()
    assert v.grad is not None
    assert q.grad is None
    whole = attend_masked(q, k, v, None, 3, None)
    torch.testing.assert_close(v.grad, torch.autograd.grad(whole.sum(), v)[0])


def test_a_compiled_training_step_has_the_gradients_of_an_eager_one():
    torch.manual_seed(0)
    attention = Attention(32, 16, "causal")
    tokens = torch.randn(2, 4, 6, 32)
    grads = []
    for form in (attention, torch.compile(attention, backend="aot_eager")):
        attention.zero_grad()
        form(tokens, rotary(4, 2, 3), None).square().sum().backward()
        grads.append([parameter.grad.clone() for parameter in attention.parameters()])
    for eager, compiled in zip(*grads, strict=True):
        torch.testing.assert_close(eager, compiled, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_compiled_code_has_the_gradients_of_an_eager_one():
    """Inductor's own code, of the size at which it vectorises: halves put together by `cat` became NaN on some CPUs."""
    torch.compiler.reset()
    torch.manual_seed(0)
    attention = Attention(256, 64, "causal")
    tokens = torch.randn(32, 1, 64, 256)
    grads = []
    for form in (attention, torch.compile(attention, dynamic=False)):
        attention.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            mixed = form(tokens, rotary(1, 8, 8, 64), None)
        mixed.float().square().sum().backward()
        grads.append([parameter.grad.clone() for parameter in attention.parameters()])
    for eager, compiled in zip(*grads, strict=True):
        assert (compiled - eager).norm() < 0.01 * eager.norm()


def test_changing_a_frame_leaves_earlier_frames_equal():
    torch.manual_seed(0)
    attention = Attention(32, 16, "causal")
    tokens = torch.randn(2, 4, 6, 32)
    changed = tokens.clone()
    changed[:, 2] += 1
    before, after = attention(tokens, rotary(4, 2, 3), None), attention(changed, rotary(4, 2, 3), None)
    assert torch.equal(before[:, :2], after[:, :2])
    assert (before[:, 2:] != after[:, 2:]).any()


def test_full_time_sees_the_future():
    torch.manual_seed(0)
    attention = Attention(32, 16, "full")
    tokens = torch.randn(1, 3, 6, 32)
    changed = tokens.clone()
    changed[:, 2] += 1
    assert (attention(tokens, None, None)[:, 0] != attention(changed, None, None)[:, 0]).any()


def test_regions_keep_tokens_apart():
    torch.manual_seed(0)
    attention = Attention(32, 16, "causal")
    tokens = torch.randn(1, 2, 6, 32)
    regions = torch.tensor([[0, 0, 1, 1, 1, 0]])
    changed = tokens.clone()
    changed[:, :, 2] += 1
    before, after = attention(tokens, None, regions), attention(changed, None, regions)
    assert torch.equal(before[:, :, [0, 1, 5]], after[:, :, [0, 1, 5]])
    assert (before[:, :, [2, 3, 4]] != after[:, :, [2, 3, 4]]).all(-1).all()


def test_rotary_scores_depend_on_differences_alone():
    table = rotary(4, 8, 8)
    q, k = torch.randn(16), torch.randn(16)
    turned_q = table.turn(q.expand(1, 1, 256, 16))[0, 0].view(4, 8, 8, 16)
    turned_k = table.turn(k.expand(1, 1, 256, 16))[0, 0].view(4, 8, 8, 16)
    near = turned_q[0, 1, 2] @ turned_k[1, 3, 1]
    far = turned_q[2, 5, 7] @ turned_k[3, 7, 6]
    torch.testing.assert_close(near, far, atol=1e-5, rtol=1e-5)
    assert (turned_q[0, 1, 2] @ turned_k[1, 3, 1] - turned_q[0, 1, 2] @ turned_k[1, 4, 1]).abs() > 1e-4


def test_rotary_leaves_frame_zero_of_a_clip_as_a_picture():
    clip, picture = rotary(3, 4, 5), rotary(1, 4, 5)
    assert torch.equal(clip.cos[:20], picture.cos)
    assert torch.equal(clip.sin[:20], picture.sin)


def test_rotary_of_later_frames_is_a_part_of_the_clips():
    clip, later = rotary(5, 2, 3), rotary_table(RotaryPositionsSettings(), 2, 2, 3, 16, torch.device("cpu"), first=3)
    assert torch.equal(clip.cos[18:], later.cos)
    assert torch.equal(clip.sin[18:], later.sin)
