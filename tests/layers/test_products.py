"""Every fast path equals the plain form: values, gradients, and bits that depend on nothing beside a row."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bsq.layers.attention import attend_plain
from bsq.layers.block import Mlp
from bsq.layers.by_head import FEWEST_SCORES, attend_by_head, goes_by_head
from bsq.layers.products import Linear, by_onednn, linear, plain_products, ready, rounds_rows_alike

BF16 = torch.bfloat16
needs_onednn = pytest.mark.skipif(
    not by_onednn(torch.ones(1, 1), torch.ones(1, 1), torch.float32), reason="torch without oneDNN for x86"
)
needs_bf16 = pytest.mark.skipif(not by_onednn(torch.ones(1, 1), torch.ones(1, 1), BF16), reason="no bfloat16 products")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def close(got: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    scale = 2e-6 if dtype is torch.float32 else 2e-2
    got, wanted = got.detach().float(), wanted.detach()
    assert float((got - wanted).abs().max()) <= scale * float(wanted.abs().max()) + 1e-7


def test_plain_products_are_those_of_torch() -> None:
    layer, tokens = Linear(48, 20), torch.randn(7, 48)
    with plain_products():
        assert not by_onednn(tokens, layer.weight, torch.float32)
        assert layer(tokens).equal(F.linear(tokens, layer.weight, layer.bias))
        with pytest.raises(KeyError), plain_products():
            raise KeyError
        assert not by_onednn(tokens, layer.weight, torch.float32)
    assert needs_onednn.args[0] or by_onednn(tokens, layer.weight, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(BF16, marks=needs_bf16)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(48,), (1, 48), (2, 3, 48)])
def test_a_linear_map_is_the_plain_one(dtype: torch.dtype, bias: bool, shape: tuple[int, ...]) -> None:
    layer, tokens = Linear(48, 20, bias), torch.randn(shape)
    wanted = F.linear(tokens, layer.weight, layer.bias)
    with torch.no_grad():
        got = copy.deepcopy(layer).to(dtype)(tokens.to(dtype))
    assert got.dtype == dtype
    close(got, wanted, dtype)


@pytest.mark.parametrize("short", [False, pytest.param(True, marks=needs_bf16)])
@pytest.mark.parametrize("of_tokens", [True, False])
def test_gradients_are_those_of_plain_autograd(short: bool, of_tokens: bool) -> None:
    """The reference is float32 throughout; under autocast gradients come back in float32."""
    layer, tokens = Mlp(16, 64), torch.randn(2, 5, 16, requires_grad=of_tokens)
    upstream, inputs = torch.randn(2, 5, 16), [*layer.parameters(), *([tokens] if of_tokens else [])]
    plain = F.linear(F.gelu(F.linear(tokens, layer.up.weight, layer.up.bias)), layer.down.weight, layer.down.bias)
    wanted = torch.autograd.grad(plain, inputs, upstream)
    with torch.autocast("cpu", BF16, enabled=short):
        out = layer(tokens)
        apart = layer.down(F.gelu(layer.up(tokens)))
    dtype = BF16 if short else torch.float32
    assert out.dtype == apart.dtype == dtype
    for form in (out, apart):
        for got, want in zip(torch.autograd.grad(form, inputs, upstream.to(dtype)), wanted, strict=True):
            assert got.dtype == torch.float32
            close(got, want, dtype)


def test_only_what_is_wanted_gets_a_gradient() -> None:
    layer = Mlp(16, 32)
    layer.up.weight.requires_grad_(False)
    layer.down.bias.requires_grad_(False)
    layer(torch.randn(3, 16)).sum().backward()
    assert layer.up.weight.grad is None
    assert layer.down.bias.grad is None
    assert layer.up.bias.grad is not None
    assert layer.down.weight.grad is not None


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inner", [36, 192, 768])
def test_a_row_has_the_same_bits_among_any_others(inner: int, dtype: torch.dtype) -> None:
    """Which `F.linear` does not promise. So codes do not depend on batches, threads or laid-out weights."""
    layer, tokens = Linear(inner, 96).to(dtype), torch.randn(256, inner).to(dtype)
    if not (by_onednn(tokens, layer.weight, dtype) and rounds_rows_alike(dtype)):
        pytest.skip("not promised on this processor")
    threads = torch.get_num_threads()
    with torch.no_grad():
        whole = layer(tokens)
        for rows in (1, 2, 3, 7, 8, 31, 100, 255):
            assert torch.equal(layer(tokens[:rows]), whole[:rows])
            assert torch.equal(layer(tokens[256 - rows :]), whole[256 - rows :])
        try:
            torch.set_num_threads(1 if threads > 1 else 2)
            assert torch.equal(layer(tokens), whole)
        finally:
            torch.set_num_threads(threads)
        layer.lay_out()
        assert ready(layer.weight, layer.laid_out, dtype).is_mkldnn
        assert torch.equal(layer(tokens), whole)
        assert torch.equal(layer(tokens[:1]), whole[:1])


@needs_onednn
def test_a_laid_out_weight_is_forgotten_when_it_changes() -> None:
    layer, tokens = Linear(8, 8), torch.randn(4, 8)
    changes = (
        lambda: layer.weight.add_(1),
        lambda: layer.load_state_dict({"weight": torch.ones(8, 8), "bias": torch.ones(8)}),
        lambda: layer.double(),
    )
    with torch.no_grad():
        for change in changes:
            layer.lay_out()
            change()
            assert ready(layer.weight, layer.laid_out, layer.weight.dtype) is layer.weight
            tokens = tokens.to(layer.weight.dtype)
            torch.testing.assert_close(layer(tokens), F.linear(tokens, layer.weight, layer.bias))


@needs_bf16
def test_a_laid_out_weight_serves_its_own_dtype_and_no_compiler() -> None:
    layer, tokens = Mlp(8, 16), torch.randn(4, 8)
    for part in (layer.up, layer.down):
        part.lay_out()
    with torch.no_grad():
        wanted = layer(tokens)
        with torch.autocast("cpu", BF16):
            close(layer(tokens), wanted, BF16)
        torch.testing.assert_close(torch.compile(layer, backend="eager")(tokens), wanted)


@needs_onednn
def test_copies_and_pickles_are_plain() -> None:
    layer = Linear(8, 8)
    layer.lay_out()
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert again.laid_out is None
        assert torch.equal(again.weight, layer.weight)


def test_other_dtypes_devices_and_compilers_take_the_plain_form() -> None:
    tokens, weight = torch.randn(3, 4), torch.randn(5, 4)
    assert torch.equal(linear(tokens.double(), weight.double(), None), F.linear(tokens.double(), weight.double()))
    assert linear(tokens.to("meta"), weight.to("meta"), None).shape == (3, 5)
    assert linear(tokens[:0], weight, None).shape == (0, 5)
    exported = torch.export.export(Linear(4, 5), (tokens,))
    assert not any("mkldnn" in str(node.target) for node in exported.graph.nodes)


@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.float32, marks=needs_onednn), pytest.param(BF16, marks=needs_bf16)]
)
@pytest.mark.parametrize("tokens", [(256, 256), (200, 700)])
def test_attention_by_head_is_the_plain_one(dtype: torch.dtype, tokens: tuple[int, int]) -> None:
    heads = 5
    q = torch.randn(2, tokens[0], heads, 16).transpose(1, 2)
    k, v = (torch.randn(2, tokens[1], heads, 16).transpose(1, 2) for _ in range(2))
    assert goes_by_head(q.to(dtype), k.to(dtype), v.to(dtype))
    got = attend_by_head(q.to(dtype), k.to(dtype), v.to(dtype))
    close(got, attend_plain(q, k, v, None), dtype)
    alone = attend_by_head(q[1:].to(dtype), k[1:].to(dtype), v[1:].to(dtype))
    assert torch.equal(got[1:], alone)


@needs_bf16
@pytest.mark.parametrize("tokens", [(256, 256), (1200, 1000)])
def test_attention_by_head_has_the_plain_gradients(tokens: tuple[int, int]) -> None:
    """The larger takes two heads at once, and one is left over."""
    q = torch.randn(2, 5, tokens[0], 16, requires_grad=True)
    k, v = (torch.randn(2, 5, tokens[1], 16, requires_grad=True) for _ in range(2))
    upstream = torch.randn(2, 5, tokens[0], 16)
    wanted = torch.autograd.grad(attend_plain(q, k, v, None), (q, k, v), upstream)
    mixed = attend_by_head(q.to(BF16), k.to(BF16), v.to(BF16))
    for got, want in zip(torch.autograd.grad(mixed, (q, k, v), upstream.to(BF16)), wanted, strict=True):
        close(got, want, BF16)


def test_small_attention_and_gradients_in_float32_go_elsewhere() -> None:
    q = torch.randn(1, 4, 256, 8)
    assert FEWEST_SCORES == 4 * 256 * 256
    assert not goes_by_head(q[:, :, :255], q, q)
    assert not goes_by_head(q, q, q.clone().requires_grad_())
    assert not goes_by_head(q.double(), q.double(), q.double())
