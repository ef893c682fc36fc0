import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors import safe_open

from bsq.codes import Codes
from bsq.errors import NumericsError, SettingsError, ShapeError
from bsq.quantizers.bsq import BSQ, BsqSettings, to_sphere

GOLDEN = Path(__file__).parent.parent / "golden"


def golden(name: str) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        return file.metadata(), {k: file.get_tensor(k) for k in file.keys() if not k.startswith("state_dict")}  # noqa: SIM118


@pytest.mark.parametrize("name", ["official_image_b18_group9", "official_image_b36_perbit", "official_video_b18_full"])
def test_golden_vectors(name):
    about, want = golden(name)
    group = int(about["entropy_group_size"])
    quantizer = BSQ(BsqSettings(bits=int(about["bits"]), group=group))
    unit = want["unit_latent"].requires_grad_()
    digits = quantizer.digits(unit)
    torch.testing.assert_close(to_sphere(want["hidden_latent"]), unit, atol=1e-5, rtol=0)
    assert torch.equal(digits, want["bits"])
    assert torch.equal(quantizer.digits(want["hidden_latent"]), want["bits"])
    codes = Codes(digits.reshape(digits.shape[0], 1, 1, -1, digits.shape[-1]), quantizer.radices)
    assert torch.equal(codes.groups(group).digits.long().reshape(want["group_indices"].shape), want["group_indices"])
    torch.testing.assert_close(quantizer.lookup(digits), want["quantized"], atol=1e-7, rtol=0)

    terms = quantizer.terms(unit, quantizer.lookup(digits))
    # The recorded loss holds the release's default commitment, a quarter, besides the entropies.
    loss = terms.entropy + 0.25 * terms.commitment
    torch.testing.assert_close(loss, want["entropy_loss"].squeeze(), atol=1e-5, rtol=0)
    torch.testing.assert_close(terms.code_entropy, want["codebook_entropy"].squeeze(), atol=1.1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(loss, unit)
    torch.testing.assert_close(gradient, want["grad_entropy_loss_wrt_unit_latent"], atol=1e-7, rtol=0)


def test_golden_straight_through():
    _, want = golden("official_image_b36_perbit")
    quantizer = BSQ(BsqSettings(bits=36))
    latent = want["hidden_latent"].requires_grad_()
    out = quantizer(latent)
    torch.testing.assert_close(out.quantized, want["quantized"], atol=1e-7, rtol=0)
    (gradient,) = torch.autograd.grad(out.quantized, latent, want["upstream"])
    again = want["hidden_latent"].detach().requires_grad_()
    unit = again / again.norm(dim=-1, keepdim=True)
    (wanted,) = torch.autograd.grad(unit, again, want["grad_straight_through_wrt_unit_latent"])
    torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(bits=st.integers(1, 300), seed=st.integers(0, 2**31), axis=st.booleans())
def test_error_bound(bits, seed, axis):
    latent = torch.randn(20, bits, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if axis:
        latent = torch.eye(bits, dtype=torch.float64)
    unit = to_sphere(latent)
    quantizer = BSQ(BsqSettings(bits=bits))
    error = (unit - quantizer.lookup(quantizer.digits(latent))).norm(dim=-1)
    bound = math.sqrt(2 - 2 / math.sqrt(bits))
    assert error.max() <= bound + 1e-6
    if axis:
        torch.testing.assert_close(error, torch.full_like(error, bound), atol=1e-6, rtol=0)


def test_mean_error_of_uniform_points():
    quantizer = BSQ(BsqSettings(bits=18))
    unit = to_sphere(torch.randn(40_000, 18, generator=torch.Generator().manual_seed(0)))
    error = (unit - quantizer.lookup(quantizer.digits(unit))).norm(dim=-1)
    assert error.mean().item() == pytest.approx(0.614, abs=2e-3)


def test_zero_counts_as_minus():
    quantizer = BSQ(BsqSettings(bits=3))
    latent = torch.tensor([[0.0, -0.0, 1.0]])
    assert quantizer.digits(latent).tolist() == [[0, 0, 1]]
    assert (quantizer(latent).quantized.sign() == torch.tensor([[-1, -1, 1]])).all()


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf, -math.inf, 1e38])
def test_a_latent_without_direction_is_an_error(bad):
    quantizer = BSQ(BsqSettings(bits=4))
    latent = torch.ones(2, 3, 4)
    latent[1, 2] = bad
    for function in (quantizer.digits, quantizer):
        with pytest.raises(NumericsError, match="checkpoint"):
            function(latent)


