"""Search for better codes: it never does harm, does what it says, and leaves what it is given as it was."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data as pictures
from torch import Tensor

import bsq
from bsq.codec import search
from bsq.codec.blocks import cut_blocks
from bsq.codec.distortion import DISTORTION, distortion, in_pieces
from bsq.codec.measure import inspect
from bsq.codec.picture import compress, decompress
from bsq.codec.search import Search
from bsq.codec.shelf import priors_for, smallest_of
from bsq.codec.stream import read_codes
from bsq.codec.video import compress_video, decompress_video
from bsq.codes import Codes
from bsq.data.pictures import to_pixels
from bsq.errors import BsqError, LimitError, MissingDependencyError, NumericsError, SettingsError, ShapeError
from bsq.layers.positions import LearnedPositionsSettings
from bsq.layers.windows import WindowAttentionSettings
from bsq.parts import Reach
from bsq.pixels import as_clip
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.exact import ExactPrior
from bsq.prior.freeze import freeze
from bsq.prior.lengths import digit_lengths
from bsq.prior.masked import MaskedPrior, MaskedSettings
from bsq.prior.uniform import UniformPrior
from bsq.quantizers import BsqSettings, FsqSettings, LfqSettings
from bsq.tokenizer import Tokenizer
from bsq.vit.decoder import DecoderSettings

CAT = pictures.chelsea()[60:188, 120:248]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def error(picture: np.ndarray, data: bytes) -> float:
    """What the search makes less."""
    shown, wanted = (as_clip(to_pixels(one)) for one in (decompress(data), picture))
    return float(distortion(shown, wanted))


def distance(model: Tokenizer, codes: Codes, pixels: Tensor) -> float:
    """What a descent makes less."""
    return in_pieces(model.decode(codes, pixels.shape[-2:]), as_clip(pixels), DISTORTION)


def of(tokenizer: Tokenizer, **settings: object) -> Tokenizer:
    """Another one with these settings."""
    return Tokenizer(tokenizer.settings.model_copy(update=settings)).eval()


def allow(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let gradients be wanted of so many tokens at once."""
    monkeypatch.setattr(search, "FEW", 0)
    monkeypatch.setattr(search, "MEMORY", tokens)
    monkeypatch.setattr(Search, "kept_by_token", lambda self, frames: 1.0)


def exact_prior(digits: int, earlier_frames: int = 0) -> ExactPrior:
    torch.manual_seed(0)
    settings = MaskedSettings(
        radices=(2,) * digits, layer_digits=4, width=16, blocks=1, chain_width=16, earlier_frames=earlier_frames
    )
    return freeze(MaskedPrior(settings))


@pytest.fixture(scope="module")
def found() -> bytes:
    return compress(CAT, bits=18, search=16)


def test_a_photograph_gets_better_in_about_as_many_bytes(found: bytes) -> None:
    plain = compress(CAT, bits=18, search=0)
    assert len(found) < 1.03 * len(plain)
    assert error(CAT, found) < 0.95 * error(CAT, plain)
    assert inspect(found).info.kept == 18


def test_the_same_search_finds_the_same(found: bytes) -> None:
    state = torch.get_rng_state()
    torch.manual_seed(7)
    assert compress(CAT, bits=18, search=16) == found
    torch.set_rng_state(state)


def test_without_steps_the_codes_are_the_encoders() -> None:
    codes = read_codes(compress(CAT, bits=9, search=0), smallest_of(bsq.load("biscuit-s"))).codes
    assert codes == bsq.load("biscuit-s").encode(to_pixels(CAT), 9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("steps", [2, 10])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (37, 53), (100, 9)])
def test_sizes_are_restored(tiny_tokenizer: Tokenizer, shape: tuple[int, int], steps: int) -> None:
    prior = exact_prior(12)
    data = compress(noise(*shape), tiny_tokenizer, prior=prior, search=steps)
    assert decompress(data, tiny_tokenizer, priors=[prior]).shape == (*shape, 3)


PRIORS = {
    "uniform": UniformPrior(),
    "adaptive": AdaptivePrior(),
    "exact": exact_prior(36),
    "exact, with memory": exact_prior(36, earlier_frames=1),
    "exact, of more digits": exact_prior(40),
    "exact, of fewer digits": exact_prior(12),
}


