"""LFQ, FSQ, VQ, Gumbel, KL, and what all quantizers have in common."""

import math

import pytest
import torch
import torch.nn.functional as F
import vector_quantize_pytorch as oracle
from pydantic import TypeAdapter, ValidationError

from bsq.codes import Codes
from bsq.errors import NumericsError, SettingsError, ShapeError
from bsq.quantizers import QuantizerSettings, build_quantizer
from bsq.quantizers.fsq import FSQ, FsqSettings
from bsq.quantizers.gumbel import Gumbel, GumbelSettings
from bsq.quantizers.kl import KL, KlSettings
from bsq.quantizers.lfq import LFQ, LfqSettings
from bsq.quantizers.vq import VQ, VqSettings

SMALL = [
    {"kind": "bsq", "bits": 6},
    {"kind": "lfq", "bits": 6, "inverse_temperature": 1.0},
    {"kind": "fsq", "levels": (8, 5, 4, 3, 3)},
    {"kind": "vq", "size": 300, "width": 6},
    {"kind": "vq", "size": 20, "width": 6, "update": "gradient", "metric": "cosine"},
    {"kind": "gumbel", "size": 10, "width": 6},
    {"kind": "gumbel", "size": 10, "width": 6, "draw": "hard"},
]
CONTINUOUS = {"kind": "kl", "width": 6}


def build(chosen):
    torch.manual_seed(0)
    return build_quantizer(TypeAdapter(QuantizerSettings).validate_python(chosen))


def name(chosen):
    return "-".join(str(v) for v in chosen.values() if isinstance(v, str))


each = pytest.mark.parametrize("chosen", SMALL, ids=name)
each_and_kl = pytest.mark.parametrize("chosen", [*SMALL, CONTINUOUS], ids=name)


@each_and_kl
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_under_autocast(chosen, dtype):
    quantizer = build(chosen)
    latent = torch.randn(2, 3, 2, 2, quantizer.latent_width).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(latent)
        loss = sum(getattr(out.terms, t) for t in ("entropy", "commitment", "codebook", "kl"))
        (out.quantized.float().square().sum() + loss).backward()
    assert out.quantized.shape == (2, 3, 2, 2, quantizer.code_width)
    assert out.quantized.dtype == latent.grad.dtype == dtype
    assert torch.isfinite(latent.grad).all()
    assert latent.grad.abs().sum() > 0
    for value in vars(out.terms).values():
        assert value.dtype == torch.float32
        assert value.ndim == 0
        assert value.isfinite()
    for parameter in quantizer.parameters():
        assert parameter.grad.abs().sum() > 0


@each
def test_digits_become_codes_and_look_up_what_evaluation_gives(chosen):
    quantizer = build(chosen).eval()
    latent = torch.randn(2, 3, 2, 2, quantizer.latent_width)
    digits = quantizer.digits(latent)
    out = quantizer(latent)
    assert torch.equal(digits, out.digits)
    codes = Codes(digits, quantizer.radices)
    assert codes.digits.dtype == digits.dtype
    torch.testing.assert_close(quantizer.lookup(codes.digits), out.quantized, atol=1e-6, rtol=1e-6)
    assert quantizer.lookup(digits).dtype == torch.float32


@each
def test_digits_are_the_same_in_bfloat16_autocast(chosen):
    quantizer = build(chosen)
    latent = torch.randn(2, 3, 2, 2, quantizer.latent_width)
    with torch.autocast("cpu", torch.bfloat16):
        digits = quantizer.digits(latent)
    assert torch.equal(digits, quantizer.digits(latent))


