"""Corrections: what is missing is added as far as it should be, in pictures of any size, and codes get better."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from skimage import data as pictures
from torch import Tensor

import bsq
from bsq.codec.correction import SHARE, ReadCodes, coarse, corrected, fine, mixed
from bsq.codec.picture import compress, decompress
from bsq.codec.search import TRUSTS, Search, distortion
from bsq.codec.shelf import priors_for
from bsq.codes import Codes
from bsq.data.pictures import to_pixels
from bsq.errors import MissingDependencyError
from bsq.pixels import as_clip
from bsq.prior.lengths import digit_lengths
from bsq.prior.uniform import UniformPrior
from bsq.tokenizer import Tokenizer

CAT = pictures.chelsea()[60:188, 120:248]


def silent(done: float) -> None:
    """Tells nobody."""


def reader(model: Tokenizer, bits: int) -> ReadCodes:
    return lambda latent: Codes(model.quantizer.digits(latent), model.radices).first(bits)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("bits", [9, 36])
def test_a_photograph_gets_better_in_the_bits_allowed(steps: int, bits: int) -> None:
    model, pixels = bsq.load("biscuit-s"), to_pixels(CAT)
    prior = priors_for(model)[0]
    first, found = model.encode(pixels, bits), Search(model, prior, bits, steps)(pixels)
    wrong = [float(distortion(model.decode(codes), as_clip(pixels))) for codes in (first, found)]
    assert wrong[1] < 0.97 * wrong[0]
    assert digit_lengths(prior, found).sum() <= 1.05 * digit_lengths(prior, first).sum()


def test_greys_lose_much_of_their_tint() -> None:
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (64, 256, 3)).copy()
    tints = []
    for steps in (0, 3):
        columns = decompress(compress(ramp, search=steps, colours=False)).astype(float).mean(axis=0)
        tints.append(np.abs(columns[:, [0, 2]] - columns[:, [1]]).mean())
    assert tints[1] < 0.7 * tints[0]


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (37, 53), (5, 64)])
@pytest.mark.parametrize("patch", [1, 2, 7, 8, 16])
def test_even_colours_come_through_coarse_and_fine(size: tuple[int, int], patch: int) -> None:
    colours = torch.linspace(-1, 1, 6).view(1, 3, 2, 1, 1)
    clip = colours.expand(1, 3, 2, *size)
    torch.testing.assert_close(fine(coarse(clip, patch), patch, size), clip)


def test_fine_detail_is_left_out() -> None:
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    assert coarse(checks.expand(1, 3, 1, 16, 16), 8).abs().max() == 0


@pytest.mark.parametrize("steps", [1, 3, 9])
@pytest.mark.parametrize("size", [(1, 500), (96, 96)])
def test_noise_gets_no_worse(size: tuple[int, int], steps: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for bits in (4, 9):
        plain, found = (decompress(compress(noise, bits=bits, search=count)) for count in (0, steps))
        wrong = [np.square(shown.astype(float) - noise).mean() for shown in (plain, found)]
        assert wrong[1] <= 1.0001 * wrong[0]  # pixels are rounded


def test_corrections_need_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    large = pictures.chelsea()[:176, :176]
    assert len(compress(large, bits=9, search=1)) > 0
    with pytest.raises(MissingDependencyError):
        compress(large, bits=9, search=10)


def test_what_is_missing_adds_up(monkeypatch: pytest.MonkeyPatch, tiny_tokenizer: Tokenizer) -> None:
    clip = as_clip(to_pixels(CAT)) / 2
    seen: list[Tensor] = []
    latent = tiny_tokenizer.latent(clip)

    def look(self: Tokenizer, pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return latent

    monkeypatch.setattr(Tokenizer, "latent", look)
    told: list[float] = []
    corrected(tiny_tokenizer, clip, latent, reader(tiny_tokenizer, 12), lambda codes: clip - 0.1, 2, told.append)
    added = [0.1 * SHARE, 0.1 * SHARE * 1.75]
    for pixels, amount in zip(seen, added, strict=True):
        torch.testing.assert_close(pixels, clip + amount)
    assert told == [0.5, 1.0]


def test_pixels_stay_in_their_range(tiny_tokenizer: Tokenizer) -> None:
    corners = torch.tensor([-1.0, 1.0]).repeat(8).expand(1, 3, 1, 16, 16)
    latent = tiny_tokenizer.latent(corners)
    assert (
        corrected(tiny_tokenizer, corners, latent, reader(tiny_tokenizer, 12), tiny_tokenizer.decode, 5, silent)
        .isfinite()
        .all()
    )


def test_latents_count_by_their_direction() -> None:
    first, last = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, -0.1]])
    torch.testing.assert_close(mixed(first, last, 0.75), torch.tensor([[0.75, -0.25]]))
    opposite = torch.tensor([[2.0], [-5.0]])
    assert torch.equal(mixed(opposite, -opposite, 0.5).sign(), opposite.sign())


def test_a_later_try_counts_where_the_first_shows_less(monkeypatch: pytest.MonkeyPatch) -> None:
    worth = iter([1.0, 2.0, 0.5])  # of the encoder's codes, and of two tries
    monkeypatch.setattr("bsq.codec.search.in_pieces", lambda shown, clip, settings: next(worth))
    monkeypatch.setattr(Search, "spent", lambda self, codes: 1.0)
    model, pixels = bsq.load("biscuit-s"), to_pixels(CAT)
    asked: list[float] = []

    def noted(first: Tensor, latent: Tensor, trust: float) -> Tensor:
        asked.append(trust)
        return mixed(first, latent, trust)

    monkeypatch.setattr("bsq.codec.search.mixed", noted)
    assert Search(model, UniformPrior(), 18, 1)(pixels) != model.encode(pixels, 18)
    assert asked == list(TRUSTS[:2])


def test_fewer_bits_are_tried_before_giving_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Codes] = []

    def spent(_: Search, codes: Codes) -> float:
        asked.append(codes)
        return 1000.0 * (1.2 if len(asked) > 1 else 1)

    monkeypatch.setattr(Search, "spent", spent)
    model, pixels = bsq.load("biscuit-s"), to_pixels(CAT)
    first = model.encode(pixels, 18)
    assert Search(model, UniformPrior(), 18, 2)(pixels) == first
    changed = [int((codes.digits != first.digits).sum()) for codes in asked[1:]]
    assert len(changed) == len(TRUSTS)
    assert changed == sorted(changed, reverse=True)
    assert changed[-1] > 0


def test_frames_of_clips_are_corrected() -> None:
    model = bsq.load("biscuit-s")
    clip = torch.cat([as_clip(to_pixels(CAT[:64, :64])), as_clip(to_pixels(CAT[64:, 64:]))], 2)
    latent = model.latent(clip)
    together = corrected(model, clip, latent, reader(model, 18), model.decode, 1, silent)
    alone = corrected(model, clip[:, :, :1], latent[:, :1], reader(model, 18), model.decode, 1, silent)
    assert torch.equal(together[:, :1], alone)
    found, first = Search(model, UniformPrior(), 18, 2)(clip), model.encode(clip, 18)
    assert float(distortion(model.decode(found), clip)) < float(distortion(model.decode(first), clip))
    with torch.inference_mode():
        assert Search(model, UniformPrior(), 18, 2)(clip) == found
