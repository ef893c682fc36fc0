"""Every quantizer in the same tokenizer: trains under bfloat16 autocast, makes codes, reconstructs."""

import pytest
import torch

from bsq.codes import Codes
from bsq.errors import NumericsError, RangeError, SettingsError
from bsq.layers.positions import LearnedPositionsSettings
from bsq.layers.windows import WindowAttentionSettings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.transformer import TransformerSettings

KINDS = {
    "bsq": {"kind": "bsq", "bits": 12},
    "lfq": {"kind": "lfq", "bits": 12},
    "fsq": {"kind": "fsq", "levels": [8, 5, 5]},
    "vq": {"kind": "vq", "size": 64, "width": 8},
    "vq-gradient": {"kind": "vq", "size": 64, "width": 8, "update": "gradient", "metric": "cosine"},
    "gumbel": {"kind": "gumbel", "size": 64, "width": 8},
    "kl": {"kind": "kl", "width": 4},
}
DISCRETE = [name for name in KINDS if name != "kl"]


def build(name, **changes):
    body = {"width": 32, "depth": 2, "head_width": 16, "attention": WindowAttentionSettings(size=4), **changes}
    part = TransformerSettings(**body)
    content = {"quantizer": KINDS[name], "encoder": part, "decoder": part}
    torch.manual_seed(0)
    return Tokenizer(TokenizerSettings.model_validate(content))


@pytest.mark.parametrize("name", KINDS)
def test_trains_under_autocast(name):
    tokenizer = build(name).train()
    pixels = torch.rand(2, 3, 1, 32, 32) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        out = tokenizer(pixels)
    terms = out.quantized.terms
    loss = (out.pixels.float() - pixels).square().mean() + terms.entropy + terms.commitment + terms.codebook + terms.kl
    assert terms.entropy.dtype == torch.float32
    loss.backward()
    for part in (tokenizer.encoder, tokenizer.decoder):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
    assert tokenizer.encoder.embed.weight.grad.abs().max() > 0


@pytest.mark.parametrize("name", DISCRETE)
def test_codes_say_all_that_the_decoder_needs(name):
    tokenizer = build(name).eval()
    pixels = torch.rand(1, 3, 20, 27) * 2 - 1
    codes = tokenizer.encode(pixels)
    assert codes.radices == tokenizer.radices
    again = Codes.unpack(codes.pack(), codes.shape[:4], codes.radices)
    assert torch.equal(tokenizer.decode(again, (20, 27))[:, :, 0], tokenizer.reconstruct(pixels))
    assert tokenizer.reconstruct(pixels).shape == pixels.shape


def test_a_continuous_latent_reconstructs_and_makes_no_codes():
    tokenizer = build("kl").eval()
    pixels = torch.rand(1, 3, 20, 27) * 2 - 1
    first, second = tokenizer.reconstruct(pixels), tokenizer.reconstruct(pixels)
    assert first.shape == pixels.shape
    assert torch.equal(first, second)
    with pytest.raises(SettingsError, match="continuous latent and makes no codes"):
        tokenizer.encode(pixels)
    with pytest.raises(SettingsError, match="no bits to choose"):
        tokenizer.reconstruct(pixels, bits=4)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_continuous_latent_reconstructs_through_its_mean_in_either_mode(mode):
    tokenizer = build("kl")
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    through_mean = tokenizer.eval()(pixels[:, :, None]).pixels[:, :, 0].clamp(-1, 1)
    torch.testing.assert_close(tokenizer.train(mode == "train").reconstruct(pixels), through_mean)


def test_a_continuous_latent_takes_any_size_with_learned_positions():
    tokenizer = build("kl", positions=LearnedPositionsSettings(rows=3, columns=2)).eval()
    for size in ((5, 7), (24, 16), (50, 33)):
        assert tokenizer.reconstruct(torch.zeros(1, 3, *size)).shape == (1, 3, *size)


def test_a_continuous_latent_refuses_the_pixels_that_codes_refuse():
    for bad, error in ((float("nan"), NumericsError), (200.0, RangeError)):
        with pytest.raises(error):
            build("kl").reconstruct(torch.full((1, 3, 8, 8), bad))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", KINDS)
def test_weights_may_be_of_any_floating_point_type(name, dtype):
    tokenizer = build(name).eval().to(dtype)
    again = tokenizer.reconstruct(torch.rand(1, 3, 20, 27) * 2 - 1)
    assert again.dtype == torch.float32
    assert again.shape == (1, 3, 20, 27)
