"""Systems: pixels come back in their size, bits are counted right, and no picture depends on its batch."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bsq.bench.classical import JpegSettings, WebpSettings
from bsq.bench.video.rivals import X264Settings
from bsq.checkpoint.official import _rename
from bsq.codec.picture import compress
from bsq.data.pictures import to_uint8
from bsq.errors import CheckpointError, NumericsError, SettingsError, ShapeError
from bsq.evaluate.systems.autoencoders import open_dalle, open_diffusers
from bsq.evaluate.systems.base import System
from bsq.evaluate.systems.codecs import AtQuality, AtRate, CodecSystem, LikeSystem
from bsq.evaluate.systems.frames import FrameByFrame
from bsq.evaluate.systems.spec import (
    CodecSpec,
    DiffusersSpec,
    FramesSpec,
    TokenizerSpec,
    open_system,
    parse_named,
    parse_spec,
)
from bsq.evaluate.systems.tokenizers import FileSystem, TokenizerSystem
from bsq.frozen.dalle import DalleDecoder, DalleEncoder, DalleVae
from bsq.quantizers import FsqSettings, KlSettings, VqSettings
from bsq.tokenizer import Tokenizer, TokenizerSettings

GOLDEN = Path(__file__).parent.parent / "golden"


def picture(height: int = 40, width: int = 56, batch: int = 2, frames: int = 1) -> torch.Tensor:
    """Smooth and not grey."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(batch * frames, 3, 5, 7, generator=generator) * 2 - 1
    large = torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(-1, 1)
    return large.view(batch, frames, 3, height, width).transpose(1, 2).contiguous()


def with_quantizer(settings: object) -> Tokenizer:
    torch.manual_seed(0)
    body = {"width": 16, "depth": 1, "head_width": 8}
    content = {"patch": 8, "quantizer": settings, "encoder": body, "decoder": body}
    return Tokenizer(TokenizerSettings.model_validate(content)).eval()


def check(system: System, pixels: torch.Tensor) -> tuple[float, ...]:
    """The same for every system."""
    again = system.reconstruct(pixels)
    assert again.pixels.shape == pixels.shape
    assert again.pixels.dtype is torch.float32
    assert float(again.pixels.abs().max()) <= 1
    assert len(again.bits) == len(pixels)
    alone = system.reconstruct(pixels[1:])
    assert torch.equal(alone.pixels, again.pixels[1:])
    assert alone.bits == again.bits[1:]
    together = system.reconstruct_together(pixels)
    assert together.shape == pixels.shape
    assert float((together - again.pixels).abs().mean()) < 0.02  # roundings may turn a digit
    assert system.description
    assert system.currency in ("code bits", "file bits", "16-bit floats")
    with pytest.raises(NumericsError, match="numbers in"):
        system.reconstruct(pixels * math.nan)
    with pytest.raises(ShapeError, match="expected float pixels"):
        system.reconstruct(pixels[:, :, 0])
    return again.bits


@pytest.mark.parametrize("frames", [1, 3])
def test_tokenizers_count_the_bits_of_their_codes(tiny_tokenizer: Tokenizer, frames: int) -> None:
    pixels = picture(37, 50, frames=frames)
    assert check(TokenizerSystem("tiny@5", tiny_tokenizer, 5), pixels) == (frames * 5 * 7 * 5.0,) * 2
    system = TokenizerSystem("tiny", tiny_tokenizer)
    assert check(system, pixels) == (frames * 5 * 7 * 12.0,) * 2
    assert torch.equal(system.reconstruct(pixels[:1]).pixels, tiny_tokenizer.reconstruct(pixels[:1]))


@pytest.mark.parametrize(
    ("quantizer", "bits"),
    [
        (FsqSettings(levels=(8, 5, 5)), math.log2(200)),
        (VqSettings(size=64, width=4), 6.0),
        (KlSettings(width=4), 64.0),
    ],
)
def test_other_quantizers(quantizer: object, bits: float) -> None:
    assert check(TokenizerSystem("other", with_quantizer(quantizer)), picture()) == pytest.approx((5 * 7 * bits,) * 2)


@pytest.mark.parametrize("frames", [1, 2])
def test_files_count_all_their_bytes(tiny_tokenizer: Tokenizer, frames: int) -> None:
    pixels = picture(frames=frames)
    bits = check(FileSystem("tiny+prior", tiny_tokenizer, 6), pixels)
    if frames == 1:
        assert bits[0] == 8 * len(compress(to_uint8(pixels[:1, :, 0]), tiny_tokenizer, 6))


