import pytest
import torch

import bsq
from bsq.checkpoint import begin_from, video_from_picture
from bsq.errors import SettingsError
from bsq.layers.positions import LearnedPositionsSettings
from bsq.layers.windows import WindowAttentionSettings
from bsq.quantizers import BsqSettings
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.vit.refiner import RefinerSettings
from bsq.vit.transformer import TransformerSettings

LEARNED = {"positions": LearnedPositionsSettings(rows=2, columns=3)}
ROTARY = {"attention": WindowAttentionSettings(size=2)}


def build(**changes):
    part = TransformerSettings(**{"width": 16, "depth": 2, "head_width": 8, **changes})
    torch.manual_seed(0)
    model = Tokenizer(TokenizerSettings(patch=4, quantizer=BsqSettings(bits=8), encoder=part, decoder=part)).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def clip(frames):
    return torch.rand(2, 3, frames, 10, 15, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize(("kind", "frames"), [(LEARNED, 5), (ROTARY, None)])
def test_frame_zero_is_the_picture_models_bit_for_bit(kind, frames, window):
    picture = build(**kind)
    video = video_from_picture(picture, frames=frames, window_frames=window)
    pixels = clip(5)
    codes, wanted = video.encode(pixels), picture.encode(pixels[:, :, 0])
    assert torch.equal(codes.digits[:, :1], wanted.digits)
    assert torch.equal(video.decode(codes)[:, :, :1], picture.decode(wanted))
    assert not torch.equal(codes.digits[:, 1:2], picture.encode(pixels[:, :, 1]).digits)
    assert video.settings.encoder.window_frames == video.settings.decoder.window_frames == window


@pytest.mark.parametrize(("kind", "frames"), [(LEARNED, 5), (ROTARY, None)])
def test_a_window_of_one_frame_is_the_picture_model_frame_by_frame(kind, frames):
    picture = build(**kind)
    video = video_from_picture(picture, frames=frames, window_frames=1)
    pixels = clip(4)
    again = video.reconstruct(pixels)
    for t in range(4):
        assert torch.equal(video.encode(pixels).digits[:, t : t + 1], picture.encode(pixels[:, :, t]).digits)
        if frames is not None:  # rotary angles of time turn queries and keys of one frame alike, but for rounding
            assert torch.equal(again[:, :, t], picture.reconstruct(pixels[:, :, t]))


def test_the_bundled_model_becomes_a_video_model():
    picture = bsq.load("biscuit-s")
    video = video_from_picture(picture, window_frames=3)
    pixels = clip(2)
    assert torch.equal(video.encode(pixels).digits[:, :1], picture.encode(pixels[:, :, 0]).digits)
    assert video.code_hash != picture.code_hash


def test_pictures_and_clips_train_together():
    """The table of frames starts at zero and learns; one set of weights takes both."""
    video = video_from_picture(build(**LEARNED), frames=4, window_frames=3).train()
    table = video.encoder.body.positions.frames
    assert table.shape == (4, 16)
    assert (table == 0).all()
    pixels = torch.rand(2, 3, 4, 8, 12) * 2 - 1
    loss = video(pixels).pixels.square().mean() + video(pixels[:, :, :1]).pixels.square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in video.parameters())
    assert (table.grad != 0).any(-1).all()


def test_a_longer_table_keeps_the_rows_it_has():
    short = video_from_picture(build(**LEARNED), frames=3)
    with torch.no_grad():
        for part in (short.encoder, short.decoder):
            part.body.positions.frames.normal_()
    longer = video_from_picture(short, frames=6)
    table = longer.encoder.body.positions.frames
    assert torch.equal(table[:3], short.encoder.body.positions.frames)
    assert (table[3:] == 0).all()
    pixels = clip(3)
    assert longer.encode(pixels) == short.encode(pixels)


