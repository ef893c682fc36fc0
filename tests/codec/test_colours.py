"""Colours set right: greys come back grey, flat colours exactly, and nothing that the map was not fitted to suffers."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from streams import describe, likely_codes, sample

import bsq
from bsq.codec import colour_maps as module
from bsq.codec.colour_maps import FilmColours, colours_of, film_colours, look, squares, thinned
from bsq.codec.colours import RGB, YCOCG, ColourFit, coloured
from bsq.codec.fields import signed_varint, varint
from bsq.codec.header import COLOURS, Header, header_body, read_header_body
from bsq.codec.info import COLOUR_BOUND
from bsq.codec.measure import inspect
from bsq.codec.picture import compress, decompress, recover
from bsq.codec.shelf import priors_for
from bsq.codec.stream import read_codes, split_groups, write_codes
from bsq.codec.video import compress_video, decompress_video, recover_video
from bsq.data.pictures import open_picture, to_pixels
from bsq.errors import CodesError, DamagedStreamError
from bsq.prior.uniform import UniformPrior
from bsq.tokenizer import Tokenizer

SOME = (3, -20, 0, 1, 0, -64, 7, -2, 0, 5, 90, 200)


@pytest.fixture(scope="module")
def cat(photo: Callable[[str], Path]) -> np.ndarray:
    return open_picture(photo("chelsea"))[60:188, 100:260]


def pixels_of(*shape: int) -> torch.Tensor:
    return torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("shape", [(1, 1), (129, 3), (300, 7), (2, 20, 30)])
def test_the_map_is_what_the_format_says(shape: tuple[int, ...]) -> None:
    pixels = pixels_of(*shape)
    red, green, blue = pixels[0].double()
    wanted = []
    before = (red + 2 * green + blue) / 4, (red - blue) / 2, (2 * green - red - blue) / 4
    for own, row in zip(before, np.array(SOME).reshape(3, 4), strict=True):
        wanted.append(own + sum(n / 64 * other for n, other in zip(row[:3], before, strict=True)) + row[3] / 256)
    luma, orange, green = wanted
    expected = torch.stack([luma - green + orange, luma + green, luma - green - orange])[None].clamp(-1, 1)
    torch.testing.assert_close(coloured(pixels.clone(), SOME).double(), expected, atol=1e-6, rtol=0)
    assert torch.equal(coloured(pixels.clone(), ()), pixels)


def test_there_and_back() -> None:
    assert torch.equal(RGB @ YCOCG, torch.eye(3, dtype=torch.float64))


def test_a_known_map_is_found() -> None:
    shown = pixels_of(1, 40, 40) * 0.3
    meant = coloured(shown.clone(), (6, 0, -2, 20, 1, -12, 0, 0, 0, 3, 9, -30))
    fit = ColourFit()
    for part in range(4):
        fit.add(shown[..., 10 * part :][..., :10, :], meant[..., 10 * part :][..., :10, :])
    assert fit.colours(1e6) == (6, 0, -2, 20, 1, -12, 0, 0, 0, 3, 9, -30)


@pytest.mark.parametrize("bits", [9, 18, 36])
def test_greys_come_back_grey(cat: np.ndarray, bits: int) -> None:
    grey = np.repeat(cat.mean(axis=2, keepdims=True).round(), 3, axis=2).astype(np.uint8)
    tints = []
    for right in (False, True):
        again = decompress(compress(grey, bits=bits, colours=right)).astype(int)
        tints.append(np.abs(again[..., [0, 2]] - again[..., [1]]).max())
    assert tints[0] > 4
    assert tints[1] <= 1


@pytest.mark.parametrize("side", [1, 8, 50])
@pytest.mark.parametrize("colour", [(250, 10, 20), (0, 0, 255), (255, 255, 255), (90, 200, 30)])
def test_flat_colours_come_back_exactly(side: int, colour: tuple[int, int, int]) -> None:
    flat = np.broadcast_to(np.array(colour, np.uint8), (side, side, 3)).copy()
    again = decompress(compress(flat)).astype(int)
    assert np.abs(again - flat).max() <= 2
    assert np.abs(again.mean(axis=(0, 1)) - flat[0, 0]).max() <= 1


@pytest.mark.parametrize("bits", [9, 36])
def test_photographs_come_nearer_for_few_bytes(cat: np.ndarray, bits: int) -> None:
    files = [compress(cat, bits=bits, colours=right) for right in (False, True)]
    assert len(files[0]) < len(files[1]) <= 1.12 * len(files[0]) + 28
    errors = [np.square(decompress(data).astype(float) - cat).mean() for data in files]
    assert errors[1] < errors[0]
    shown = [np.square(decompress(data, "biscuit-s:perceptual").astype(float) - cat).mean() for data in files]
    assert shown[1] < shown[0]  # another decoder's errors are alike


def test_no_map_where_it_does_not_pay(tiny_tokenizer: Tokenizer) -> None:
    """A picture that is what its codes show."""
    codes = tiny_tokenizer.encode(pixels_of(40, 40))
    pixels = tiny_tokenizer.decode(codes)[:, :, 0]
    assert colours_of(look(tiny_tokenizer, codes, pixels), codes, pixels) == ()


@pytest.mark.parametrize(("how", "levels"), [({"bits": 20}, True), ({"max_bytes": 700}, True), ({"bits": 1}, False)])
def test_beside_allocation_and_targets(cat: np.ndarray, how: dict[str, int], levels: bool) -> None:
    for allocate in (False, True):
        data = compress(cat, **how, allocate=allocate, search=0)
        info = inspect(data).info
        assert len(info.colours) == 12
        assert bool(info.levels) == (allocate and levels)
        assert len(data) <= how.get("max_bytes", len(data))
        assert np.array_equal(recover(data).picture, decompress(data))


def test_a_target_comes_first(cat: np.ndarray) -> None:
    plain = compress(cat, bits=1, search=0, colours=False)
    assert compress(cat, max_bytes=len(plain) + 3, search=0) == plain


def test_what_is_left_of_a_stream_has_its_colours(cat: np.ndarray) -> None:
    grey = np.repeat(cat[..., :1], 3, axis=2)
    data = compress(grey, bits=18)
    left = recover(data[: len(data) // 2])
    assert left.missing is not None
    tint = np.abs(left.picture[..., [0, 2]].astype(int) - left.picture[..., [1]])
    assert tint.mean() < 1


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([(1, 1), (32, 32), (14, 60)]))
@example(289, 1097, (14, 60))
@example(47, 400, (1, 1))
def test_squares_lie_in_the_grid(rows: int, columns: int, least: tuple[int, int]) -> None:
    found = list(squares(rows, columns, least))
    tall, wide = found[0][0].stop - found[0][0].start, found[0][1].stop - found[0][1].start
    for down, across in found:
        assert down.start >= 0
        assert down.stop <= max(rows, least[0])
        assert down.stop - down.start == tall >= min(rows, least[0])
        assert across.start >= 0
        assert across.stop <= max(columns, least[1])
        assert across.stop - across.start == wide >= min(columns, least[1])
    assert len(found) * tall * wide <= 2 * module.MOST
    if len(found) > 1:  # nothing is left out at the ends
        assert {min(down.start for down, _ in found), min(across.start for _, across in found)} == {0}
        assert max(down.stop for down, _ in found) >= min(rows, len(found) * tall)
        assert max(across.stop for _, across in found) >= min(columns, len(found) * wide)


@pytest.mark.parametrize(("height", "width"), [(203, 331), (5, 3000), (3000, 5), (260, 64)])
def test_squares_of_a_large_picture(
    tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, height: int, width: int
) -> None:
    """Shown and meant are of one place: what the picture would be if its codes were exact."""
    monkeypatch.setattr(module, "WHOLE", 200)
    monkeypatch.setattr(module, "MOST", 200)
    monkeypatch.setattr(module, "SIDE", 8)
    ramps = torch.stack(torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"))
    pixels = torch.cat([ramps, ramps[:1]])[None]

    def show(codes: bsq.Codes, size: tuple[int, int], kept: torch.Tensor | None) -> torch.Tensor:
        assert kept is not None
        assert kept.shape == codes.shape[:4]
        return (
            codes.digits[..., :3]
            .movedim(-1, 1)
            .repeat_interleave(8, -1)
            .repeat_interleave(8, -2)[..., : size[0], : size[1]]
        )

    codes = tiny_tokenizer.encode(pixels)
    monkeypatch.setattr(tiny_tokenizer, "decode", show)
    shown, meant, whole = look(tiny_tokenizer, codes, pixels, torch.full(codes.shape[:4], 12))
    assert not whole
    assert shown.shape == meant.shape
    assert shown.shape[0] > 1
    where = {tuple(colour) for colour in pixels[0].flatten(1).T.tolist()}
    assert {tuple(colour) for colour in meant[:, :, 0].movedim(1, -1).reshape(-1, 3).tolist()} <= where
    for one, of in zip(shown[:, :, 0], meant[:, :, 0], strict=True):
        row, column = ((of[axis, 0, 0] + 1) / 2 * (side - 1) for axis, side in ((0, height), (1, width)))
        token = codes.digits[0, 0, round(float(row)) // 8, round(float(column)) // 8, :3]
        assert torch.equal(one[:, 0, 0], token)


def test_a_flower_before_a_grey_wall_keeps_its_colour(cat: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the wall's map, which takes colour away, may reach what lies between the squares."""
    wall = np.tile(np.repeat(cat.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8), (2, 2, 1))
    wall[116:140, 142:178] = (220, 30, 40)
    monkeypatch.setattr(module, "WHOLE", 64)
    monkeypatch.setattr(module, "MOST", 64)
    monkeypatch.setattr(module, "SIDE", 6)
    monkeypatch.setattr(module, "RIM", 1)
    codes = bsq.load("biscuit-s").encode(to_pixels(wall))
    meant = look(bsq.load("biscuit-s"), codes, to_pixels(wall)).meant
    assert (meant[:, 0] - meant[:, 1]).abs().max() == 0, "the squares see the flower"
    assert len(inspect(compress(wall)).info.colours) == 12
    flower = decompress(compress(wall)).astype(float)[120:136, 150:170].mean(axis=(0, 1))
    assert flower[0] > 180
    assert flower[1] < 90


