import math
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from bsq.errors import SettingsError
from bsq.quantizers.bsq import to_sphere
from bsq.quantizers.entropy import (
    entropy_objective,
    enumerated_entropy,
    grouped_entropy,
    lean_deficit,
    per_bit_entropy,
    soft_deficit_,
    sum_of_logs,
    wide_soft_deficit,
)
from bsq.quantizers.vq import VQ, VqSettings


def sphere(*shape: int, seed: int = 0) -> torch.Tensor:
    latent = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    # A lean per bit, so that the average code is not uniform.
    return to_sphere(latent + torch.linspace(-0.8, 0.8, shape[-1]))


def textbook(latent: torch.Tensor, scale: float, gamma: float) -> torch.Tensor:
    p = torch.sigmoid(scale * latent).reshape(-1, latent.shape[-1])
    entropy = lambda q: torch.special.entr(q) + torch.special.entr(1 - q)  # noqa: E731
    return entropy(p).sum(-1).mean() - gamma * entropy(p.mean(0)).sum()


def value_and_gradient(function, latent, *args):
    latent = latent.clone().requires_grad_()
    terms = function(latent, *args)
    (gradient,) = torch.autograd.grad(terms.objective, latent)
    return terms, gradient


@pytest.mark.parametrize("inverse_temperature", [0.5, 1, 10, 100])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("sample_weight", [1.0, 0.3, 0.0])
def test_fast_forms_equal_enumeration(group, inverse_temperature, sample_weight):
    latent, scale = sphere(3, 50, 12), 4 * inverse_temperature / math.sqrt(12)
    fast, fast_gradient = value_and_gradient(entropy_objective, latent, scale, 0.7, group, 1.0, sample_weight)
    slow, slow_gradient = value_and_gradient(enumerated_entropy, latent.double(), scale, 0.7, group, sample_weight)
    for name in ("objective", "sample_entropy", "code_entropy"):
        assert getattr(fast, name).item() == pytest.approx(getattr(slow, name).item(), abs=2e-6)
        assert getattr(fast, name).dtype == torch.float32
    torch.testing.assert_close(fast_gradient.double(), slow_gradient, atol=1e-6, rtol=1e-4)


def test_a_group_of_all_bits_is_the_joint_entropy_and_the_factorised_one_bounds_it():
    latent = sphere(64, 8)
    joint = grouped_entropy(latent, 20.0, 1.0, 8).code_entropy
    probability = torch.sigmoid(20.0 * latent.double())
    total = 0.0
    for code in range(256):
        bits = torch.tensor([code >> (7 - d) & 1 for d in range(8)])
        q = torch.where(bits == 1, probability, 1 - probability).prod(-1).mean()
        total -= float(q * q.log())
    assert joint.item() == pytest.approx(total, abs=2e-6)
    assert joint < per_bit_entropy(latent, 20.0, 1.0).code_entropy


@pytest.mark.parametrize("group", [1, 8, 16])
@pytest.mark.parametrize("tokens", [1, 7, 2048])
def test_256_bits_in_float32_agree_with_float64(tokens, group):
    latent = to_sphere(torch.randn(tokens, 256, generator=torch.Generator().manual_seed(1)))
    scale = 4 / math.sqrt(256)
    wanted = entropy_objective(latent.double(), scale, 1.0, group).objective
    got, gradient = value_and_gradient(entropy_objective, latent, scale, 1.0, group, 1.0)
    assert got.objective.item() == pytest.approx(wanted.item(), abs=1e-6)
    assert torch.isfinite(gradient).all()


def test_256_bits_equal_the_textbook_form_in_float64():
    latent = sphere(512, 256)
    for gamma in (0.0, 0.5, 1.0):
        got, gradient = value_and_gradient(per_bit_entropy, latent, 0.25, gamma, 1.0)
        exact = latent.double().requires_grad_()
        wanted = textbook(exact, 0.25, gamma)
        (wanted_gradient,) = torch.autograd.grad(wanted, exact)
        # One float32 unit in 177 nats, where the whole entropy does not cancel, is 1.5e-5.
        assert got.objective.item() == pytest.approx(wanted.item(), abs=1e-6 if gamma == 1 else 2e-5)
        torch.testing.assert_close(gradient.double(), wanted_gradient, atol=1e-9, rtol=1e-4)


@pytest.mark.parametrize("group", [1, 2])
def test_saturated_bits_stay_finite(group):
    latent = torch.tensor([[60.0, -60.0], [60.0, -60.0], [60.0, -1e30]])
    terms, gradient = value_and_gradient(entropy_objective, latent, 4.0, 1.0, group)
    assert terms.sample_entropy.item() == pytest.approx(0, abs=1e-5)
    assert terms.code_entropy.item() == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(gradient).all()