def test_how_a_quantizer_was_trained_may_differ():
    given = build()
    other = given.settings.model_copy(update={"quantizer": BsqSettings(bits=8, gamma=0.5)})
    model = Tokenizer(other)
    begin_from(given, model)
    assert model.code_hash == given.code_hash


@pytest.mark.parametrize("kind", [LEARNED, ROTARY])
def test_more_blocks_change_nothing_until_they_learn(kind):
    """A deeper decoder serves the same codes; a deeper encoder, whose hash is another, makes the same digits."""
    given = build(**kind)
    settings = given.settings
    deeper = settings.decoder.model_copy(update={"depth": 5})
    grown = Tokenizer(settings.model_copy(update={"decoder": deeper})).eval()
    begin_from(given, grown)
    pixels = clip(1)
    codes = grown.encode(pixels)
    assert codes == given.encode(pixels)
    assert torch.equal(grown.decode(codes), given.decode(codes))
    assert grown.code_hash == given.code_hash
    grown(pixels[..., :8, :12]).pixels.square().mean().backward()
    assert all((block.mlp.down.weight.grad != 0).any() for block in grown.decoder.body.blocks)

    both = Tokenizer(settings.model_copy(update={"encoder": deeper, "decoder": deeper})).eval()
    begin_from(given, both)
    assert torch.equal(both.encode(pixels).digits, codes.digits)
    assert both.code_hash != given.code_hash


def test_a_refiner_changes_nothing_until_it_learns():
    given = build()
    refined = given.settings.decoder.model_copy(update={"refiner": RefinerSettings(width=8)})
    grown = Tokenizer(given.settings.model_copy(update={"decoder": refined})).eval()
    torch.nn.init.ones_(grown.decoder.refiner.last.weight)
    begin_from(given, grown)
    codes = given.encode(clip(1))
    assert torch.equal(grown.decode(codes), given.decode(codes))
    torch.nn.init.ones_(grown.decoder.refiner.last.weight)
    again = Tokenizer(grown.settings).eval()
    begin_from(grown, again)
    assert torch.equal(again.decode(codes), grown.decode(codes))
    with pytest.raises(SettingsError, match=r"decoder\.refiner=null would cut the given model's refiner"):
        begin_from(grown, given)
    for other in ({"depth": 3}, {"width": 16}):  # convolutions between those that learned would change pixels
        changed = refined.model_copy(update={"refiner": refined.refiner.model_copy(update=other)})
        with pytest.raises(SettingsError, match=r"its decoder\.refiner\.\w+ is"):
            begin_from(grown, Tokenizer(given.settings.model_copy(update={"decoder": changed})))


def test_blocks_are_not_cut():
    given = build()
    shallow = given.settings.decoder
    deep = Tokenizer(given.settings.model_copy(update={"decoder": shallow.model_copy(update={"depth": 5})}))
    with pytest.raises(SettingsError, match=r"decoder\.depth=2 would cut the given model's 5 blocks"):
        begin_from(deep, given)


@pytest.mark.parametrize(
    ("picture", "request_", "words"),
    [
        (LEARNED, {}, "the encoder has learned positions"),
        (ROTARY, {"frames": 4}, "no table of frames=4"),
        ({"positions": LearnedPositionsSettings(rows=2, columns=3, frames=5)}, {"frames": 4}, "would cut .* 5 frames"),
        ({}, {"window_frames": 0}, "greater than 0"),
    ],
)
def test_bad_requests_are_refused(picture, request_, words):
    with pytest.raises(ValueError, match=words):
        video_from_picture(build(**picture), **request_)


def test_other_models_are_refused_by_the_setting_that_differs():
    for changes, words in [
        ({"width": 32}, "encoder.width is 32, wanted 16"),
        (LEARNED, "encoder.positions.* is"),
        (ROTARY, "encoder.attention.kind is windows, wanted full"),
    ]:
        with pytest.raises(SettingsError, match=words):
            begin_from(build(**changes), build())
