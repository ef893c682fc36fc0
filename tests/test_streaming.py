"""Frames that come piece by piece give the bits and pixels of the whole clip."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bsq.parts as parts
import bsq.vit.transformer as transformer
from bsq.errors import CodesError, NumericsError, RangeError, SettingsError, ShapeError
from bsq.layers.positions import LearnedPositionsSettings
from bsq.layers.windows import WindowAttentionSettings
from bsq.quantizers import BsqSettings, KlSettings, VqSettings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.decoder import DecoderSettings
from bsq.vit.refiner import RefinerSettings
from bsq.vit.transformer import TransformerSettings

TABLE = LearnedPositionsSettings(rows=2, columns=2, frames=200)


def build(quantizer=None, refiner=None, **changes):
    part = TransformerSettings(**{"width": 16, "depth": 2, "head_width": 8, **changes})
    torch.manual_seed(0)
    quantizer = BsqSettings(bits=9) if quantizer is None else quantizer
    decoder = DecoderSettings(**part.model_dump(), refiner=refiner)
    model = Tokenizer(TokenizerSettings(patch=4, quantizer=quantizer, encoder=part, decoder=decoder)).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "codebook" not in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


MODELS = {
    "all frames": build(),
    "few frames": build(window_frames=3),
    "frames alone": build(window_frames=1, depth=1),
    "windows": build(attention=WindowAttentionSettings(size=2), window_frames=4),
    "tiles": build(positions=TABLE, window_frames=5),
    "refined": build(refiner=RefinerSettings(width=8), window_frames=2),
    "one code of many": build(VqSettings(size=64, width=8), window_frames=2),
}


def clip(frames, height=7, width=11, batch=1, seed=0):
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def cut(frames, draw):
    """Sizes of pieces that make up so many frames."""
    sizes = []
    while sum(sizes) < frames:
        sizes.append(min(draw(st.integers(1, 40)), frames - sum(sizes)))
    return sizes


def in_pieces(model, pixels, sizes, bits=None):
    encoder, decoder = model.stream_encoder(bits), model.stream_decoder(pixels.shape[-2:])
    codes, again = [], []
    for piece in pixels.split(sizes, dim=2):
        codes.append(encoder.push(piece))
        again.append(decoder.push(codes[-1]))
    assert encoder.frames == decoder.frames == pixels.shape[2]
    return torch.cat([code.digits for code in codes], dim=1), torch.cat(again, dim=2)


def check_streaming(data, name, frames, batch):
    model, pixels = MODELS[name], clip(frames, batch=batch, seed=frames)
    bits = data.draw(st.integers(1, len(model.radices)))
    whole = model.encode(pixels, bits=bits)
    digits, again = in_pieces(model, pixels, cut(frames, data.draw), bits)
    assert torch.equal(digits, whole.digits)
    assert torch.equal(again, model.decode(whole, pixels.shape[-2:]))


CLIPS = {
    "data": st.data(),
    "name": st.sampled_from(sorted(MODELS)),
    "frames": st.integers(1, 200),
    "batch": st.integers(1, 2),
}


@settings(max_examples=6, deadline=None)
@given(**CLIPS)
def test_streaming_equals_the_whole_clip_bit_for_bit(data, name, frames, batch):
    check_streaming(data, name, frames, batch)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(**CLIPS)
def test_streaming_equals_the_whole_clip_bit_for_bit_many_times(data, name, frames, batch):
    check_streaming(data, name, frames, batch)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_single_frames_of_an_odd_size(name):
    model, pixels = MODELS[name], clip(7, 21, 10)
    digits, again = in_pieces(model, pixels, [1] * 7)
    assert torch.equal(digits, model.encode(pixels).digits)
    assert torch.equal(again, model.reconstruct(pixels))


def test_large_frames_in_parts_and_portions(monkeypatch):
    monkeypatch.setattr(parts, "TOKENS", 24)
    monkeypatch.setattr(transformer, "PORTION", 12)
    model, pixels = MODELS["windows"], clip(6, 29, 38)
    rows, columns = model.grid(29, 38)
    assert len(list(parts.cut_parts(rows, columns, model.settings.encoder.reach(rows, columns)))) > 3
    digits, again = in_pieces(model, pixels, [1, 3, 2])
    assert torch.equal(digits, model.encode(pixels).digits)
    assert torch.equal(again, model.reconstruct(pixels))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_no_code_and_no_pixel_depends_on_a_later_frame(name):
    model, pixels = MODELS[name], clip(8)
    changed = pixels.clone()
    changed[:, :, 5] = clip(1, seed=1)[:, :, 0]
    forms = [lambda x: (model.encode(x).digits, model.reconstruct(x)), lambda x: in_pieces(model, x, [3, 1, 4])]
    for form in forms:
        (codes, again), (codes_after, again_after) = form(pixels), form(changed)
        assert torch.equal(codes[:, :5], codes_after[:, :5])
        assert torch.equal(again[:, :, :5], again_after[:, :, :5])
        assert not torch.equal(again[:, :, 5:], again_after[:, :, 5:])


def test_a_picture_is_the_first_frame():
    for model in MODELS.values():
        pixels = clip(3)
        assert torch.equal(model.encode(pixels[:, :, 0]).digits, model.encode(pixels).digits[:, :1])
        assert model.stream_encoder().push(pixels[:, :, 0]) == model.encode(pixels[:, :, 0])


def test_restarting_begins_a_group_that_stands_alone():
    model, pixels = MODELS["few frames"], clip(5)
    encoder, decoder = model.stream_encoder(), model.stream_decoder()
    for half in pixels.split([3, 2], dim=2):
        codes = encoder.push(half)
        assert codes == model.encode(half)
        assert torch.equal(decoder.push(codes), model.decode(codes))
        encoder.restart()
        decoder.restart()
        assert encoder.frames == decoder.frames == 0


def test_what_a_stream_remembers_is_bounded_by_the_window():
    model = MODELS["few frames"]
    encoder = model.stream_encoder()
    sizes = []
    for frame in clip(30).split(1, dim=2):
        encoder.push(frame)
        sizes.append(encoder.kept_bytes)
    assert sizes[2] > sizes[1] > sizes[0] > 0
    assert set(sizes[3:]) == {sizes[2]}
    tokens, (body, width) = 2 * 3, (2, 16)
    assert sizes[-1] == 3 * tokens * body * width * 2 * 4  # frames, tokens, blocks, width, keys and values, float32


@pytest.mark.parametrize("window", [None, 1])
def test_a_table_of_frames_has_an_end(window):
    short = build(positions=TABLE.model_copy(update={"frames": 3}), window_frames=window)
    encoder, decoder = short.stream_encoder(), short.stream_decoder((7, 11))
    whole = short.encode(clip(3))
    decoder.push(encoder.push(clip(3)[:, :, :2]))
    for stream, two in ((encoder, clip(2)), (decoder, short.encode(clip(2)))):
        with pytest.raises(ShapeError, match="up to 3 frames, got 4"):
            stream.push(two)
    last = encoder.push(clip(3)[:, :, 2:])  # what was refused left no trace
    assert torch.equal(last.digits, whole.digits[:, 2:])
    assert torch.equal(decoder.push(last), short.decode(whole, (7, 11))[:, :, 2:])
    encoder.restart()
    assert encoder.push(clip(2)) == short.encode(clip(2))


def test_bad_pushes_are_refused_and_leave_the_stream_as_it_was():
    model, pixels = MODELS["few frames"], clip(4)
    encoder, decoder = model.stream_encoder(), model.stream_decoder((7, 11))
    first = encoder.push(pixels[:, :, :2])
    decoder.push(first)
    for bad, error, words in [
        (pixels.numpy(), ShapeError, "torch.Tensor"),
        (pixels[0], ShapeError, "pixels must be float"),
        (pixels[:, :, :0], ShapeError, "none of them empty"),
        (pixels * 2, RangeError, "must lie"),
        (pixels * float("nan"), NumericsError, "NaN"),
        (clip(1, 8, 11), ShapeError, r"\(1, 7, 11\), got \(1, 8, 11\)"),
        (clip(1, batch=2), ShapeError, r"got \(2, 7, 11\)"),
    ]:
        with pytest.raises(error, match=words):
            encoder.push(bad)
    assert encoder.frames == 2
    codes = encoder.push(pixels[:, :, 2:])
    assert torch.equal(codes.digits, model.encode(pixels).digits[:, 2:])
    with pytest.raises(CodesError, match="push takes Codes"):
        decoder.push(pixels)
    with pytest.raises(ShapeError, match=r"\(B, h, w\) of \(1, 2, 3\), got \(1, 2, 2\)"):
        decoder.push(model.encode(clip(1, 7, 8)))
    assert torch.equal(decoder.push(codes), model.reconstruct(pixels)[:, :, 2:])


def test_a_push_that_broke_off_is_not_gone_on_from(monkeypatch):
    model = MODELS["few frames"]
    encoder = model.stream_encoder()
    encoder.push(clip(1))
    with monkeypatch.context() as patch:
        patch.setattr(model.quantizer, "digits", lambda latent: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            encoder.push(clip(1))
    with pytest.raises(SettingsError, match="broke off halfway"):
        encoder.push(clip(1))
    encoder.restart()
    assert encoder.push(clip(2)) == model.encode(clip(2))


def test_inference_mode_may_begin_and_end_between_pushes():
    model, pixels = build(window_frames=4), clip(6)
    whole = model.encode(pixels)
    encoder, decoder = model.stream_encoder(), model.stream_decoder((7, 11))
    with torch.inference_mode():
        decoder.push(encoder.push(pixels[:, :, :3]))
    for t in (3, 4):
        codes = encoder.push(pixels[:, :, t])
        assert torch.equal(codes.digits, whole.digits[:, t : t + 1])
        decoder.push(codes)
    with torch.inference_mode():
        last = decoder.push(encoder.push(pixels[:, :, 5:].clone()))
    assert torch.equal(last, model.reconstruct(pixels)[:, :, 5:])


def test_models_that_cannot_stream_say_so():
    full = build(time="full")
    for begin in (full.stream_encoder, full.stream_decoder):
        with pytest.raises(SettingsError, match="see later ones"):
            begin()
    continuous = build(KlSettings(width=4))
    for begin in (continuous.stream_encoder, continuous.stream_decoder):
        with pytest.raises(SettingsError, match="continuous latent"):
            begin()
    with pytest.raises(SettingsError, match="1 to 9"):
        MODELS["few frames"].stream_encoder(bits=10)
    assert continuous.reconstruct(clip(3)).shape == clip(3).shape