@pytest.mark.parametrize("bits", [18, 36])
def test_a_small_flower_keeps_its_colour_too(cat: np.ndarray, bits: int) -> None:
    """Seen, but by few pixels among many whose little colour is noise: it may not pale more than without a map."""
    wall = np.tile(np.repeat(cat.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8), (3, 3, 1))
    wall[184:192, 240:248] = (220, 30, 40)
    inner = []
    for right in (False, True):
        again = decompress(compress(wall, bits=bits, colours=right)).astype(float)
        inner.append(again[186:190, 242:246].mean(axis=(0, 1)))
    assert np.abs(inner[1] - (220, 30, 40)).max() < np.abs(inner[0] - (220, 30, 40)).max() + 8


def test_defaults_of_the_process_do_not_matter() -> None:
    told = "import torch; torch.set_default_dtype(torch.float64)\nimport numpy as np, bsq\n"
    told += "flat = np.full((24, 40, 3), (250, 10, 20), np.uint8)\n"
    told += "print(*bsq.decompress(bsq.compress(flat)).reshape(-1, 3).mean(0))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert np.abs(np.array(done.stdout.split(), float) - (250, 10, 20)).max() < 1.5


def test_golden_header() -> None:
    info = replace(describe((2,) * 12, height=20, width=30, kept=9), colours=SOME)
    data = write_codes(likely_codes(info), info, UniformPrior())
    record = "020e" + "06270002" + "007f0e03" + "000ab4019003"
    assert data[8:42] == bytes.fromhex("02021f06141e080c09" + "0001020304050607" + "00" + record)
    assert read_codes(data).codes == likely_codes(info)
    assert inspect(data).info == info