@each_and_kl
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_numbers(chosen, bad):
    quantizer = build(chosen)
    latent = torch.randn(2, 3, quantizer.latent_width)
    latent[1, 1, 1] = bad
    with pytest.raises(NumericsError):
        quantizer(latent)
    for tensor in quantizer.state_dict().values():
        assert torch.isfinite(tensor).all()
    if quantizer.radices:
        with pytest.raises(NumericsError):
            quantizer.digits(latent)


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_without_a_look_bad_latents_stay_out_of_the_codebook(update, monkeypatch):
    monkeypatch.setattr("bsq.quantizers.vq.require_finite_if_free", lambda witness: None)
    quantizer = VQ(VqSettings(size=8, width=4, update=update, revive_below=0.9))
    latent = torch.randn(2, 3, 4)
    quantizer(latent)
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    latent[1, 2, 0] = math.nan
    assert quantizer(latent).quantized.isnan().any()
    for name, tensor in quantizer.state_dict().items():
        assert torch.isfinite(tensor).all(), name
    torch.testing.assert_close(quantizer.use[quantizer.use < 0.1], before["use"][quantizer.use < 0.1])


@each_and_kl
def test_nested_dropout_where_there_are_digits_to_drop(chosen):
    quantizer = build(chosen)
    latent, kept = torch.randn(2, 3, quantizer.latent_width), torch.tensor([2, 3])
    assert quantizer.can_nest == (len(quantizer.radices) > 1)
    if not quantizer.can_nest:
        with pytest.raises(SettingsError, match="nested"):
            quantizer(latent, kept)
        return
    out = quantizer(latent, kept)
    for b in range(2):
        part = quantizer.lookup(out.digits[b, ..., : kept[b]])
        torch.testing.assert_close(part, out.quantized[b], atol=1e-6, rtol=0)


@each_and_kl
def test_wrong_shapes(chosen):
    quantizer = build(chosen)
    with pytest.raises(ShapeError, match=str(quantizer.latent_width)):
        quantizer(torch.randn(2, quantizer.latent_width + 1))
    if quantizer.radices:
        with pytest.raises(ShapeError, match="looks up"):
            quantizer.lookup(torch.zeros(2, len(quantizer.radices) + 1, dtype=torch.uint8))


def test_unknown_kinds_are_refused():
    with pytest.raises(ValidationError, match="kind"):
        build({"kind": "spline"})
    with pytest.raises(TypeError, match="no quantizer"):
        build_quantizer(None)


# LFQ


def test_lfq_against_the_public_one():
    reference = oracle.LFQ(
        dim=8, codebook_size=16, num_codebooks=2, has_projections=False, diversity_gamma=0.8, commitment_loss_weight=1.0
    )
    latent = torch.randn(2, 30, 8) * 0.3
    reference_out, parts = reference(latent, inv_temperature=0.7, return_loss_breakdown=True)
    ours = LFQ(LfqSettings(bits=8, group=4, inverse_temperature=0.7, gamma=0.8))
    out = ours(latent)
    assert torch.equal(out.quantized, reference_out.quantized)
    groups = Codes(out.digits[:, None, None], ours.radices).groups(4).digits[:, 0, 0]
    assert torch.equal(groups.long(), reference_out.indices)
    assert out.terms.commitment.item() == pytest.approx(parts.commitment.item(), rel=1e-5)
    # The public one takes the mean over groups, and clamps probabilities at 1e-5.
    assert out.terms.sample_entropy.item() == pytest.approx(2 * parts.per_sample_entropy.item(), abs=1e-3)
    assert out.terms.code_entropy.item() == pytest.approx(2 * parts.batch_entropy.item(), abs=1e-4)
    assert out.terms.entropy.item() == pytest.approx(
        out.terms.sample_entropy.item() - 0.8 * out.terms.code_entropy.item(), abs=1e-5
    )


def test_lfq_settings_change_something():
    latent = torch.randn(32, 12) + 0.5
    plain = LFQ(LfqSettings(bits=12, inverse_temperature=1))(latent).terms.entropy
    for change in ({"group": 3}, {"inverse_temperature": 2}, {"gamma": 0.5}):
        assert LFQ(LfqSettings(bits=12, **{"inverse_temperature": 1, **change}))(latent).terms.entropy != plain
    with pytest.raises(ValidationError):
        LfqSettings(bits=12, group=5)


# FSQ