@pytest.mark.parametrize("name", PRIORS)
def test_less_distortion_in_no_more_than_the_bits_allowed(name: str) -> None:
    model, pixels, prior = bsq.load("biscuit-s"), to_pixels(CAT[:64, :64]), PRIORS[name]
    seek = Search(model, prior, 9, 30)
    first, last = model.encode(pixels, 9), seek(pixels, growth=1.1)
    assert distance(model, last, pixels) < 0.98 * distance(model, first, pixels)
    assert digit_lengths(prior, last).sum() <= 1.1 * digit_lengths(prior, first).sum()


def test_what_is_found_is_thrown_away_where_it_is_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LEARNING_RATE", 100.0)
    assert compress(CAT, bits=18, search=10) == compress(CAT, bits=18, search=0)


def test_a_heavier_bit_makes_fewer_bits() -> None:
    model, clip = bsq.load("biscuit-s"), as_clip(to_pixels(CAT[:96, :96]))
    prior, latent = priors_for(model)[0], model.latent(clip)
    seek = Search(model, prior, 18, 24)
    spent = []
    for weight in (0.0, 0.02):
        signs = seek.descend(clip, latent, weight, lambda done: None)
        spent.append(digit_lengths(prior, Codes((signs[..., :18] > 0).to(torch.uint8), (2,) * 18)).sum())
    assert spent[1] < 0.9 * spent[0]


def test_the_file_is_no_larger_than_it_may_be() -> None:
    small = CAT[:96, :96]
    most = 9 * len(compress(small, bits=18)) // 10
    data = compress(small, max_bytes=most, search=20)
    assert len(data) <= most
    assert error(small, data) < error(small, compress(small, max_bytes=most))


def test_a_limit_that_is_far_away_changes_nothing() -> None:
    small = CAT[:64, :64]
    assert compress(small, bits=9, max_bytes=10**6, search=12) == compress(small, bits=9, search=12)


@pytest.mark.parametrize(("times", "kept"), [(1.019, True), (1.021, False)])
def test_codes_that_take_too_many_bits_are_not_taken(times: float, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Codes] = []

    def spent(_: Search, codes: Codes) -> float:
        asked.append(codes)
        return 1000.0 if len(asked) == 1 else 1000.0 * times

    monkeypatch.setattr(Search, "spent", spent)
    model, pixels = bsq.load("biscuit-s"), to_pixels(CAT[:64, :64])
    found = Search(model, priors_for(model)[0], 9, 12)(pixels)
    assert (found == model.encode(pixels, 9)) is not kept
    assert len(asked) == (2 if kept else 1 + len(search.WEIGHTS_OF_A_BIT))


def test_without_a_learned_prior_there_is_one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []
    descend = Search.descend

    def noted(self: Search, clip: torch.Tensor, latent: torch.Tensor, weight: float, tell: search.Told) -> torch.Tensor:
        tries.append(weight)
        return descend(self, clip, latent, weight, tell)

    monkeypatch.setattr(Search, "descend", noted)
    Search(bsq.load("biscuit-s"), AdaptivePrior(), 9, 10)(to_pixels(CAT[:32, :32]), growth=0.0)
    assert len(tries) == 1


def test_agreement_with_the_encoder_holds_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clip = bsq.load("biscuit-s"), as_clip(to_pixels(CAT[:64, :64]))
    changed = []
    for pull in (0.0, 100.0):
        monkeypatch.setattr(search, "PULL", pull)
        latent = model.latent(clip)
        signs = Search(model, UniformPrior(), 9, 12).descend(clip, latent, 0.0, lambda done: None)
        changed.append(int(((signs > 0) != (latent > 0))[..., :9].sum()))
    assert changed[0] > 20
    assert changed[1] == 0


def test_where_nothing_fits_the_encoders_codes_stay(tiny_tokenizer: Tokenizer) -> None:
    prior, pixels = exact_prior(12), to_pixels(CAT)
    assert Search(tiny_tokenizer, prior, 12, 11)(pixels, growth=0.5) == tiny_tokenizer.encode(pixels)
    plain = compress(CAT, tiny_tokenizer, bits=1)
    assert len(compress(CAT, tiny_tokenizer, max_bytes=len(plain), search=4)) <= len(plain)


def test_blocks_are_searched_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = pictures.chelsea()[60:190, 20:419]
    model, pixels = bsq.load("biscuit-s"), to_pixels(wide)
    prior = priors_for(model)[0]
    allow(17 * 48, monkeypatch)
    seek = Search(model, prior, 9, 12)
    (left, right) = seek.blocks(1, 17, 50)
    assert (left.part.columns.stop, right.part.columns.start) == (32, 32)
    last, first = seek(pixels), model.encode(pixels, 9)
    changed = (last.digits != first.digits).any(-1)[0, 0]
    assert changed[:, :32].sum() > 50
    assert changed[:, 32:].sum() > 20
    assert distance(model, last, pixels) < 0.97 * distance(model, first, pixels)