def test_streams_without_a_map_are_as_before() -> None:
    assert sample((2,) * 9).data[8:10] == b"\2\0"


@pytest.mark.parametrize("numbers", [(1,), (0,) * 11, (0,) * 13, (0,) * 11 + (COLOUR_BOUND + 1,), (2**61,) * 12])
def test_a_map_that_is_none(numbers: tuple[int, ...]) -> None:
    info = describe((2,) * 12)
    with pytest.raises(CodesError, match="12 numbers within"):
        write_codes(likely_codes(info), replace(info, colours=numbers), UniformPrior())
    content = b"".join(map(signed_varint, numbers))
    body = header_body(Header(info, "uniform", bytes(8), True)) + varint(COLOURS) + varint(len(content)) + content
    with pytest.raises(DamagedStreamError, match="12 numbers within"):
        read_header_body(body)


def test_records_that_make_no_sense() -> None:
    info = replace(describe((2,) * 12), colours=SOME)
    body = header_body(Header(info, "uniform", bytes(8), True))
    record = body[len(header_body(Header(describe((2,) * 12), "uniform", bytes(8), True))) :]
    with pytest.raises(DamagedStreamError, match="two records of colours"):
        read_header_body(body + record)
    with pytest.raises(DamagedStreamError, match="colours is empty"):
        read_header_body(body[: -len(record)] + bytes([COLOURS, 0]))


