import errno
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

import bsq
from bsq.checkpoint import load
from bsq.codes import Codes
from bsq.errors import CheckpointError, CodesError, NumericsError, RangeError, SettingsError, ShapeError
from bsq.layers.positions import LearnedPositionsSettings, RotaryPositionsSettings
from bsq.layers.windows import FullAttentionSettings, WindowAttentionSettings
from bsq.pixels import pad_to
from bsq.quantizers import (
    BsqSettings,
    FsqSettings,
    GumbelSettings,
    KlSettings,
    QuantizerSettings,
    VqSettings,
)
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.decoder import DecoderSettings
from bsq.vit.refiner import RefinerSettings
from bsq.vit.transformer import TransformerSettings


def build(bits=12, **changes):
    body = {"width": 32, "depth": 2, "head_width": 16, "attention": WindowAttentionSettings(size=4), **changes}
    part = TransformerSettings(**body)
    torch.manual_seed(0)
    return Tokenizer(TokenizerSettings(quantizer=BsqSettings(bits=bits), encoder=part, decoder=part)).eval()


ROTARY = build()
LEARNED = build(positions=LearnedPositionsSettings(rows=3, columns=2), attention=FullAttentionSettings())


@pytest.mark.parametrize("size", [(128, 64), (64, 128), (185, 57), (320, 8)])
def test_pictures_one_window_wide_are_as_in_training(size: tuple[int, int]) -> None:
    """Where all frames go through a block together, and windows are not written to in place."""
    model, pixels = bsq.load("biscuit-s"), torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    padded = pad_to(pixels[:, :, None], *(8 * count for count in model.grid(*size)))
    with torch.enable_grad():
        wanted = model.encoder(padded)
    torch.testing.assert_close(model.latent(pixels), wanted.detach(), rtol=0, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), frames=st.integers(1, 2), k=st.integers(1, 12))