def test_blocks_cover_a_clip_once_and_fit() -> None:
    for frames, rows, columns, most in (
        (1, 500, 375, 26_000),
        (24, 135, 240, 26_000),
        (100, 18, 22, 26_000),
        (5, 3, 400, 2_000),
    ):
        seen = np.zeros((frames, rows, columns), int)
        for block in cut_blocks(frames, rows, columns, Reach(16, 8), 13, 3, most):
            assert block.tokens <= most
            seen[block.frames.own, block.part.rows.own, block.part.columns.own] += 1
            for axis, size in ((block.part.rows, rows), (block.part.columns, columns)):
                assert axis.outer_stop - axis.outer_start >= min(size, 13)
        assert (seen == 1).all()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"mlp_ratio": 16},
        {"width": 64, "depth": 1, "head_width": 32},
        {"depth": 2, "attention": WindowAttentionSettings(size=16)},
    ],
)
def test_what_a_token_takes_is_measured(change: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small block: a larger one keeps as much for each token, whatever the network's shape, in either dtype."""
    given = bsq.load("biscuit-s").settings
    decoder = given.decoder.model_copy(update=change)
    model = Tokenizer(given.model_copy(update={"decoder": decoder})).eval()
    for half in (True, False):
        monkeypatch.setattr(search, "bfloat16_is_faster", lambda device, half=half: half)
        seek = Search(model, exact_prior(36), 36, 10)
        measured = seek.kept_by_token(1)
        side = seek.probe()
        more = (seek.kept_by(1, side, 3 * side) - seek.kept_by(1, side, side)) / (2 * side * side)
        assert measured == pytest.approx(more, rel=0.1)
        assert measured > 2 * decoder.width * decoder.depth * decoder.mlp_ratio


def test_blocks_that_cannot_be_cut_are_refused() -> None:
    for past, reach in ((3, Reach(50, 1)), (None, Reach(16, 8))):
        with pytest.raises(LimitError, match="tokens at once"):
            cut_blocks(24, 50, 50, reach, 13, past, 2_000)


def test_clips_are_searched_group_by_group() -> None:
    frames = [pictures.chelsea()[60:132, 120 + 4 * step : 192 + 4 * step] for step in range(5)]
    told: list[float] = []
    streams = [io.BytesIO(), io.BytesIO()]
    for stream, steps in zip(streams, (0, 12), strict=True):
        compress_video(iter(frames), 10, stream, bits=9, frames_per_group=3, search=steps, told=told.append)
    plain, found = (stream.getbuffer().nbytes for stream in streams)
    assert found < 1.03 * plain
    wanted = torch.stack([to_pixels(frame) for frame in frames], 2)
    shown = [torch.stack([to_pixels(one) for one in decompress_video(stream).frames], 2) for stream in streams]
    errors = [
        [float(distortion(clip[:, :, part], wanted[:, :, part])) for part in (slice(3), slice(3, 5))] for clip in shown
    ]
    assert errors[1][0] < errors[0][0]
    assert errors[1][1] <= errors[0][1]  # in so few steps a group may keep what it had
    assert len(told) >= 24
    ends = [number for number, share in enumerate(told) if share == 1.0]
    assert ends[-1] == len(told) - 1
    assert all(earlier <= later for earlier, later in pairwise(told[: ends[0] + 1]))


def test_bits_are_those_of_the_prior_that_takes_fewest() -> None:
    """A clip that stands still costs the adaptive prior next to nothing: savings by the learned one may cost it."""
    still = torch.stack([to_pixels(CAT[:40, :40])] * 8, 2)
    model = bsq.load("biscuit-s")
    learned, adaptive = priors_for(model)[:2]
    seek = Search(model, learned, 9, 1, others=(adaptive,))
    codes = model.encode(still, 9)
    assert seek.spent(codes) == digit_lengths(adaptive, codes).sum() < digit_lengths(learned, codes).sum()


def test_a_videos_search_knows_the_priors_that_may_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Search] = []

    class Noted(Search):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            given.append(self)

    monkeypatch.setattr("bsq.codec.video.Search", Noted)
    compress_video(iter([CAT[:16, :16]]), 10, io.BytesIO(), bits=9, search=10)
    assert [prior.name for prior in (given[0].prior, *given[0].others)] == ["masked", "adaptive"]