@pytest.mark.parametrize("levels", [(8, 8, 8, 6, 5), (3, 4, 7), (1000, 3)])
def test_fsq_against_the_public_one(levels):
    reference, ours = oracle.FSQ(levels), FSQ(FsqSettings(levels=levels))
    latent = torch.randn(2, 500, len(levels), requires_grad=True)
    wanted, out = reference(latent)[0], ours(latent)
    torch.testing.assert_close(out.quantized, wanted, atol=1e-6, rtol=0)
    upstream = torch.randn_like(latent)
    (want,) = torch.autograd.grad(wanted, latent, upstream)
    (got,) = torch.autograd.grad(out.quantized, latent, upstream)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)


def test_fsq_reaches_every_level_and_no_other():
    levels = (3, 4, 5, 7, 8, 256)
    quantizer = FSQ(FsqSettings(levels=levels))
    latent = torch.linspace(-12, 12, 40_001)[:, None].expand(-1, 6)
    digits = quantizer.digits(latent)
    for d, radix in enumerate(levels):
        assert digits[:, d].unique().tolist() == list(range(radix))
    assert FSQ(FsqSettings(levels=(257, 3))).digits(torch.full((1, 2), 9.0)).tolist() == [[256, 2]]
    many = (999, 1000, 1001, 2000, 65535, 65536)
    quantizer = FSQ(FsqSettings(levels=many))
    assert quantizer.digits(torch.full((1, 6), 50.0)).tolist() == [[radix - 1 for radix in many]]
    assert quantizer.digits(torch.full((1, 6), -50.0)).tolist() == [[0] * 6]
    assert quantizer(torch.full((1, 6), 50.0)).digits.tolist() == [[radix - 1 for radix in many]]
    with pytest.raises(ValidationError):
        FsqSettings(levels=(8, 2))


# VQ


def euclidean(z, codebook):
    return torch.cdist(z, codebook).argmin(-1)


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_vq_against_the_public_one(update, metric, monkeypatch):
    monkeypatch.setattr("bsq.quantizers.vq.DISTANCES_AT_ONCE", 1000)
    ours = build({"kind": "vq", "size": 40, "width": 6, "update": update, "metric": metric}).eval()
    reference = oracle.VectorQuantize(dim=6, codebook_size=40, use_cosine_sim=metric == "cosine").eval()
    reference.codebook = ours.normalise(ours.codebook.detach())
    latent = torch.randn(2, 60, 6)
    wanted, index, _ = reference(latent)
    out = ours(latent)
    assert torch.equal(out.digits[..., 0].long(), index)
    torch.testing.assert_close(out.quantized, wanted, atol=1e-6, rtol=0)
    z = ours.normalise(latent)
    assert out.terms.commitment.item() == pytest.approx(F.mse_loss(z, wanted).item(), rel=1e-5)
    assert out.terms.codebook.item() == (out.terms.commitment.item() if update == "gradient" else 0)


def test_vq_moving_averages():
    quantizer = build({"kind": "vq", "size": 5, "width": 3, "decay": 0.8, "revive_below": 0})
    codebook, use, sums = quantizer.codebook.clone(), quantizer.use.clone(), quantizer.sums.clone()
    for step in range(3):
        latent = torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(step))
        flat = latent.reshape(-1, 3)
        index = euclidean(flat, codebook)
        quantizer(latent)
        for k in range(5):
            mine = flat[index == k]
            use[k] = 0.8 * use[k] + 0.2 * len(mine) / 28
            sums[k] = 0.8 * sums[k] + 0.2 * mine.sum(0) / 28
        codebook = sums / use[:, None]
        torch.testing.assert_close(quantizer.codebook, codebook)
    quantizer.eval()(latent)
    with torch.no_grad():
        quantizer.train()(latent)
    torch.testing.assert_close(quantizer.codebook, codebook)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_vq_dead_codes_come_back(update):
    chosen = {"kind": "vq", "size": 64, "width": 4, "update": update, "decay": 0.7}
    latent = 5 + torch.randn(512, 4)
    used = {}
    for revive_below in (0.0, 0.2):
        quantizer = build({**chosen, "revive_below": revive_below})
        for _ in range(40):
            quantizer(latent)
        used[revive_below] = len(quantizer.digits(latent).unique())
    assert used[0.0] < 16
    assert used[0.2] > 48


