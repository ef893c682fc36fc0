"""Search for better codes: it never does harm, does what it says, and leaves what it is given as it was."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from skimage import data as pictures

import bsq
from bsq.codec import search
from bsq.codec.measure import inspect
from bsq.codec.picture import compress, decompress
from bsq.codec.search import Search, near, search_codes
from bsq.codec.shelf import priors_for
from bsq.codec.video import compress_video, decompress_video
from bsq.data.pictures import to_pixels
from bsq.errors import SettingsError
from bsq.layers.positions import LearnedPositionsSettings
from bsq.losses.structure import structural_distance
from bsq.parts import cut_parts
from bsq.pixels import as_clip
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.lengths import digit_lengths
from bsq.prior.uniform import UniformPrior
from bsq.quantizers import FsqSettings
from bsq.tokenizer import Tokenizer
from bsq.vit.transformer import TransformerSettings

CAT = pictures.chelsea()[60:188, 120:248]


def squares(picture: np.ndarray, data: bytes) -> float:
    return float(np.square(decompress(data).astype(float) - picture).mean())


def structure(picture: np.ndarray, data: bytes) -> float:
    """1 − MS-SSIM."""
    shown, wanted = (to_pixels(one)[:, :, None] for one in (decompress(data), picture))
    return float(structural_distance(shown, wanted))


def test_a_photograph_gets_much_better_in_as_many_bytes() -> None:
    plain, found = (compress(CAT, bits=18, search=steps) for steps in (0, 16))
    assert len(found) < 1.02 * len(plain)
    assert squares(CAT, found) < 0.97 * squares(CAT, plain)
    assert structure(CAT, found) < 0.85 * structure(CAT, plain)
    assert inspect(found).info.kept == 18


def test_without_steps_the_codes_are_the_encoders() -> None:
    assert compress(CAT, bits=9, search=0) == compress(CAT, bits=9)


def test_the_same_search_finds_the_same() -> None:
    assert compress(CAT[:64, :64], bits=9, search=3) == compress(CAT[:64, :64], bits=9, search=3)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (37, 53), (100, 9)])
def test_sizes_are_restored(tiny_tokenizer: Tokenizer, shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert decompress(compress(picture, tiny_tokenizer, search=2), tiny_tokenizer).shape == picture.shape


@pytest.mark.parametrize("prior", [UniformPrior(), AdaptivePrior()])
def test_it_costs_no_more_than_the_encoders_codes(tiny_tokenizer: Tokenizer, prior: UniformPrior) -> None:
    pixels = to_pixels(CAT)
    found = search_codes(tiny_tokenizer, pixels, 12, prior, 4)
    judge = Search(tiny_tokenizer, as_clip(pixels), 12, prior, search.WEIGHTS_OF_A_BIT[0])
    assert judge.cost(found) <= judge.cost(tiny_tokenizer.encode(pixels, 12))


def test_what_is_found_is_thrown_away_where_it_is_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LEARNING_RATE", 100.0)
    assert compress(CAT, bits=18, search=1) == compress(CAT, bits=18)


def test_a_heavier_bit_makes_a_smaller_file() -> None:
    model, pixels = bsq.load("biscuit-s"), to_pixels(CAT[:96, :96])
    (prior, *_) = priors_for(model)
    light, heavy = (
        digit_lengths(prior, search_codes(model, pixels, 18, prior, 8, weight)).sum() for weight in (0, 0.02)
    )
    assert heavy < 0.9 * light


def test_the_file_is_no_larger_than_it_may_be() -> None:
    plain = compress(CAT, bits=18)
    for most in (len(plain), 9 * len(plain) // 10):
        found = compress(CAT, max_bytes=most, search=8)
        assert len(found) <= most
        assert squares(CAT, found) < squares(CAT, compress(CAT, max_bytes=most))


def test_where_nothing_fits_the_encoders_codes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = compress(CAT, bits=9)
    monkeypatch.setattr("bsq.codec.picture.WEIGHTS_OF_A_BIT", (0.0, 0.0))  # bits cost nothing, so that files grow
    assert compress(CAT, max_bytes=len(plain), search=8) == plain


def test_parts_are_searched_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pixels = bsq.load("biscuit-s"), to_pixels(pictures.chelsea()[60:188, 100:356])
    (prior, *_) = priors_for(model)
    monkeypatch.setattr(search, "TOKENS", 256)
    assert len(list(cut_parts(16, 32, near(model.settings.decoder.reach(16, 32)), 256))) == 2
    found, first = (codes.first(9) for codes in (search_codes(model, pixels, 9, prior, 12), model.encode(pixels)))
    changed = (found.digits != first.digits).any(-1).view(16, 2, 16).sum((0, 2))
    assert (changed > 16).all()
    errors = [structural_distance(model.decode(codes), pixels[:, :, None]) for codes in (found, first)]
    assert errors[0] < 0.95 * errors[1]


def test_clips_are_searched_group_by_group() -> None:
    frames = [pictures.chelsea()[60:164, 120 + 4 * step : 224 + 4 * step] for step in range(5)]
    streams = [io.BytesIO(), io.BytesIO()]
    for stream, steps in zip(streams, (0, 30), strict=True):
        compress_video(iter(frames), 10, stream, bits=9, frames_per_group=3, search=steps)
    plain, found = (stream.getbuffer().nbytes for stream in streams)
    assert found < 1.02 * plain
    shown = [np.stack(list(decompress_video(stream).frames)).astype(float) for stream in streams]
    errors = [np.square(clip - np.stack(frames)).mean((1, 2, 3)) for clip in shown]
    assert (errors[1] < errors[0]).all()


def test_the_model_is_left_as_it_was(tiny_tokenizer: Tokenizer) -> None:
    before = [parameter.detach().clone() for parameter in tiny_tokenizer.parameters()]
    with torch.inference_mode():
        compress(CAT[:32, :32], tiny_tokenizer, search=2)
    for parameter, old in zip(tiny_tokenizer.parameters(), before, strict=True):
        assert parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter, old)


def test_what_cannot_be_searched_says_so(tiny_tokenizer: Tokenizer) -> None:
    settings = tiny_tokenizer.settings
    learned = TransformerSettings(
        width=16, depth=1, head_width=16, positions=LearnedPositionsSettings(rows=4, columns=4)
    )
    tiles = Tokenizer(settings.model_copy(update={"encoder": learned, "decoder": learned}))
    levels = Tokenizer(settings.model_copy(update={"quantizer": FsqSettings(levels=(5, 5))}))
    for tokenizer, steps, allocate, words in (
        (tiles, 1, False, "learned positions"),
        (levels, 1, False, "binary digits"),
        (tiny_tokenizer, -1, False, "number of steps"),
        (tiny_tokenizer, 2.5, False, "number of steps"),
        (tiny_tokenizer, 1, True, "choose search or allocate"),
    ):
        with pytest.raises(SettingsError, match=words):
            compress(CAT[:32, :32], tokenizer, bits=1, search=steps, allocate=allocate)  # type: ignore[arg-type]