def test_deficits():
    t = torch.linspace(-1, 1, 401, dtype=torch.float64)
    p = (1 + t) / 2
    wanted = math.log(2) - torch.special.entr(p) - torch.special.entr(1 - p)
    for one, deficit in zip(t, wanted, strict=True):
        assert lean_deficit(one[None])[0].item() == pytest.approx(deficit.item(), rel=1e-6, abs=1e-6)
    total, slope = lean_deficit(t)
    assert total.item() == pytest.approx(wanted.sum().item(), rel=1e-6)
    assert slope.isfinite().all()
    torch.testing.assert_close(slope[1:-1], torch.atanh(t[1:-1]))
    for y in (1e-4, 1e-2, 0.3, 0.9):
        z = torch.tensor([y])
        exact = y * math.tanh(y) - math.log(math.cosh(y))
        if y < 1e-3:
            exact = y * y / 2
        narrow, slope = soft_deficit_(z, torch.tanh(z), 1.0)
        assert narrow.item() == pytest.approx(exact, rel=1e-5)
        assert slope.item() == pytest.approx(1 - math.tanh(y) ** 2, rel=1e-6)
        assert wide_soft_deficit(z, 1.0).item() == pytest.approx(exact, rel=1e-5)
    far = torch.tensor([5.0, -20.0, 1e30])
    assert wide_soft_deficit(far, 1.0).item() == pytest.approx(3 * math.log(2) - 4.994e-4, abs=2e-6)


@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("size", [0.9, 1e-3, 1e-9])
def test_logarithms_of_products_are_as_accurate_as_one_by_one(count: int, size: float):
    x = -size * torch.linspace(1, 0.5, count)
    assert sum_of_logs(x).item() == pytest.approx(torch.log1p(x.double()).sum().item(), rel=1e-6)


def test_the_gradient_is_that_of_the_definition():
    latent = sphere(5, 4).double().requires_grad_()
    for group in (1, 2, 4):
        for weight in (1.0, 0.4):
            objective = lambda z, g=group, w=weight: entropy_objective(z, 3.0, 0.6, g, sample_weight=w).objective  # noqa: E731
            assert torch.autograd.gradcheck(objective, latent)


def test_second_derivatives_are_refused():
    latent = sphere(5, 4).requires_grad_()
    weight = torch.ones((), requires_grad=True)
    loss = weight * per_bit_entropy(latent, 1.0, 1.0).objective
    (gradient,) = torch.autograd.grad(loss, latent, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_nan_is_not_swallowed():
    latent = sphere(6, 4)
    latent[2, 1] = torch.nan
    for group in (1, 2):
        assert entropy_objective(latent, 1.0, 1.0, group).objective.isnan()


@pytest.mark.parametrize("group", [0, 5, 17])
def test_groups_must_fit(group):
    with pytest.raises(SettingsError, match="divide"):
        grouped_entropy(sphere(3, 18), 1.0, 1.0, group)


def _share_of_a_batch(rank: int, port: int, queue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for group in (1, 3):
        terms, gradient = value_and_gradient(entropy_objective, sphere(2, 40, 6, seed=5)[rank], 8.0, 1.0, group)
        queue.put(("entropy", group, rank, terms.code_entropy.item(), gradient.tolist()))
    for update in ("ema", "gradient"):
        torch.manual_seed(0)
        quantizer = VQ(VqSettings(size=8, width=6, update=update, decay=0.5, revive_below=0.5))
        torch.manual_seed(rank)
        for step in range(6):
            quantizer(sphere(2, 40, 6, seed=step)[rank])
        queue.put(("codebook", update, rank, 0.0, quantizer.codebook.tolist()))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_act_as_one():
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workers = [context.Process(target=_share_of_a_batch, args=(rank, port, queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    results = {(what, kind, rank): values for what, kind, rank, *values in (queue.get() for _ in range(8))}
    for worker in workers:
        worker.join()
    for group in (1, 3):
        whole, gradient = value_and_gradient(entropy_objective, sphere(2, 40, 6, seed=5), 8.0, 1.0, group)
        for rank in range(2):
            code_entropy, own = results["entropy", group, rank]
            assert code_entropy == pytest.approx(whole.code_entropy.item(), abs=1e-5)
            # Data parallel divides the sum of gradients by the number of processes.
            torch.testing.assert_close(torch.tensor(own) / 2, gradient[rank], atol=1e-6, rtol=1e-4)
    for update in ("ema", "gradient"):
        assert results["codebook", update, 0] == results["codebook", update, 1]


def test_a_latent_may_lie_in_any_order():
    latent = torch.nn.functional.normalize(torch.randn(1, 18, 8, 8), dim=1).permute(0, 2, 3, 1)
    mine, wanted = (per_bit_entropy(z, 4 / math.sqrt(18), 1.0, 1.0) for z in (latent, latent.contiguous()))
    assert mine.objective == wanted.objective