@pytest.mark.parametrize("aim", ["jpeg@q50", "jpeg2000@1bpp", "webp@q50", "avif@0.5bpp"])
def test_classical_codecs(aim: str) -> None:
    pixels = picture(64, 48)
    bits = check(open_system(aim), pixels)
    if aim.endswith("bpp"):
        rate = float(aim.removesuffix("bpp").partition("@")[2])
        assert all(0.5 * rate * 64 * 48 < spent <= rate * 64 * 48 for spent in bits)


def test_a_clip_through_a_picture_codec_costs_all_its_frames() -> None:
    pixels = picture(frames=3)
    system = open_system("jpeg@q50")
    singles = [system.reconstruct(pixels[:1, :, t : t + 1]).bits[0] for t in range(3)]
    assert system.reconstruct(pixels[:1]).bits == (sum(singles),)


@pytest.mark.parametrize("aim", ["x264@crf30", "x264@0.5bpp"])
def test_video_codecs(aim: str) -> None:
    pixels = picture(64, 64, frames=3)
    bits = check(open_system(aim), pixels)
    if aim.endswith("bpp"):
        assert all(0.3 * 0.5 * 3 * 64 * 64 < spent <= 0.5 * 3 * 64 * 64 for spent in bits)


def test_a_codec_held_to_bits_and_settled_at_a_quality() -> None:
    pixels = picture(64, 48)
    system = open_system("webp@as:other")
    assert isinstance(system, CodecSystem)
    with pytest.raises(SettingsError, match="no system 'other' in this table"):
        system.reconstruct(pixels)
    held = system.within(6000.0)
    found = held.reconstruct(pixels[:1])
    assert 3000 < found.bits[0] <= 6000
    settled = held.settled(pixels[:1])
    assert isinstance(settled.aim, AtQuality)
    again = settled.reconstruct(pixels[:1])
    assert again.bits == found.bits
    assert torch.equal(again.pixels, found.pixels)


def test_frames_alone(tiny_tokenizer: Tokenizer) -> None:
    pixels = picture(frames=3)
    system = FrameByFrame(TokenizerSystem("tiny", tiny_tokenizer))
    bits = check(system, pixels)
    found = system.reconstruct(pixels)
    assert bits == TokenizerSystem("tiny", tiny_tokenizer).reconstruct(pixels).bits
    for t in range(3):
        one = tiny_tokenizer.reconstruct(pixels[1:, :, t : t + 1])
        assert torch.equal(found.pixels[1:, :, t : t + 1], one)
    assert found.codes is not None
    assert found.codes.shape == tiny_tokenizer.encode(pixels).shape


def test_clips_longer_than_a_table_of_frames_go_in_stretches() -> None:
    torch.manual_seed(0)
    places = {"kind": "learned", "rows": 5, "columns": 7, "frames": 2}
    body = {"width": 16, "depth": 1, "head_width": 8, "positions": places, "time": "full"}
    content = {"patch": 8, "quantizer": {"kind": "bsq", "bits": 6}, "encoder": body, "decoder": body}
    model = Tokenizer(TokenizerSettings.model_validate(content)).eval()
    system = TokenizerSystem("tabled", model)
    pixels = picture(frames=3)
    assert check(system, pixels) == (3 * 35 * 6.0,) * 2
    found = system.reconstruct(pixels)
    assert torch.equal(found.pixels[:1, :, :2], model.reconstruct(pixels[:1, :, :2]))
    assert torch.equal(found.pixels[:1, :, 2:], model.reconstruct(pixels[:1, :, 2:]))
    assert found.codes is not None
    assert found.codes.shape == (2, 3, 5, 7, 6)
    assert "full attention" in system.description


def test_names_of_rows() -> None:
    assert parse_named("LFQ=runs/lfq@18").label == "LFQ"
    assert parse_named("LFQ=runs/lfq@18").spec == TokenizerSpec("runs/lfq", 18, False)
    assert parse_named("runs/a=b/model").spec == TokenizerSpec("runs/a=b/model", None, False)
    assert open_system("small=webp@q5").name == "small"


