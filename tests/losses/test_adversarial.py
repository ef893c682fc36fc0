import math

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from bsq.losses.adversarial import (
    AdaptiveWeightSettings,
    AdversarialLoss,
    AdversarialSettings,
    AnyAdversarialSettings,
    FixedWeightSettings,
    NoAdversarialSettings,
    R1Settings,
    squared_gradient,
)
from bsq.losses.discriminators import ClipStyleGan2Settings, PatchSettings, StyleGan2Settings, build_discriminator

SETTINGS = {
    "picture": StyleGan2Settings(resolution=16, channel_base=256, channel_max=32),
    "clip": ClipStyleGan2Settings(resolution=16, frames=2, channel_base=256, channel_max=32),
    "patch": PatchSettings(width=8),
}
SHAPES = {"picture": (4, 3, 16, 16), "clip": (4, 3, 2, 16, 16), "patch": (2, 3, 32, 32)}


class Slope(nn.Module):
    """D(x) = slope · Σ x, whose gradient is known."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.slope * pixels.flatten(1).sum(1)


def generator_terms(settings: AdversarialSettings, network: nn.Module, fake: torch.Tensor, step: int = 0):
    other = fake.square().mean()
    return AdversarialLoss(settings).generator(network, fake, step, other, fake)


def test_losses_by_hand() -> None:
    network, one = Slope(0.5), torch.ones(2, 3, 2, 2)
    real, fake = one / 6, -one / 3  # logits 1 and −2
    saturating, hinge = AdversarialSettings(r1=None), AdversarialSettings(r1=None, loss="hinge")
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    terms = AdversarialLoss(saturating).discriminator(network, real, fake, 0)
    assert terms.loss.item() == pytest.approx((softplus(-1) + softplus(-2)) / 2)
    assert (terms.real_logit.item(), terms.fake_logit.item()) == pytest.approx((1, -2))
    assert terms.penalty is None
    assert AdversarialLoss(hinge).discriminator(network, real, fake / 4, 0).loss.item() == pytest.approx(0.25)
    fake.requires_grad_()
    assert generator_terms(saturating, network, fake).loss.item() == pytest.approx(softplus(2))
    assert generator_terms(hinge, network, fake).loss.item() == pytest.approx(2)


def test_lazy_r1_by_hand() -> None:
    """‖∇D‖² = 12·0.5² on every picture; every 16th step the loss holds (10/2)·‖∇D‖²·16, on others nothing."""
    loss, network, real = AdversarialLoss(AdversarialSettings(start_step=3)), Slope(0.5), torch.randn(2, 3, 2, 2)
    for step in range(3, 40):
        terms = loss.discriminator(network, real, -real, step)
        if (step - 3) % 16 == 0:
            assert terms.penalty is not None
            assert terms.penalty.item() == pytest.approx(10 / 2 * 12 * 0.25)
            assert (terms.loss - terms.classification).item() == pytest.approx(10 / 2 * 12 * 0.25 * 16)
        else:
            assert terms.penalty is None
            assert torch.equal(terms.loss, terms.classification)
    terms = loss.discriminator(network, real, -real, 3)
    (with_penalty,) = torch.autograd.grad(terms.loss - terms.classification, network.slope)
    assert with_penalty.item() == pytest.approx(10 / 2 * 12 * 2 * 0.5 * 16)


def test_r1_settings_count() -> None:
    network, real = Slope(0.5), torch.randn(2, 3, 2, 2)
    loss = AdversarialLoss(AdversarialSettings(r1=R1Settings(gamma=4, every=3)))
    terms = loss.discriminator(network, real, real, 3)
    assert terms.penalty is not None
    assert terms.penalty.item() == pytest.approx(4 / 2 * 12 * 0.25)
    assert (terms.loss - terms.classification).item() == pytest.approx(4 / 2 * 12 * 0.25 * 3)


def test_a_clip_judged_frame_by_frame_is_penalized_as_its_frames_are() -> None:
    torch.manual_seed(0)
    network = build_discriminator(PatchSettings(width=4, layers=1, norm="none"))
    clips = torch.randn(2, 3, 5, 16, 16)
    frames = clips.transpose(1, 2).flatten(0, 1)
    one, other = (squared_gradient(network(real), real) for real in (clips.requires_grad_(), frames.requires_grad_()))
    assert one.item() == pytest.approx(other.item(), rel=1e-5)


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_double_backward_agrees_with_finite_differences(kind: str) -> None:
    torch.manual_seed(0)
    network = build_discriminator(SETTINGS[kind]).double()
    real = torch.randn(SHAPES[kind], dtype=torch.float64, requires_grad=True)
    penalty = squared_gradient(network(real), real)
    name, weight = next((n, p) for n, p in network.named_parameters() if p.ndim > 1)
    (gradient,) = torch.autograd.grad(penalty, weight)
    direction = torch.randn_like(weight)
    sides, step = [], 1e-7  # so small that hardly a leaky ReLU changes sides, where the penalty jumps
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step * direction
        sides.append(squared_gradient(network(real), real).item())
        with torch.no_grad():
            weight -= sign * step * direction
    assert (sides[0] - sides[1]) / (2 * step) == pytest.approx((gradient * direction).sum().item(), rel=1e-4), name


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_double_backward_in_bfloat16(kind: str) -> None:
    torch.manual_seed(0)
    network, real = build_discriminator(SETTINGS[kind]), torch.randn(SHAPES[kind])
    loss = AdversarialLoss(AdversarialSettings())
    gradients = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            terms = loss.discriminator(network, real, real.flip(0), 0)
        terms.loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
        assert terms.loss.dtype == torch.float32
    assert bool(gradients[1].isfinite().all())
    assert torch.nn.functional.cosine_similarity(gradients[0], gradients[1], 0) > 0.98


def test_gradients_of_clips_in_bfloat16_are_the_same_every_time() -> None:
    """PyTorch's own are not: its conv3d leaves parts of a bfloat16 weight's gradient as they were in memory."""
    torch.manual_seed(0)
    network, real = build_discriminator(SETTINGS["clip"]), torch.randn(SHAPES["clip"])
    first: list[torch.Tensor] = []
    for _ in range(60):
        junk = [torch.full((size,), 1e30) for size in (64, 1000, 5000, 20_000, 100_000, 1_000_000)]
        del junk  # what is freed here is what an unwritten gradient would hold
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(real).square().sum()
        loss.backward()
        seen = [p.grad for p in network.parameters() if p.grad is not None]
        first = first or [gradient.clone() for gradient in seen]
        for again, before in zip(seen, first, strict=True):
            assert float((again - before).abs().max()) <= 0.02 * float(before.abs().max())


def test_the_generator_step_leaves_the_discriminator_alone() -> None:
    network = build_discriminator(SETTINGS["picture"])
    fake = torch.randn(SHAPES["picture"], requires_grad=True)
    terms = generator_terms(AdversarialSettings(), network, fake)
    (terms.weight * terms.loss).backward()
    assert fake.grad is not None
    assert fake.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_the_discriminator_step_leaves_the_tokenizer_alone() -> None:
    network = build_discriminator(SETTINGS["picture"])
    real, fake = torch.randn(SHAPES["picture"]), torch.randn(SHAPES["picture"], requires_grad=True)
    AdversarialLoss(AdversarialSettings()).discriminator(network, real, fake, 0).loss.backward()
    assert fake.grad is None
    assert not real.requires_grad


def test_weights() -> None:
    fake = torch.full((1, 3, 2, 2), 0.1, requires_grad=True)
    fixed = AdversarialSettings(weight=FixedWeightSettings(value=0.3))
    assert generator_terms(fixed, Slope(0.5), fake).weight.item() == pytest.approx(0.3)
    hinge = AdversarialSettings(loss="hinge", weight=AdaptiveWeightSettings(scale=0.5))
    terms = generator_terms(hinge, Slope(0.5), fake)
    # ∇ mean x² = 2x/12 and ∇ −½Σx = −½ at each of 12 pixels
    expected = 0.5 * (math.sqrt(12) * 0.2 / 12) / (math.sqrt(12) * 0.5 + 1e-4)
    assert terms.weight.item() == pytest.approx(expected, rel=1e-5)
    assert not terms.weight.requires_grad
    capped = AdversarialSettings(loss="hinge", weight=AdaptiveWeightSettings(scale=1, maximum=1e-3))
    assert generator_terms(capped, Slope(0.5), fake).weight.item() == pytest.approx(1e-3)


def test_start_step() -> None:
    settings = AdversarialSettings(start_step=5)
    loss, fake = AdversarialLoss(settings), torch.zeros(1, 3, 2, 2, requires_grad=True)
    assert [loss.active(step) for step in (0, 4, 5, 6)] == [False, False, True, True]
    before, after = (generator_terms(settings, Slope(0.5), fake, step) for step in (4, 5))
    assert (before.loss.item(), before.weight.item()) == (0, 0)
    assert after.loss.item() > 0
    assert after.weight.item() == pytest.approx(0.1)


def test_kinds_are_told_apart() -> None:
    adapter = TypeAdapter(AnyAdversarialSettings)
    assert adapter.validate_python({"kind": "none"}) == NoAdversarialSettings()
    read = adapter.validate_python(
        {"kind": "adversarial", "discriminator": {"kind": "patch"}, "weight": {"kind": "adaptive"}, "r1": None}
    )
    assert read.discriminator == PatchSettings()
    assert read.weight == AdaptiveWeightSettings()
    with pytest.raises(ValueError, match="discriminator"):
        adapter.validate_python({"kind": "adversarial", "discriminator": {"kind": "unknown"}})