def test_vq_learns_by_either_update():
    latent = torch.randn(512, 4) * 0.1 + torch.eye(4)[torch.randint(4, (512,))] * 3
    for update in ("ema", "gradient"):
        quantizer = build({"kind": "vq", "size": 16, "width": 4, "update": update, "decay": 0.8})
        optimizer = torch.optim.Adam([*quantizer.parameters(), torch.nn.Parameter(torch.zeros(1))], 0.05)
        for _ in range(80):
            out = quantizer(latent)
            if update == "gradient":
                optimizer.zero_grad()
                out.terms.codebook.backward()
                optimizer.step()
        assert out.terms.commitment < 0.02


def test_an_unused_code_keeps_its_vector():
    quantizer = build({"kind": "vq", "size": 2, "width": 2, "decay": 0.0, "revive_below": 0})
    quantizer.codebook.copy_(torch.tensor([[0.0, 0.0], [9.0, 9.0]]))
    quantizer(torch.ones(4, 2))
    torch.testing.assert_close(quantizer.codebook, torch.tensor([[1.0, 1.0], [9.0, 9.0]]))


# Gumbel


def test_gumbel_draws_in_training_and_takes_the_likeliest_in_evaluation():
    logits = torch.randn(4000, 10)
    soft, hard = build(SMALL[5]), build(SMALL[6])
    weights = soft.draw(logits)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4000))
    assert weights.max() < 1
    assert ((hard.draw(logits) == 0).sum(-1) == 9).all()
    # Of two logits, the first is drawn with the probability that softmax gives it.
    pair = torch.tensor([1.0, 0.0]).expand(20_000, 2)
    drawn = build({"kind": "gumbel", "size": 2, "width": 1, "draw": "hard"}).draw(pair)[:, 0].mean()
    assert drawn.item() == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item(), abs=0.015)
    assert torch.equal(soft.eval()(logits).digits[:, 0], logits.argmax(-1).to(torch.uint8))


def test_gumbel_temperature_sharpens():
    torch.manual_seed(0)
    logits = torch.randn(500, 10)
    quantizer = Gumbel(GumbelSettings(size=10, width=2, temperature=0.1))
    assert quantizer.draw(logits).max(-1).values.mean() > 0.9
    quantizer.temperature = 5.0
    assert quantizer.draw(logits).max(-1).values.mean() < 0.4


def test_gumbel_terms():
    quantizer = build(SMALL[5])
    logits = torch.randn(30, 10)
    terms = quantizer(logits).terms
    q = logits.softmax(-1)
    assert terms.kl.item() == pytest.approx((q * (q * 10).log()).sum(-1).mean().item(), rel=1e-5)
    assert terms.sample_entropy.item() == pytest.approx(math.log(10) - terms.kl.item(), rel=1e-5)
    assert terms.code_entropy.item() == pytest.approx(torch.special.entr(q.mean(0)).sum().item(), rel=1e-5)


# KL


def test_kl():
    quantizer = KL(KlSettings(width=3))
    assert quantizer.latent_width == 6
    assert quantizer.radices == ()
    mean, log_variance = torch.randn(5000, 3), torch.full((5000, 3), -2.0)
    latent = torch.cat([mean, log_variance], -1)
    out = quantizer(latent)
    assert out.digits is None
    assert (out.quantized - mean).std().item() == pytest.approx(math.exp(-1), rel=0.05)
    normal = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    wanted = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(-1).mean()
    assert out.terms.kl.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert torch.equal(quantizer.eval()(latent).quantized, mean)
    for function in (quantizer.digits, quantizer.lookup):
        with pytest.raises(SettingsError, match="continuous"):
            function(latent)


def test_vq_class_takes_its_settings():
    assert VQ(VqSettings(size=7, width=3)).codebook.shape == (7, 3)
