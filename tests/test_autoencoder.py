"""A tokenizer in diffusers' place for an autoencoder, beside diffusers' own, and in its pipelines."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from itertools import islice
from typing import Any

import pytest
import torch

import bsq
from bsq.autoencoder import Autoencoder, nearest_digits
from bsq.errors import NumericsError, SettingsError, ShapeError
from bsq.quantizers import build_quantizer
from bsq.tokenizer import Tokenizer, TokenizerSettings

QUANTIZERS = (
    {"kind": "bsq", "bits": 12},
    {"kind": "lfq", "bits": 12},
    {"kind": "fsq", "levels": (8, 5, 300, 3)},
    {"kind": "vq", "size": 512, "width": 6},
    {"kind": "vq", "size": 64, "width": 6, "metric": "cosine"},
    {"kind": "gumbel", "size": 64, "width": 6},
)


def tokenizer_with(quantizer: dict[str, Any], **changes: Any) -> Tokenizer:
    torch.manual_seed(0)
    sides = {"width": 32, "depth": 1, "head_width": 16}
    settings = {"patch": 8, "quantizer": quantizer, "encoder": sides, "decoder": sides} | changes
    return Tokenizer(TokenizerSettings.model_validate(settings)).eval()


def pictures(*size: int) -> torch.Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def named(names: Any) -> list[str]:
    return [name for name in names if name != "self"]


def test_the_doors_are_those_of_diffusers() -> None:
    """The same arguments by the same names, in the same places: those of AutoencoderKL, and what outputs are called."""
    diffusers = pytest.importorskip("diffusers")
    for door in ("encode", "decode"):
        theirs = named(inspect.signature(getattr(diffusers.AutoencoderKL, door)).parameters)
        assert named(inspect.signature(getattr(Autoencoder, door)).parameters) == theirs
    from diffusers.models.autoencoders.vae import DecoderOutput
    from diffusers.models.autoencoders.vq_model import VQEncoderOutput
    from diffusers.models.modeling_outputs import AutoencoderKLOutput

    ours = Autoencoder(tokenizer_with(QUANTIZERS[0]))
    encoded = ours.encode(pictures(1, 3, 16, 16))
    for theirs in (VQEncoderOutput, AutoencoderKLOutput):
        assert all(hasattr(encoded, field) for field in theirs.__dataclass_fields__)
    assert ours.decode(encoded.latents)._fields[0] == next(iter(DecoderOutput.__dataclass_fields__))


def test_diffusers_is_not_needed() -> None:
    script = "import sys; sys.modules['diffusers'] = None; import bsq; print(bsq.Autoencoder.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "Autoencoder\n", done.stderr


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda one: one["kind"])
def test_latents_are_the_codes_and_samples_the_pictures(quantizer: dict[str, Any]) -> None:
    tokenizer = tokenizer_with(quantizer)
    ours, pixels = Autoencoder(tokenizer), pictures(2, 3, 40, 24)
    encoded = ours.encode(pixels)
    assert encoded.latents.shape == (2, ours.config.latent_channels, 5, 3)
    assert torch.equal(encoded.latents, tokenizer.quantizer.lookup(tokenizer.encode(pixels).digits)[:, 0].movedim(3, 1))
    for latents in (encoded.latent_dist.mode(), encoded.latent_dist.sample(torch.Generator()), ours.encode(pixels)[0]):
        assert torch.equal(latents, encoded.latents)
    assert torch.equal(ours.decode(encoded.latents).sample, tokenizer.reconstruct(pixels))
    (sample,) = ours.decode(*ours.encode(pixels, return_dict=False), return_dict=False)
    assert torch.equal(sample, ours(pixels).sample)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda one: one["kind"])
def test_what_lies_near_a_code_is_that_code(quantizer: dict[str, Any]) -> None:
    torch.manual_seed(1)
    built = build_quantizer(TokenizerSettings.model_validate({"quantizer": quantizer}).quantizer)
    digits = torch.stack([torch.randint(radix, (50,)) for radix in built.radices], -1)
    codes = built.lookup(digits)
    assert torch.equal(nearest_digits(built, codes).long(), digits)
    assert torch.equal(nearest_digits(built, codes + 1e-4 * torch.randn_like(codes)).long(), digits)
    far = nearest_digits(built, 100 * torch.randn(50, built.code_width))  # beyond the outermost levels, too
    assert all(int(far[:, i].max()) < radix for i, radix in enumerate(built.radices))


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda one: one["kind"])
def test_scaled_latents_of_equally_frequent_codes_have_a_spread_of_one(quantizer: dict[str, Any]) -> None:
    ours = Autoencoder(tokenizer_with(quantizer))
    torch.manual_seed(2)
    digits = torch.stack([torch.randint(radix, (40_000,)) for radix in ours.tokenizer.radices], -1)
    # Each channel about its own mean: a codebook's may differ, and are part of its spread.
    scaled = ours.tokenizer.quantizer.lookup(digits) * ours.config.scaling_factor
    assert float(scaled.detach().var(0).mean()) == pytest.approx(1, abs=0.05)


def test_the_first_bits_alone() -> None:
    tokenizer = tokenizer_with(QUANTIZERS[0])
    ours, pixels = Autoencoder(tokenizer, bits=5), pictures(1, 3, 16, 16)
    latents = ours.encode(pixels).latents
    assert latents.shape == (1, 5, 2, 2)
    assert ours.config["latent_channels"] == 5
    assert torch.equal(ours.decode(latents).sample, tokenizer.reconstruct(pixels, bits=5))
    assert ours.config.scaling_factor == pytest.approx(math.sqrt(12))
    assert (latents * ours.config.scaling_factor).abs().allclose(torch.ones(()))


def test_clips_keep_their_frames() -> None:
    tokenizer = tokenizer_with(QUANTIZERS[0])
    ours, clip = Autoencoder(tokenizer), pictures(1, 3, 4, 16, 24)
    latents = ours.encode(clip).latents
    assert latents.shape == (1, 12, 4, 2, 3)
    assert torch.equal(ours.decode(latents).sample, tokenizer.reconstruct(clip))


def test_what_pipelines_read() -> None:
    config = Autoencoder(tokenizer_with(QUANTIZERS[0])).config
    assert 2 ** (len(config.block_out_channels) - 1) == config.spatial_compression_ratio == 8
    assert config.get("nothing") is None
    with pytest.raises(AttributeError, match="no 'nothing'; it has in_channels"):
        _ = config.nothing
    assert "block_out_channels" not in Autoencoder(tokenizer_with(QUANTIZERS[0], patch=6)).config


def test_half_precision_comes_back_in_half_precision() -> None:
    ours = Autoencoder(tokenizer_with(QUANTIZERS[0])).to(torch.bfloat16)
    latents = ours.encode(pictures(1, 3, 16, 16).to(torch.bfloat16)).latents
    assert latents.dtype == ours.decode(latents).sample.dtype == ours.dtype == torch.bfloat16
    assert ours.device.type == "cpu"


def test_bad_requests() -> None:
    with pytest.raises(SettingsError, match="continuous latent"):
        Autoencoder(tokenizer_with({"kind": "kl"}))
    with pytest.raises(SettingsError, match="1 to 12"):
        Autoencoder(tokenizer_with(QUANTIZERS[0]), bits=13)
    ours = Autoencoder(tokenizer_with(QUANTIZERS[0]), bits=5)
    for wrong in (torch.zeros(1, 12, 2, 2), torch.zeros(5, 2, 2), torch.zeros(1, 5, 2, 2, dtype=torch.uint8)):
        with pytest.raises(ShapeError, match=r"latents must be float \(B, 5, h, w\)"):
            ours.decode(wrong)
    with pytest.raises(NumericsError):
        ours.decode(torch.full((1, 5, 2, 2), torch.nan))


def test_a_latent_diffusion_model_learns_and_samples() -> None:
    """The loop of diffusers' training scripts, then its own pipeline, on the model in the package."""
    diffusers = pytest.importorskip("diffusers")
    vae = bsq.Autoencoder.from_pretrained("biscuit-s", bits=9)
    vae.requires_grad_(False)
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        block_out_channels=(32,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=8,
    )
    scheduler = diffusers.DDIMScheduler()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=2e-3)
    losses = []
    for pixels in islice(iter(lambda: pictures(4, 3, 64, 64), None), 30):
        latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
        noise, steps = torch.randn_like(latents), torch.randint(1000, (len(latents),))
        noised = scheduler.add_noise(latents, noise, steps)
        loss = torch.nn.functional.mse_loss(unet(noised, steps, return_dict=False)[0], noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])

    pipeline = diffusers.LDMPipeline(vqvae=vae, unet=unet, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(batch_size=2, num_inference_steps=3, output_type="np").images
    assert drawn.shape == (2, 64, 64, 3)
    assert 0 <= drawn.min() < drawn.max() <= 1


def test_a_transformer_pipeline_takes_it() -> None:
    diffusers = pytest.importorskip("diffusers")
    vae = bsq.Autoencoder.from_pretrained("biscuit-s", bits=9)
    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=vae.config.latent_channels,
        out_channels=2 * vae.config.latent_channels,
        num_layers=1,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
        norm_num_groups=8,
    )
    pipeline = diffusers.DiTPipeline(transformer, vae, diffusers.DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline([3], num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)).images
    assert drawn.shape == (1, 64, 64, 3)