def grey_film(cat: np.ndarray, count: int) -> list[np.ndarray]:
    """A window that moves over the cat, without its colours."""
    grey = np.repeat(cat.mean(axis=2, keepdims=True).round(), 3, axis=2).astype(np.uint8)
    return [grey[number : number + 64, 2 * number : 2 * number + 80] for number in range(count)]


def in_memory(frames: list[np.ndarray], **options: Any) -> io.BytesIO:
    target = io.BytesIO()
    compress_video(frames, 12, target, bits=18, frames_per_group=3, **options)
    return target


def test_a_grey_film_comes_back_grey(cat: np.ndarray) -> None:
    frames, tints = grey_film(cat, 7), []
    for right in (False, True):
        again = np.stack(list(decompress_video(in_memory(frames, colours=right)).frames)).astype(int)
        tints.append(np.abs(again[..., [0, 2]] - again[..., [1]]).max())
    assert tints[0] > 4
    assert tints[1] <= 2
    data = in_memory(frames).getvalue()
    left = np.stack(list(recover_video(io.BytesIO(data[: 2 * len(data) // 3])).frames)).astype(int)
    assert np.abs(left[..., [0, 2]] - left[..., [1]]).max() <= 2


def test_a_films_map_is_the_same_as_it_goes_by_and_as_a_whole(tiny_tokenizer: Tokenizer) -> None:
    frames = [np.random.default_rng(n).integers(0, 9 * n + 9, (40, 56, 3), dtype=np.uint8) for n in range(11)]
    target = io.BytesIO()
    info = compress_video(frames, 12, target, tiny_tokenizer, 9, frames_per_group=4)
    assert len(info.colours) == 12
    assert inspect(target.getvalue()).info == info
    codes = read_codes(target.getvalue(), priors_for(tiny_tokenizer)).codes
    assert film_colours(tiny_tokenizer, split_groups(codes, info), frames) == info.colours


def test_few_groups_of_a_long_film_are_decoded(tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr(module, "decode_group", lambda codes, *_: decoded.append(codes) or iter([frame]))
    film, frame = FilmColours(tiny_tokenizer), np.full((16, 16, 3), 90, np.uint8)
    codes = tiny_tokenizer.encode(to_pixels(frame))
    for _ in range(20):
        list(film.watch(iter([frame])))
        film.add(codes)
    assert len(decoded) == 4  # 0, 1, 8, 16
    assert film.colours() == ()


def test_colours_of_groups_that_were_not_decoded_stay() -> None:
    """Greys with a tint, then a stretch of red: its map must not take the red away."""
    red = torch.tensor([0.8, -0.7, -0.6]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    grey = torch.linspace(-1, 1, 64).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    tinted = grey + 0.02 * pixels_of(8, 8)[:, :1] * torch.tensor([1.0, 0.0, -1.0]).view(3, 1, 1)
    fit = ColourFit()
    fit.add(tinted, grey)
    fit.see(grey)
    alone = fit.colours(1e6)
    for _ in range(5):
        fit.see(red)
    both = fit.colours(1e6)
    assert (coloured(tinted.clone(), alone) - grey).abs().mean() < 0.2 * (tinted - grey).abs().mean()
    assert (coloured(red.clone(), alone) - red).abs().max() > 0.3
    assert (coloured(red.clone(), both) - red).abs().max() < 0.05


def test_thin_frames() -> None:
    assert thinned(np.zeros((144, 256, 3))).shape == (144, 256, 3)
    assert thinned(np.zeros((1080, 1920, 3))).shape == (180, 320, 3)
    assert thinned(np.zeros((480, 540, 3))).shape == (240, 270, 3)
    assert thinned(np.zeros((1, 200_000, 3))).shape == (1, 100_000, 3)