def test_clips_are_cut_in_time(tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(36 * 4, monkeypatch)
    decoder = tiny_tokenizer.settings.decoder.model_copy(
        update={"width": 16, "depth": 1, "window_frames": 2, "head_width": 16}
    )
    model = Tokenizer(tiny_tokenizer.settings.model_copy(update={"decoder": decoder})).eval()
    clip = torch.stack([to_pixels(noise(48, 48)) for _ in range(5)], 2)
    seek = Search(model, UniformPrior(), 12, 20)
    assert [block.frames.start for block in seek.blocks(5, 6, 6)] == [0, 3]
    assert seek(clip).shape[1] == 5
    monkeypatch.setattr(search, "PULL", 0.0)  # beside it, a decoder that has learned nothing weighs nothing
    latent = model.latent(clip)
    changed = ((seek.descend(clip, latent, 0.0, lambda share: None) > 0) != (latent > 0)).flatten(2).any(-1)[0]
    assert changed[:3].any()
    assert changed[3:].any()


@pytest.mark.parametrize("steps", [2, 10])
def test_the_model_is_left_as_it_was(tiny_tokenizer: Tokenizer, steps: int) -> None:
    before = [parameter.detach().clone() for parameter in tiny_tokenizer.parameters()]
    prior = exact_prior(12)
    state = torch.get_rng_state()
    with torch.inference_mode():
        compress(CAT[:32, :32], tiny_tokenizer, prior=prior, search=steps)
    assert torch.equal(torch.get_rng_state(), state)
    for parameter, old in zip(tiny_tokenizer.parameters(), before, strict=True):
        assert parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter, old)


@pytest.mark.parametrize("steps", [3, 12])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_is_no_matter(tiny_tokenizer: Tokenizer, dtype: torch.dtype, steps: int) -> None:
    prior = exact_prior(12)
    wanted = compress(CAT[:32, :32], tiny_tokenizer, prior=prior, search=steps)
    torch.set_default_dtype(dtype)
    try:
        assert compress(CAT[:32, :32], tiny_tokenizer, prior=prior, search=steps) == wanted
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("steps", [2, 10])
def test_other_models_are_searched_too(tiny_tokenizer: Tokenizer, steps: int) -> None:
    one_digit = of(tiny_tokenizer, quantizer=BsqSettings(bits=1))
    for model in (of(tiny_tokenizer, quantizer=LfqSettings(bits=12)), of(tiny_tokenizer).half(), one_digit):
        data = compress(CAT[:40, :40], model, search=steps)
        assert decompress(data, model).shape == (40, 40, 3)


LEARNED = DecoderSettings(width=16, depth=1, head_width=16, positions=LearnedPositionsSettings(rows=4, columns=4))


@pytest.mark.parametrize(
    ("change", "asked", "words"),
    [
        ({"encoder": LEARNED}, {}, "learned positions"),
        ({"decoder": LEARNED}, {}, "learned positions"),
        ({"quantizer": FsqSettings(levels=(5, 5))}, {}, "binary digits"),
        ({}, {"search": -1}, "number of steps"),
        ({}, {"search": 2.5}, "number of steps"),
        ({}, {"search": True}, "number of steps"),
    ],
)
def test_what_cannot_be_searched_says_so(tiny_tokenizer: Tokenizer, change: dict, asked: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        compress(CAT[:32, :32], of(tiny_tokenizer, **change), **{"bits": 1, "search": 1} | asked)


def test_a_batch_and_bad_weights_are_refused(tiny_tokenizer: Tokenizer) -> None:
    with pytest.raises(ShapeError, match="one picture or clip"):
        Search(tiny_tokenizer, UniformPrior(), 12, 1)(torch.zeros(2, 3, 16, 16))
    model = of(tiny_tokenizer)
    torch.nn.init.constant_(next(model.encoder.parameters()), torch.nan)
    with pytest.raises(NumericsError):
        Search(model, UniformPrior(), 12, 1)(torch.zeros(1, 3, 16, 16))


def test_the_library_it_needs_is_named_before_any_work(
    tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingDependencyError("pytorch-msssim")

    def never(*_: object) -> None:
        raise AssertionError("encoded before it was asked whether it can be")

    monkeypatch.setattr(search, "pytorch_msssim", missing)
    monkeypatch.setattr(Tokenizer, "encode", never)
    with pytest.raises(BsqError, match="pytorch-msssim"):
        compress(CAT[:32, :32], tiny_tokenizer, search=np.int64(10))  # type: ignore[arg-type]
