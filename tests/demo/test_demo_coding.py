"""The page's files are those of `bsq encode`, its reconstructions those of `bsq decode`, its costs the files' sizes."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
from skimage import data as pictures

from bsq.codec.picture import compress, decompress
from bsq.codec.shelf import named_model
from bsq.codec.video import compress_video, decompress_video
from bsq.demo.coding import STEPS, Choice, begin, code, reconstruct
from bsq.demo.judging import compare, part_measured, score
from bsq.demo.material import Bounds, Material
from bsq.prior.lengths import code_lengths
from bsq.tokenizer import Tokenizer

RANDOM = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("bits", [1, 7, 12])
def test_a_picture(tiny_tokenizer: Tokenizer, bits: int) -> None:
    picture = noise(45, 70)
    work = begin(Material("a.png", (picture,), None, ()), tiny_tokenizer)
    coded = code(work, Choice(bits))
    assert coded.stream == compress(picture, tiny_tokenizer, bits)
    (again,) = reconstruct(work, Choice(bits))
    assert (again == decompress(coded.stream, tiny_tokenizer)).all()


def test_a_picture_whose_codes_are_searched_for() -> None:
    picture = pictures.chelsea()[60:156, 120:216]
    model, eye = named_model("biscuit-s"), named_model("biscuit-s:perceptual")
    work = begin(Material("a.png", (picture,), None, ()), model, {"faithful": model, "perceptual": eye})
    plain, searched, shown = Choice(9), Choice(9, searched=True), Choice(9, searched=True, decoder="perceptual")
    assert code(work, searched).stream == compress(picture, bits=9, search=STEPS) != code(work, plain).stream
    assert code(work, shown).stream == compress(picture, "biscuit-s:perceptual", 9, search=STEPS)
    (again,) = reconstruct(work, shown)
    assert (again == decompress(code(work, shown).stream, eye)).all()
    assert (work.digits_of(searched)[..., :9] == work.codes_of(searched).digits).all()
    assert (work.digits_of(searched)[..., 9:] == work.codes.digits[..., 9:]).all()


def test_another_decoder_shows_the_same_file() -> None:
    picture = noise(40, 40)
    model, eye = named_model("biscuit-s"), named_model("biscuit-s:perceptual")
    work = begin(Material("a.png", (picture,), None, ()), model, {"faithful": model, "perceptual": eye})
    plain, shown = Choice(18), Choice(18, decoder="perceptual")
    assert code(work, plain).stream == code(work, shown).stream
    assert (reconstruct(work, shown)[0] == decompress(code(work, plain).stream, eye)).all()
    assert (reconstruct(work, shown)[0] != reconstruct(work, plain)[0]).any()


@pytest.mark.parametrize("count", [3, 30])
def test_a_clip_of_one_group_and_of_two(tiny_tokenizer: Tokenizer, count: int) -> None:
    frames, file = tuple(noise(16, 24) for _ in range(count)), io.BytesIO()
    compress_video(frames, Fraction(25), file, tiny_tokenizer, 5)
    work = begin(Material("a.mp4", frames, Fraction(25), ()), tiny_tokenizer)
    coded = code(work, Choice(5))
    assert coded.stream == file.getvalue()
    assert coded.costs.shape == (count, 2, 3)
    wanted = list(decompress_video(file, tiny_tokenizer).frames)
    assert all((one == other).all() for one, other in zip(reconstruct(work, Choice(5)), wanted, strict=True))


def test_costs_add_up_to_the_file(tiny_tokenizer: Tokenizer) -> None:
    picture = noise(160, 160)
    picture[:, 80:] = 128
    coded = code(begin(Material("a.png", (picture,), None, ()), tiny_tokenizer), Choice(12))
    assert coded.costs.shape == (1, 20, 20)
    assert coded.costs.sum() / 8 == pytest.approx(len(coded.stream), abs=70)
    assert coded.costs[0, 2:-2, 12:-2].mean() < 0.5 * coded.costs[0, 2:-2, 2:8].mean()


def test_code_lengths_of_binary_and_other_digits() -> None:
    binary = code_lengths(np.array([2**15, 2**14, 2**14], np.uint16), np.array([1, 1, 0]))
    assert binary.tolist() == pytest.approx([1.0, 2.0, np.log2(4 / 3)])
    ternary = np.array([[2**15, 2**14, 2**14]] * 2, np.uint32)
    assert code_lengths(ternary, np.array([0, 2])).tolist() == [1.0, 2.0]


def test_rivals_have_no_more_bytes_or_say_so(tiny_tokenizer: Tokenizer) -> None:
    picture = noise(96, 96)
    rows = list(compare(begin(Material("a.png", (picture,), None, ()), tiny_tokenizer), Choice(12)))
    assert [row.label for row in rows] == ["bsq", "JPEG", "WebP", "JPEG 2000", "AVIF"]
    for row in rows:
        assert row.over or row.size <= rows[0].size
        assert row.scores is not None
        assert row.scores.ms_ssim is None  # under 161 pixels a side
        assert row.bits_per_pixel == pytest.approx(8 * row.size / 96**2)


def test_a_pixel_is_compared_too(tiny_tokenizer: Tokenizer) -> None:
    rows = list(compare(begin(Material("a.png", (noise(1, 1),), None, ()), tiny_tokenizer), Choice(12)))
    assert len(rows) == 5
    assert all(row.why if row.scores is None else row.scores.lpips is None for row in rows)


def test_large_pictures_are_measured_in_the_middle(tiny_tokenizer: Tokenizer) -> None:
    work = begin(Material("a.png", (noise(64, 128),), None, ()), tiny_tokenizer)
    assert part_measured(work, Bounds()) is work
    part = part_measured(work, Bounds(measured=2048))
    assert part.material.size == (32, 64)
    assert part.codes.shape[2:4] == (4, 8)


def test_scores_of_a_clip_are_means() -> None:
    wanted = [noise(20, 20) for _ in range(2)]
    shown = [frame // 2 for frame in wanted]
    one, other = (score([a], [b]).psnr for a, b in zip(wanted, shown, strict=True))
    assert score(wanted, shown).psnr == pytest.approx((one + other) / 2)