def test_without_a_look_bad_latents_come_out_as_nan(monkeypatch):
    monkeypatch.setattr("bsq.quantizers.bsq.require_finite_if_free", lambda witness: None)
    latent = torch.ones(2, 3, 4)
    latent[1, 2] = 0
    out = BSQ(BsqSettings(bits=4))(latent)
    assert out.quantized[1, 2].isnan().all()
    assert out.quantized.isnan().sum() == 4
    assert out.terms.entropy.isnan()
    assert out.terms.commitment.isnan()


def test_bits_and_gradients_under_autocast():
    quantizer = BSQ(BsqSettings(bits=18))
    latent = torch.randn(2, 3, 2, 2, 18).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(latent)
        (out.quantized.float().square().sum() + out.terms.entropy + out.terms.commitment).backward()
    plain = latent.detach().float().requires_grad_()
    wanted = quantizer(plain)
    (wanted.quantized.square().sum() + wanted.terms.entropy + wanted.terms.commitment).backward()
    assert out.quantized.dtype == latent.grad.dtype == torch.bfloat16
    assert out.terms.entropy.dtype == torch.float32
    assert torch.equal(out.digits, wanted.digits)
    assert out.terms.entropy == wanted.terms.entropy
    torch.testing.assert_close(latent.grad.float(), plain.grad, atol=1e-3, rtol=2e-2)


def test_the_latent_gradient_has_no_radial_part():
    quantizer = BSQ(BsqSettings(bits=7))
    latent = torch.randn(5, 7, dtype=torch.float64).float().requires_grad_()
    out = quantizer(latent)
    (out.quantized.sin().sum() + out.terms.entropy + out.terms.commitment).backward()
    assert torch.linalg.vecdot(latent.grad, latent.detach()).abs().max() < 1e-6
    double = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(to_sphere, double)


def test_kept_digits():
    quantizer = BSQ(BsqSettings(bits=6))
    assert quantizer.can_nest
    latent = torch.randn(3, 2, 2, 2, 6, requires_grad=True)
    out = quantizer(latent, kept=torch.tensor([0, 4, 6]))
    whole = quantizer(latent)
    assert (out.quantized[0] == 0).all()
    assert (out.quantized[1, ..., 4:] == 0).all()
    assert torch.equal(out.quantized[1, ..., :4], whole.quantized[1, ..., :4])
    assert torch.equal(out.quantized[2], whole.quantized[2])
    assert torch.equal(out.digits, whole.digits)
    assert torch.equal(quantizer.lookup(out.digits[..., :4])[1], out.quantized[1])
    (gradient,) = torch.autograd.grad(out.quantized[1].sum(), latent)
    assert (gradient[0] == 0).all()


def test_256_bits_look_up_what_forward_gave():
    quantizer = BSQ(BsqSettings(bits=256))
    latent = torch.randn(1, 2, 3, 3, 256)
    out = quantizer(latent)
    assert out.digits.shape == latent.shape
    assert torch.equal(quantizer.lookup(out.digits), out.quantized)
    assert torch.equal(quantizer.digits(latent), out.digits)


def test_every_setting_changes_something():
    latent = torch.randn(32, 12) + 1
    plain = BSQ(BsqSettings(bits=12))(latent).terms.entropy
    for change in ({"group": 3}, {"inverse_temperature": 10.0}, {"gamma": 0.5}):
        assert BSQ(BsqSettings(bits=12, **change))(latent).terms.entropy != plain
    assert BSQ(BsqSettings(bits=13)).code_width == 13


@pytest.mark.parametrize("wrong", [{"bits": 0}, {"group": 4}, {"group": 18}, {"gamma": -1}, {"colour": 1}])
def test_bad_settings(wrong):
    with pytest.raises(ValidationError):
        BsqSettings(**{"bits": 18, **wrong})


def test_bad_shapes():
    quantizer = BSQ(BsqSettings(bits=6))
    for latent in (torch.randn(2, 5), torch.ones(2, 6, dtype=torch.int64), torch.randn(6)):
        with pytest.raises(ShapeError, match="takes a float latent"):
            quantizer(latent)
    for kept in (torch.ones(3, dtype=torch.int64), torch.ones(2)):
        with pytest.raises(ShapeError, match="kept must be"):
            quantizer(torch.randn(2, 6), kept)
    for kept in ([0, 7], [-1, 3]):
        with pytest.raises(SettingsError, match=r"kept must lie in 0 … 6"):
            quantizer(torch.randn(2, 6), torch.tensor(kept))
    for digits in (torch.zeros(2, 7, dtype=torch.uint8), torch.zeros(2, 6)):
        with pytest.raises(ShapeError, match="looks up"):
            quantizer.lookup(digits)
