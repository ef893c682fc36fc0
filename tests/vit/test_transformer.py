import pytest
import torch
from pydantic import ValidationError

import bsq.vit.transformer as transformer
from bsq.errors import ShapeError
from bsq.layers.positions import LearnedPositionsSettings, RotaryPositionsSettings
from bsq.layers.windows import FullAttentionSettings, WindowAttentionSettings
from bsq.vit.transformer import BodyPast, Transformer, TransformerSettings, map_in_portions

SMALL = TransformerSettings(width=32, depth=3, head_width=16, attention=WindowAttentionSettings(size=4))


def build(**changes) -> Transformer:
    torch.manual_seed(0)
    return Transformer(SMALL.model_copy(update=changes)).eval()


def test_portions_change_nothing(monkeypatch):
    body = build()
    hidden = torch.randn(2, 1, 13, 9, 32)
    with torch.no_grad():
        whole = body(hidden)
        monkeypatch.setattr(transformer, "PORTION", 20)
        torch.testing.assert_close(body(hidden), whole, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(map_in_portions(body.norm_in, hidden), body.norm_in(hidden))


def test_recomputing_gives_the_same_gradients():
    body = build()
    hidden = torch.randn(1, 1, 8, 8, 32)
    gradients = []
    for recompute in (False, True):
        body.zero_grad()
        body.recompute = recompute
        body(hidden).square().sum().backward()
        gradients.append([p.grad.clone() for p in body.parameters()])
    for once, twice in zip(*gradients, strict=True):
        torch.testing.assert_close(once, twice)


def test_windows_pass_information_across_their_borders_in_time():
    """Two blocks reach the neighbouring window; one alone does not."""
    hidden = torch.randn(1, 1, 8, 8, 32)
    changed = hidden.clone()
    changed[0, 0, 0, 3] += torch.randn(32)
    for depth, reached in ((1, False), (2, True)):
        body = build(depth=depth)
        difference = (body(hidden) - body(changed))[0, 0, :, 4:].abs().max()
        assert (difference > 1e-7) == reached


@pytest.mark.parametrize(
    "change",
    [
        {"width": 48},
        {"depth": 2},
        {"head_width": 8},
        {"mlp_ratio": 2},
        {"positions": LearnedPositionsSettings(rows=8, columns=8, frames=2)},
        {"positions": RotaryPositionsSettings(base=7.0)},
        {"attention": FullAttentionSettings()},
        {"attention": WindowAttentionSettings(size=2)},
        {"time": "full"},
        {"window_frames": 1},
    ],
)
def test_every_setting_changes_the_result(change):
    plain, other = build(), build(**change)
    for body in (plain, other):
        torch.manual_seed(2)
        for parameter in body.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    width = change.get("width", 32)
    torch.manual_seed(3)
    hidden = torch.randn(1, 2, 8, 8, 48)
    assert not torch.equal(plain(hidden[..., :32])[..., :8], other(hidden[..., :width])[..., :8])


def test_learned_positions_refuse_another_grid():
    body = build(positions=LearnedPositionsSettings(rows=4, columns=4, frames=2))
    body(torch.randn(1, 2, 4, 4, 32))
    with pytest.raises(ShapeError, match="4×4 tokens and up to 2 frames, got 4×5 and 1"):
        body(torch.randn(1, 1, 4, 5, 32))
    with pytest.raises(ShapeError, match="got 4×4 and 3"):
        body(torch.randn(1, 3, 4, 4, 32))


def test_settings_are_checked():
    with pytest.raises(ValidationError, match="not a multiple of head_width"):
        TransformerSettings(width=100, head_width=64)
    with pytest.raises(ValidationError, match="head_width of 8 or more"):
        TransformerSettings(width=32, head_width=4)
    TransformerSettings(width=32, head_width=4, positions=LearnedPositionsSettings(rows=2, columns=2))
    with pytest.raises(ValidationError, match="Extra inputs"):
        TransformerSettings(widht=100)
    with pytest.raises(ValidationError, match="does not go with time=full"):
        TransformerSettings(time="full", window_frames=2)
    with pytest.raises(ValidationError, match="greater than 0"):
        TransformerSettings(window_frames=0)


def test_brightness_is_not_hidden_by_the_first_norm():
    """A flat patch of another grey is another latent: LayerNorm alone would make them equal."""
    body = build()
    direction = torch.randn(32)
    dim, bright = (body(direction.view(1, 1, 1, 1, 32) * scale) for scale in (0.05, 0.1))
    assert (dim - bright).abs().max() > 0.05


FORMS = [
    {},
    {"window_frames": 2},
    {"attention": FullAttentionSettings()},
    {"positions": LearnedPositionsSettings(rows=7, columns=6, frames=6), "window_frames": 3},
]


def random_body(**changes) -> Transformer:
    body = build(**changes)
    for parameter in body.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return body


def one_by_one(body, hidden):
    past = BodyPast()
    return torch.cat([body(frame, past) for frame in hidden.split(1, dim=1)], dim=1)


@pytest.mark.parametrize("changes", FORMS)
def test_training_whole_clips_and_single_frames_compute_the_same(changes, monkeypatch):
    body, hidden = random_body(**changes), torch.randn(2, 6, 7, 6, 32)
    trained = body(hidden).detach()
    with torch.no_grad():
        for portion in (transformer.PORTION, 40):
            monkeypatch.setattr(transformer, "PORTION", portion)
            whole = body(hidden)
            assert torch.equal(one_by_one(body, hidden), whole)
            torch.testing.assert_close(whole, trained, atol=2e-5, rtol=0)


@pytest.mark.parametrize("changes", FORMS)
def test_no_form_lets_a_frame_see_later_ones(changes):
    body, hidden = random_body(**changes), torch.randn(2, 6, 7, 6, 32)
    changed = hidden.clone()
    changed[:, 3] = torch.randn(2, 7, 6, 32)
    forms = [body, torch.no_grad()(body), torch.no_grad()(lambda x: one_by_one(body, x))]
    for form in forms:
        before, after = form(hidden), form(changed)
        assert torch.equal(before[:, :3], after[:, :3])
        assert (before[:, 3:] != after[:, 3:]).flatten(2).any(-1).all()


def test_a_frame_sees_as_far_back_as_its_blocks_windows_reach():
    """Three blocks with windows of 2 frames: 3 frames back, no further."""
    body, hidden = random_body(window_frames=2), torch.randn(1, 6, 4, 4, 32)
    changed = hidden.clone()
    changed[:, 1] += 1
    differs = [bool((a != b).any()) for a, b in zip(body(hidden)[0], body(changed)[0], strict=True)]
    assert differs == [False, True, True, True, True, False]


def test_a_past_needs_no_gradients_and_no_sight_of_later_frames():
    hidden = torch.randn(1, 1, 4, 4, 32)
    with pytest.raises(AssertionError, match="piece by piece"):
        build()(hidden, BodyPast())
    with torch.no_grad(), pytest.raises(AssertionError, match="piece by piece"):
        build(time="full")(hidden, BodyPast())