@pytest.mark.parametrize("name", ["AutoencoderKL", "VQModel"])
def test_diffusers_from_a_folder(name: str, tmp_path: Path) -> None:
    models = pytest.importorskip("diffusers.models")
    torch.manual_seed(0)
    shape = {"block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1, "latent_channels": 4}
    shape |= {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    network = getattr(models, name)(**shape, **({"num_vq_embeddings": 32} if name == "VQModel" else {}))
    network.save_pretrained(tmp_path / "vae")
    system = open_diffusers("diffusers:vae", str(tmp_path / "vae"))
    tokens = 20 * 28  # 39 × 56 pixels, padded to 40 × 56, halved
    each = 4 * 16 if name == "AutoencoderKL" else 5
    assert check(system, picture(39, 56)) == pytest.approx((tokens * each,) * 2)
    assert system.parameters == sum(p.numel() for p in network.parameters())
    with torch.no_grad():
        frame = picture()[:1, :, 0]
        encoded = network.eval().encode(frame)
        latent = encoded.latent_dist.mode() if name == "AutoencoderKL" else encoded.latents
        wanted = network.decode(latent).sample.clamp(-1, 1)
    found = system.reconstruct(picture()[:1])
    assert torch.allclose(found.pixels[:, :, 0], wanted, atol=1e-6)
    assert (found.codes is None) == (name == "AutoencoderKL")
    if found.codes is not None:
        assert (found.codes.shape, found.codes.radices) == ((1, 1, 20, 28, 1), (32,))
        chosen = network.quantize.embedding(found.codes.digits[0, ..., 0].long()).permute(0, 3, 1, 2)
        with torch.no_grad():
            again = network.decode(chosen, force_not_quantize=True).sample.clamp(-1, 1)
        assert torch.allclose(again, wanted, atol=1e-5)


def test_diffusers_in_a_subfolder_and_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("diffusers.models")
    shape = {"block_out_channels": (8,), "norm_num_groups": 4, "layers_per_block": 1, "latent_channels": 4}
    models.AutoencoderKL(**shape).save_pretrained(tmp_path / "pipeline" / "vae")
    assert open_diffusers("x", str(tmp_path / "pipeline")).currency == "16-bit floats"
    asked = []

    def fetched(repository: str, allow_patterns: list[str]) -> str:
        asked.append((repository, *allow_patterns))
        return str(tmp_path / "pipeline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    assert open_diffusers("x", "owner/name/vae").stride == 1
    assert asked == [("owner/name", "vae/config.json", "vae/diffusion_pytorch_model*.safetensors")]


def test_a_hub_that_cannot_be_reached() -> None:
    with pytest.raises(CheckpointError, match="no folder 'nobody/nothing', and the hub did not give it"):
        open_diffusers("x", "nobody/nothing")


def test_pickled_weights_of_diffusers_are_not_read(tmp_path: Path) -> None:
    models = pytest.importorskip("diffusers.models")
    shape = {"block_out_channels": (8,), "norm_num_groups": 4, "layers_per_block": 1, "latent_channels": 4}
    models.AutoencoderKL(**shape).save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(CheckpointError, match="cannot be read as a AutoencoderKL"):
        open_diffusers("x", str(tmp_path))


def test_what_is_no_diffusers_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        open_diffusers("x", str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(CheckpointError, match="UNet2DModel"):
        open_diffusers("x", str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(CheckpointError, match="cannot be read as a AutoencoderKL"):
        open_diffusers("x", str(tmp_path))


def pickle_as_published(folder: Path, network: DalleVae) -> None:
    """Whole modules of classes of another package, as the published files are; in another process: unknown here."""
    torch.save(network.state_dict(), folder / "tensors.pt")
    script = textwrap.dedent("""
        import sys, types, torch
        import bsq.frozen.dalle as ours
        folder = sys.argv[1]
        network = ours.DalleVae(ours.DalleEncoder(8, 16), ours.DalleDecoder(8, 16, 8))
        network.load_state_dict(torch.load(folder + "/tensors.pt", weights_only=True))
        for name, part in (("encoder", network.encoder), ("decoder", network.decoder)):
            module = types.ModuleType("dall_e." + name)
            sys.modules["dall_e"] = types.ModuleType("dall_e")
            sys.modules[module.__name__] = module
            for kind in {type(m) for m in part.modules() if type(m).__module__ == "bsq.frozen.dalle"}:
                renamed = type(kind.__name__, (kind,), {"__module__": module.__name__})
                setattr(module, kind.__name__, renamed)
                for m in part.modules():
                    if type(m) is kind:
                        m.__class__ = renamed
            torch.save(part, f"{folder}/{name}.pkl")
    """)
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)


def test_dalle_from_pickled_modules(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DalleVae(DalleEncoder(8, 16), DalleDecoder(8, 16, 8)).eval()
    pickle_as_published(tmp_path, network)
    assert b"dall_e.encoder" in (tmp_path / "encoder.pkl").read_bytes()
    system = open_dalle("dalle:folder", tmp_path)
    assert check(system, picture(40, 53)) == (5 * 7 * 4.0,) * 2
    frame = picture()[:1, :, 0]
    codes = network.encode((frame + 1) / 2)
    found = system.reconstruct(picture()[:1])
    assert torch.allclose(found.pixels[:, :, 0], network.decode(codes) * 2 - 1, atol=1e-6)
    assert found.codes is not None
    assert found.codes.radices == (16,)
    assert torch.equal(found.codes.digits[:, 0, ..., 0].long(), codes)
    assert system.reconstruct(picture(frames=3)).codes.shape == (2, 3, 5, 7, 1)
    (tmp_path / "decoder.pkl").write_bytes((tmp_path / "encoder.pkl").read_bytes())
    with pytest.raises(CheckpointError, match=r"decoder\.pkl"):
        open_dalle("dalle:folder", tmp_path)
    (tmp_path / "encoder.pkl").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a torch checkpoint"):
        open_dalle("dalle:folder", tmp_path)


def test_the_published_sizes_of_dalle() -> None:
    """98 M parameters in all (PAPER: table of reconstructions), names as in the released code."""
    with torch.device("meta"):
        network = DalleVae(DalleEncoder(), DalleDecoder())
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(98e6, rel=0.01)
    names = set(network.encoder.state_dict())
    assert {"blocks.input.w", "blocks.group_2.block_1.id_path.w", "blocks.group_4.block_2.res_path.conv_4.b"} <= names
    assert "blocks.output.conv.w" in names
    assert network.decoder.state_dict()["blocks.output.conv.w"].shape == (6, 256, 1, 1)


def test_the_authors_checkpoint(tmp_path: Path) -> None:
    """A model of ours under the authors' names, which a golden file tells; their own is too narrow for whole heads."""
    names = [name for name in load_file(GOLDEN / "official_image_b18_group9.safetensors") if name.startswith("state")]
    depth = 1 + max(int(number) for name in names for number in re.findall(r"resblocks\.(\d+)", name))
    body = {"width": 64, "depth": depth, "positions": {"kind": "learned", "rows": 2, "columns": 2}}
    content = {"patch": 8, "quantizer": {"kind": "bsq", "bits": 18}, "encoder": body, "decoder": body}
    model = Tokenizer(TokenizerSettings.model_validate(content)).eval()
    ours = model.state_dict()
    renamed = {name: _rename(name.removeprefix("state_dict.module.")) for name in names}
    save_file({name: ours[mine] for name, mine in renamed.items() if mine in ours}, tmp_path / "official.safetensors")
    system = open_system(f"official:{tmp_path / 'official.safetensors'}@9")
    assert check(system, picture(16, 16)) == (4 * 9.0,) * 2
    assert torch.equal(system.reconstruct(picture(16, 16)).pixels[:1], model.reconstruct(picture(16, 16)[:1], 9))


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("biscuit-s@18", TokenizerSpec("biscuit-s", 18, False)),
        ("runs/a@b/model@36+prior", TokenizerSpec("runs/a@b/model", 36, True)),
        ("biscuit-s+prior", TokenizerSpec("biscuit-s", None, True)),
        ("biscuit-s@18+search40", TokenizerSpec("biscuit-s", 18, False, 40)),
        ("biscuit-s@18+prior+search40", TokenizerSpec("biscuit-s", 18, True, 40)),
        ("runs/a+search/model@9", TokenizerSpec("runs/a+search/model", 9, False)),
        ("diffusers:stabilityai/sd-vae-ft-mse", DiffusersSpec("stabilityai/sd-vae-ft-mse")),
        ("webp@q75", CodecSpec(WebpSettings(), AtQuality(75.0))),
        ("jpeg@0.28bpp", CodecSpec(JpegSettings(), AtRate(0.28))),
        ("jpeg@as:biscuit-s@18+prior", CodecSpec(JpegSettings(), LikeSystem("biscuit-s@18+prior"))),
        ("x264@crf23.5", CodecSpec(X264Settings(), AtQuality(-23.5))),
        ("biscuit-s@9+frames", FramesSpec(TokenizerSpec("biscuit-s", 9, False))),
    ],
)
def test_names_of_systems(text: str, spec: object) -> None:
    assert parse_spec(text) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there are a tokenizer"),
        ("biscuit-s@0", "a number of digits"),
        ("biscuit-s@many", "a number of digits"),
        ("biscuit-s@18+search01", r"\+searchN"),
        ("biscuit-s@18+search", r"\+searchN"),
        ("biscuit-s@18+search4+prior", "in this order"),
        ("webp", "needs a quality, a rate"),
        ("webp@best", "needs a quality, a rate"),
        ("jpeg@q500", r"qualities 1 to 95 \(@q48\), got quality 500"),
        ("jpeg@crf23", r"qualities 1 to 95 \(@q48\), got CRF 23"),
        ("x264@q20", r"CRFs 1 to 51 \(@crf26\), got quality 20"),
        ("jpeg@0bpp", "above 0"),
        ("biscuit-s@99", "has 36 digits"),
    ],
)
def test_what_is_no_system(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        open_system(text)


def test_an_unknown_model_is_told_what_there_is() -> None:
    with pytest.raises(CheckpointError, match=r"Systems are a tokenizer"):
        open_system("nosuchmodel@18")