def test_any_size_and_any_number_of_bits(height, width, frames, k):
    pixels = torch.rand(1, 3, frames, height, width) * 2 - 1
    codes = ROTARY.encode(pixels, bits=k)
    assert codes.shape == (1, frames, -(-height // 8), -(-width // 8), k)
    again = ROTARY.decode(codes, (height, width))
    assert again.shape == pixels.shape
    assert again.dtype == torch.float32
    assert again.abs().max() <= 1


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_learned_positions_take_any_size_by_tiles(height, width):
    pixels = torch.rand(1, 3, height, width) * 2 - 1
    codes = LEARNED.encode(pixels)
    assert codes.shape[2:4] == LEARNED.grid(height, width) == (max(3, -(-height // 8)), max(2, -(-width // 8)))
    assert LEARNED.reconstruct(pixels).shape == pixels.shape


def test_one_tile_is_the_bare_model():
    pixels = torch.rand(2, 3, 1, 24, 16) * 2 - 1
    codes = LEARNED.encode(pixels)
    assert torch.equal(codes.digits, LEARNED.quantizer.digits(LEARNED.encoder(pixels)))
    bare = LEARNED.decoder(LEARNED.quantizer.lookup(codes.digits)).clamp(-1, 1)
    assert torch.equal(LEARNED.decode(codes), bare)


def test_tiles_are_encoded_each_alone_and_the_last_is_flush():
    pixels = torch.rand(1, 3, 1, 40, 16) * 2 - 1
    codes = LEARNED.encode(pixels)
    assert torch.equal(codes.digits[:, :, 2:5], LEARNED.encode(pixels[..., 16:40, :]).digits)
    assert torch.equal(codes.digits[:, :, :2], LEARNED.encode(pixels[..., :24, :]).digits[:, :, :2])


def test_blending_reproduces_what_all_tiles_agree_on(monkeypatch):
    codes = LEARNED.encode(torch.rand(1, 3, 64, 48) * 2 - 1)
    monkeypatch.setattr(LEARNED.decoder, "forward", lambda q, past: torch.full((1, 3, 1, 24, 16), 0.25))
    torch.testing.assert_close(LEARNED.decode(codes), torch.full((1, 3, 1, 64, 48), 0.25))


def test_the_edge_is_repeated_into_the_padding():
    pixels = torch.rand(1, 3, 10, 13) * 2 - 1
    whole = torch.nn.functional.pad(pixels, (0, 3, 0, 6), mode="replicate")
    assert ROTARY.encode(pixels) == ROTARY.encode(whole)


def test_pictures_and_one_frame_clips_are_the_same():
    pixels = torch.rand(2, 3, 20, 20) * 2 - 1
    assert ROTARY.encode(pixels) == ROTARY.encode(pixels[:, :, None])
    picture, clip = ROTARY.reconstruct(pixels), ROTARY.reconstruct(pixels[:, :, None])
    assert picture.shape == pixels.shape
    assert torch.equal(picture, clip[:, :, 0])


def test_a_frame_depends_on_no_later_frame():
    pixels = torch.rand(1, 3, 4, 24, 24) * 2 - 1
    changed = pixels.clone()
    changed[:, :, 2] = -changed[:, :, 2]
    before, after = ROTARY.encode(pixels), ROTARY.encode(changed)
    assert torch.equal(before.digits[:, :2], after.digits[:, :2])
    assert not torch.equal(before.digits[:, 2], after.digits[:, 2])
    assert torch.equal(ROTARY.decode(before)[:, :, :2], ROTARY.decode(after)[:, :, :2])


def test_fewer_bits_are_a_prefix_of_all():
    pixels = torch.rand(1, 3, 20, 20) * 2 - 1
    assert ROTARY.encode(pixels, bits=5) == ROTARY.encode(pixels).first(5)
    zeros = ROTARY.quantizer.lookup(ROTARY.encode(pixels).digits)
    zeros[..., 5:] = 0
    assert torch.equal(ROTARY.decode(ROTARY.encode(pixels, bits=5)), ROTARY.decoder(zeros).clamp(-1, 1))


def test_training_keeps_the_digits_it_is_told():
    pixels = torch.rand(2, 3, 1, 16, 16) * 2 - 1
    out = ROTARY(pixels, torch.tensor([3, 12]))
    assert (out.quantized.quantized[0, ..., 3:] == 0).all()
    assert (out.quantized.quantized[1] != 0).all()
    out.pixels.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ROTARY.parameters())
    ROTARY.zero_grad()


@pytest.mark.parametrize(
    ("pixels", "error"),
    [
        (torch.zeros(8), ShapeError),
        (torch.zeros(1, 3, 8, 8).numpy(), ShapeError),
        (torch.zeros(3, 8, 8), ShapeError),
        (torch.zeros(1, 1, 8, 8), ShapeError),
        (torch.zeros(1, 3, 0, 8), ShapeError),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ShapeError),
        (torch.full((1, 3, 8, 8), float("nan")), NumericsError),
        (torch.full((1, 3, 8, 8), float("inf")), NumericsError),
        (torch.full((1, 3, 8, 8), 255.0), RangeError),
        (torch.full((1, 3, 8, 8), -1.02), RangeError),
    ],
)
def test_bad_pixels_are_refused(pixels, error):
    for use in (ROTARY.encode, ROTARY.reconstruct):
        with pytest.raises(error):
            use(pixels)


def test_bad_requests_are_refused():
    pixels = torch.zeros(1, 3, 8, 8) + 0.1
    for bits in (0, 13, -1, 3.5, "3"):
        with pytest.raises(SettingsError, match="1 to 12"):
            ROTARY.encode(pixels, bits=bits)
    codes = ROTARY.encode(pixels)
    for size in ((9, 8), (8, 0), (-1, 8)):
        with pytest.raises(ShapeError, match="cannot crop"):
            ROTARY.decode(codes, size)
    for size in (16, (8,), (8.5, 8), "ab"):
        with pytest.raises(ShapeError, match="two whole numbers"):
            ROTARY.decode(codes, size)
    with pytest.raises(CodesError, match="takes Codes"):
        ROTARY.decode(pixels)
    with pytest.raises(ShapeError, match="nothing to decode"):
        ROTARY.decode(Codes(codes.digits[:0], codes.radices))
    with pytest.raises(CodesError, match=r"radices 3\^12, the tokenizer 2\^12"):
        ROTARY.decode(Codes(codes.digits, (3,) * 12))
    with pytest.raises(ShapeError, match="smaller than this model's tile"):
        LEARNED.decode(codes)


def test_rounding_beyond_the_range_is_no_error():
    assert ROTARY.encode(torch.full((1, 3, 8, 8), 1.004)).shape == (1, 1, 1, 1, 12)
    assert ROTARY.encode(torch.rand(1, 3, 8, 8).bfloat16()).length == 12


@pytest.mark.parametrize(("encoder", "decoder"), [(LEARNED, ROTARY), (ROTARY, LEARNED)])
def test_encoder_and_decoder_may_have_different_positions(encoder, decoder):
    parts = {"encoder": encoder.settings.encoder, "decoder": decoder.settings.decoder}
    mixed = Tokenizer(ROTARY.settings.model_copy(update=parts)).eval()
    for size in ((9, 9), (50, 33)):
        pixels = torch.rand(1, 3, *size) * 2 - 1
        assert mixed.encode(pixels).shape[2:4] == mixed.grid(*size) == LEARNED.grid(*size)
        assert mixed.reconstruct(pixels).shape == pixels.shape


def test_code_hash_names_what_codes_mean():
    same, other, wider = build(), build(), build(bits=13)
    assert same.code_hash == ROTARY.code_hash != wider.code_hash
    with torch.no_grad():
        other.decoder.to_patches[0].bias.add_(1)
    assert other.code_hash == ROTARY.code_hash
    with torch.no_grad():
        other.encoder.body.blocks[0].mlp.up.bias.add_(1e-3)
    assert other.code_hash != ROTARY.code_hash
    assert build(attention=WindowAttentionSettings(size=2)).code_hash != ROTARY.code_hash


def test_code_hash_forgets_how_a_model_was_trained():
    gamma = ROTARY.settings.quantizer.model_copy(update={"gamma": 0.5, "inverse_temperature": 7.0})
    other = Tokenizer(ROTARY.settings.model_copy(update={"quantizer": gamma}))
    other.load_state_dict(ROTARY.state_dict())
    assert other.code_hash == ROTARY.code_hash


def test_code_hash_never_changes():
    """Files name their tokenizer by it: a field added to the settings must not change the hash of models without it."""
    model = build(attention=WindowAttentionSettings(size=2))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(0.25)
    assert model.code_hash[:16] == "2579336da616f86c"


def test_code_hash_takes_zero_for_zero():
    """Rounding leaves zeros with a sign, averaging takes it away: the codes are the same."""
    signed, plain = build(), build()
    for model, zero in ((signed, -0.0), (plain, 0.0)):
        torch.nn.init.constant_(next(model.encoder.parameters()), zero)
    assert signed.code_hash == plain.code_hash


def test_code_hash_of_weights_that_count_no_writes():
    with torch.inference_mode():
        model = build()
        model.load_state_dict(ROTARY.state_dict())
        assert model.code_hash == ROTARY.code_hash


def test_saving_and_loading_are_mirrors(tmp_path):
    ROTARY.save_pretrained(tmp_path)
    pixels = torch.rand(1, 3, 20, 20) * 2 - 1
    for again in (load(tmp_path), Tokenizer.from_pretrained(tmp_path), bsq.load(tmp_path)):
        assert again.settings == ROTARY.settings
        assert not again.training
        assert again.encode(pixels) == ROTARY.encode(pixels)
        assert torch.equal(again.reconstruct(pixels), ROTARY.reconstruct(pixels))


def test_weights_are_whole_or_as_before(tmp_path, monkeypatch):
    ROTARY.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def half(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(OSError, match="No space"):
            LEARNED.save_pretrained(folder)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert list((tmp_path / "new").iterdir()) == []
    assert not list(tmp_path.glob(".*"))


def test_an_interrupt_while_saving_leaves_the_model_before(tmp_path, monkeypatch):
    ROTARY.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("a card of our own")

    def interrupt(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", interrupt)  # config.json comes after the weights
        with pytest.raises(KeyboardInterrupt):
            LEARNED.save_pretrained(tmp_path)
    assert load(tmp_path).code_hash == ROTARY.code_hash
    LEARNED.save_pretrained(tmp_path)
    assert load(tmp_path).code_hash == LEARNED.code_hash
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (tmp_path / "README.md").read_text() == "a card of our own"


def test_half_precision_on_disk_loads_as_float32(tmp_path):
    ROTARY.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    again = load(tmp_path)
    assert again.encoder.embed.weight.dtype == torch.float32
    again.save_pretrained(tmp_path / "full")
    assert load(tmp_path / "full").code_hash == again.code_hash


def test_bad_model_folders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no model 'absent'"):
        load("absent")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load(tmp_path)
    ROTARY.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, words in [
        ({"settings": {**config["settings"], "pacth": 8}}, "settings.pacth: Extra"),
        ({}, "not a bsq model's configuration"),
        ({"settings": {**config["settings"], "patch": 16}}, "describe at least"),
        ({"settings": {**config["settings"], "patch": 4}}, "does not fit the model: encoder.embed"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(change))
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path)


def test_a_hub_id_without_a_network_says_so():
    with pytest.raises(CheckpointError, match="the hub did not give it"):
        load("nobody/nothing-of-that-name")


def test_settings_refuse_what_they_do_not_know():
    with pytest.raises(ValidationError, match="Extra inputs"):
        TokenizerSettings(quantizer=BsqSettings(), size=3)
    with pytest.raises(ValidationError, match="finite number"):
        BsqSettings(inverse_temperature=float("inf"))


@pytest.mark.parametrize(
    "change",
    [
        {"patch": 4},
        {"quantizer": BsqSettings(bits=10)},
        {"decoder": DecoderSettings(width=16, depth=1, head_width=16)},
    ],
)
def test_every_setting_changes_the_result(change):
    torch.manual_seed(0)
    other = Tokenizer(ROTARY.settings.model_copy(update=change)).eval()
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    assert not torch.equal(other.reconstruct(pixels), ROTARY.reconstruct(pixels))


@pytest.mark.parametrize(
    "quantizer",
    [
        BsqSettings(bits=9),
        FsqSettings(levels=(5, 5)),
        VqSettings(size=64, width=48),
        GumbelSettings(size=64, width=48),
        KlSettings(width=48),
    ],
)
@pytest.mark.parametrize(
    "positions", [RotaryPositionsSettings(), LearnedPositionsSettings(rows=9, columns=9, frames=3)]
)
def test_weights_are_at_least_what_settings_say(
    tiny_tokenizer: Tokenizer,
    quantizer: QuantizerSettings,
    positions: LearnedPositionsSettings | RotaryPositionsSettings,
) -> None:
    tiny = tiny_tokenizer.settings
    asked = {"positions": positions, "window_frames": None}
    sides = {part: getattr(tiny, part).model_copy(update=asked) for part in ("encoder", "decoder")}
    changed = tiny.model_copy(update={"quantizer": quantizer, **sides})
    there = sum(tensor.numel() for tensor in Tokenizer(changed).state_dict().values())
    assert 0.5 * there < changed.least_weights() <= there


@pytest.mark.parametrize(("width", "depth"), [(2, 1), (48, 2), (400, 6)])
def test_what_a_refiner_claims_counts(tiny_tokenizer: Tokenizer, width: int, depth: int, tmp_path: Path) -> None:
    settings, before = tiny_tokenizer.settings, tiny_tokenizer.settings.least_weights()
    decoder = settings.decoder.model_copy(update={"refiner": RefinerSettings(width=width, depth=depth)})
    changed = settings.model_copy(update={"decoder": decoder})
    refiner = Tokenizer(changed).decoder.refiner
    there = sum(parameter.numel() for parameter in refiner.parameters())
    assert 0.1 * there < changed.least_weights() - before <= there
    huge = decoder.model_copy(update={"refiner": RefinerSettings(width=100_000, depth=1000)})
    with pytest.raises(CheckpointError, match="claim"):
        Tokenizer.of_weights(changed.model_copy(update={"decoder": huge}), tiny_tokenizer.state_dict(), tmp_path)
