"""What larger parts lack: found, written in few bytes, read back, and added where it belongs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from streams import describe, likely_codes

import bsq
from bsq.codec import colour_maps, residual_bytes
from bsq.codec.container import ContainerWriter
from bsq.codec.fields import varint
from bsq.codec.framing import RESIDUAL
from bsq.codec.measure import inspect
from bsq.codec.picture import compress, decompress, recover
from bsq.codec.residual import LARGEST_VALUE, LEVEL, Layer, Residual, fit_residual, with_residual
from bsq.codec.residual_bytes import read_residual
from bsq.codec.shelf import named_model, priors_for
from bsq.codec.stream import CodedStream, read_available, read_codes
from bsq.data.pictures import open_picture
from bsq.errors import DamagedStreamError
from bsq.prior.uniform import UniformPrior


@pytest.fixture(scope="module")
def cat(photo: Callable[[str], Path]) -> np.ndarray:
    return open_picture(photo("chelsea"))[60:252, 100:356]


def drawn(height: int, width: int, spacing: int, largest: int, seed: int = 0) -> Layer:
    values = np.random.default_rng(seed).integers(
        -largest, largest + 1, (3, -(-height // spacing), -(-width // spacing))
    )
    values[0, 0, 0] = largest
    return Layer(spacing, 1 + seed % 9, values)


def same(one: Residual, other: Residual) -> bool:
    return len(one) == len(other) and all(
        a.spacing == b.spacing and a.step == b.step and np.array_equal(a.values, b.values)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (17, 300), (129, 3), (1, 70, 90)])
def test_it_is_what_the_format_says(shape: tuple[int, ...]) -> None:
    """Every pixel by the formulas of docs/format.md, one by one."""
    height, width = shape[-2:]
    layers = drawn(height, width, 64, 3), drawn(height, width, 16, 9, 1)
    pixels = torch.zeros(1, 3, *shape)
    wanted = np.zeros((3, height, width))
    for layer in layers:
        for y in range(height):
            for x in range(width):
                luma, orange, green = (at(plane, y, x, layer.spacing) for plane in layer.values * layer.step * LEVEL)
                wanted[:, y, x] += luma - green + orange, luma + green, luma - green - orange
    found = with_residual(pixels, layers).reshape(3, height, width)
    np.testing.assert_allclose(found, wanted.clip(-1, 1), atol=2e-6)


def at(plane: np.ndarray, y: int, x: int, spacing: int) -> float:
    """Linear between the four nodes around a pixel, by hand."""
    total = 0.0
    for row, down in around(y, plane.shape[0], spacing):
        for column, across in around(x, plane.shape[1], spacing):
            total += plane[row, column] * down * across
    return total


def around(pixel: int, count: int, spacing: int) -> list[tuple[int, float]]:
    place = min(max((pixel + 0.5) / spacing - 0.5, 0), count - 1)
    lower = int(place)
    return [(lower, 1 - (place - lower)), (min(lower + 1, count - 1), place - lower)]


def test_parts_of_a_picture_get_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The strips in which pixels are changed do not show."""
    layers = (drawn(300, 40, 16, 4),)
    whole = with_residual(torch.zeros(1, 3, 300, 40), layers)
    monkeypatch.setattr("bsq.codec.residual.STRIP", 7)
    torch.testing.assert_close(with_residual(torch.zeros(1, 3, 300, 40), layers), whole, atol=1e-6, rtol=0)
    assert torch.equal(with_residual(whole.clone(), ()), whole)


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.lists(st.tuples(st.integers(16, 70), st.integers(1, LARGEST_VALUE), st.integers(0, 99)), max_size=2),
)
def test_bytes_there_and_back(size: tuple[int, int], layers: list[tuple[int, int, int]]) -> None:
    residual = tuple(drawn(*size, *layer) for layer in layers)
    info = describe((2,) * 9, height=size[0], width=size[1])
    assert same(read_residual(residual_bytes.residual_bytes(residual), info), residual)


def test_layers_of_zeros_take_nothing() -> None:
    assert residual_bytes.residual_bytes((replace(drawn(40, 40, 16, 3), values=np.zeros((3, 3, 3), np.int64)),)) == b""


def test_what_lacks_smoothly_is_found() -> None:
    meant = with_residual(torch.zeros(1, 3, 200, 260), (drawn(200, 260, 64, 40),))
    found = fit_residual(
        torch.zeros_like(meant), meant, lambda residual: 5000 + len(residual_bytes.residual_bytes(residual))
    )
    left = (with_residual(torch.zeros_like(meant), found) - meant).square().mean()
    assert left < 0.02 * meant.square().mean()


def test_nothing_where_it_does_not_pay() -> None:
    noise = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)) - 0.5
    assert fit_residual(torch.zeros_like(noise), noise, lambda residual: 400 + 99 * len(residual)) == ()
    assert fit_residual(noise, noise, lambda residual: 400 + 99 * len(residual)) == ()


@pytest.mark.parametrize("bits", [9, 18, 36])
def test_flat_colours_side_by_side(bits: int) -> None:
    """What no map of all colours can set right: each square has an error of its own."""
    levels = np.array([0, 85, 170, 255], np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(8, 8, 3)
    squares = colours.repeat(32, 0).repeat(32, 1)
    errors = []
    for right in (False, True):
        again = decompress(compress(squares, bits=bits, colours=right)).astype(float)
        means = again.reshape(8, 32, 8, 32, 3).mean((1, 3))
        errors.append(np.abs(means - colours).mean())
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("bits", [9, 36])
def test_photographs_come_nearer(cat: np.ndarray, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = compress(cat, bits=bits)
    monkeypatch.setattr("bsq.codec.writer.fit_residual", lambda *_: ())
    without = compress(cat, bits=bits)
    share = (
        1
        - np.square(decompress(data).astype(float) - cat).mean()
        / np.square(decompress(without).astype(float) - cat).mean()
    )
    assert share > len(data) / len(without) - 1 > 0
    assert inspect(without).extra == inspect(without).residual == 0
    assert inspect(data).extra == len(data) - len(without)


def test_a_target_leaves_room_where_that_is_nearer(cat: np.ndarray) -> None:
    """The largest number of digits that fits may leave none."""
    sizes = [len(compress(cat, bits=bits, colours=False)) for bits in (20, 21)]
    data = compress(cat, max_bytes=sizes[1])
    assert len(data) <= sizes[1]
    assert inspect(data).info.kept < 21
    assert inspect(data).extra
    plain = compress(cat, max_bytes=sizes[1], colours=False)
    errors = [np.square(decompress(one).astype(float) - cat).mean() for one in (data, plain)]
    assert errors[0] < errors[1]


def blocks() -> np.ndarray:
    """Flat colours side by side, whose residual takes a quarter of the file."""
    colours = np.random.default_rng(0).integers(6, size=(3, 5, 3), dtype=np.uint8) * 51
    return colours.repeat(32, 0).repeat(32, 1)


def error(data: bytes, picture: np.ndarray) -> float:
    return float(np.square(decompress(data).astype(float) - picture).mean())


def test_targets_give_what_bits_would() -> None:
    """In as many bytes as a file has that is made for fewer bits, there is nothing much worse."""
    picture = blocks()
    file = compress(picture, bits=9)
    assert inspect(file).extra > 0.1 * len(file)
    for room in (0, 20, 60):
        data = compress(picture, max_bytes=len(file) + room)
        assert len(data) <= len(file) + room
        assert error(data, picture) < 1.6 * error(file, picture)
        searched = compress(picture, max_bytes=len(file) + room, search=1)
        assert len(searched) <= len(file) + room
        assert error(searched, picture) < 1.6 * error(file, picture)


def test_allocation_has_room_for_it(cat: np.ndarray) -> None:
    part = cat[:128, :160]
    alike = compress(part, bits=20, search=0)
    shared = compress(part, bits=20, allocate=True, search=0)
    assert inspect(shared).info.levels
    assert inspect(shared).extra
    assert len(shared) <= len(alike)


def test_huge_pictures_have_none(cat: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour_maps, "WHOLE", 100)
    assert inspect(compress(cat)).extra == 0


def test_very_long_pictures_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The grid of nodes of a panorama 500,000 pixels long would not fit into memory."""
    meant = with_residual(torch.zeros(1, 3, 20, 200), (drawn(20, 200, 64, 40),))
    monkeypatch.setattr("bsq.codec.residual.LONGEST_SIDE", 199)
    assert fit_residual(torch.zeros_like(meant), meant, lambda residual: 5000) == ()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_models_of_other_precision(dtype: torch.dtype) -> None:
    part = blocks()
    model = copy.deepcopy(bsq.load("biscuit-s")).to(dtype)
    errors = []
    for right in (False, True):
        data = compress(part, model, colours=right)
        assert (inspect(data).extra > 0) == right
        errors.append(np.square(decompress(data, model).astype(float) - part).mean())
    assert errors[1] < errors[0]


def stream(payload: bytes, twice: bool = False, **fields: object) -> bytes:
    """A sound stream around any residual."""
    info = describe((2,) * 9, height=40, width=60, **fields)
    coded = CodedStream(likely_codes(info), info, UniformPrior())
    add = ContainerWriter.add_extra

    def added(writer: ContainerWriter, number: int, _: bytes) -> None:
        for _ in range(1 + twice):
            add(writer, number, payload)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContainerWriter, "add_extra", added)
        return coded.stream(residual=(drawn(40, 60, 16, 3),))


GOOD = residual_bytes.residual_bytes((drawn(40, 60, 16, 3),))


def test_golden_bytes() -> None:
    data = stream(GOOD)
    assert data[8:10] == b"\2\3"
    assert bytes([RESIDUAL << 2 | 2, len(GOOD)]) + GOOD in data
    assert GOOD[:3] == bytes([16, 1, 3])
    assert same(read_codes(data).residual, (drawn(40, 60, 16, 3),))
    assert GOOD.hex() == "1001031da44d8c59d06c14b21e58672e6e80"


@pytest.mark.parametrize("head", [(15, 1, 3), (4097, 1, 3), (16, 0, 3), (16, 256, 3), (16, 1, 0), (16, 1, 128)])
def test_layers_that_make_no_sense(head: tuple[int, ...]) -> None:
    data = stream(b"".join(map(varint, head)) + GOOD[3:])
    with pytest.raises(DamagedStreamError, match="a layer of a residual must"):
        read_codes(data)
    assert read_available(data).residual is None


@pytest.mark.parametrize(
    ("payload", "says"),
    [(GOOD[:2], "longer than its chunk"), (GOOD[:-1], "longer than its chunk"), (bytes([16, 1, 3, 1]), "too short")],
)
def test_residuals_that_are_none(payload: bytes, says: str) -> None:
    with pytest.raises(DamagedStreamError, match=says):
        read_codes(stream(payload))


def test_raw_values_that_are_too_few_or_too_many() -> None:
    head = bytes([16, 1, 3])
    for count in (3, 200):
        with pytest.raises(DamagedStreamError, match=r"raw chunk|too short"):
            read_codes(stream(head + varint(count << 1 | 1) + bytes(count)))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_residual_or_damage(payload: bytes) -> None:
    with suppress(DamagedStreamError):
        for layer in read_residual(payload, describe((2,) * 9, height=40, width=60)):
            assert np.abs(layer.values).max() <= LARGEST_VALUE


@pytest.mark.parametrize(
    ("size", "spacing", "layers", "says"),
    [((4096, 4096), 16, 3, "at most 131136 nodes"), ((1, 2**26), 16, 1, "nodes"), ((64, 64), 64, 5, "4 layers")],
)
def test_a_few_bytes_cannot_ask_for_much_work(
    size: tuple[int, int], spacing: int, layers: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No payload at all decodes to some values: nodes have a limit before anything is allocated."""
    monkeypatch.setattr(residual_bytes, "read_group", lambda *_: True)
    with pytest.raises(DamagedStreamError, match=says):
        read_residual(bytes([spacing, 1, 127, 0]) * layers, describe((2,) * 9, height=size[0], width=size[1]))


def test_two_residuals() -> None:
    data = stream(GOOD, twice=True)
    with pytest.raises(DamagedStreamError, match="two residuals"):
        read_codes(data)
    assert read_available(data).residual is None


def test_videos_have_none() -> None:
    """Whatever such a chunk may mean there one day, it may be skipped."""
    for twice in (False, True):
        data = stream(GOOD, twice, frames=3, frame_rate=Fraction(25))
        assert read_codes(data).residual == ()


def test_other_extra_chunks_are_stepped_over() -> None:
    """A reader may skip what it does not know."""
    data = stream(GOOD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bsq.codec.walk.RESIDUAL", 77)
        decoded, parts = read_codes(data), inspect(data)
    assert decoded.residual == ()
    assert decoded.codes == read_codes(data).codes
    assert (parts.extra, parts.residual) == (len(GOOD) + 6, 0)
    assert inspect(data).residual == len(GOOD)


def test_a_damaged_residual_costs_nothing_else() -> None:
    data = stream(GOOD[:-1])
    with pytest.raises(DamagedStreamError, match="longer than its chunk"):
        read_codes(data)
    left = read_available(data)
    assert isinstance(left.trouble, DamagedStreamError)
    assert left.residual is None
    assert left.codes == read_codes(stream(GOOD)).codes


def test_a_stream_cut_in_it_shows_the_rest(cat: np.ndarray) -> None:
    data = compress(cat, bits=9)
    parts = inspect(data)
    assert parts.extra
    cut = recover(data[: -parts.closing - parts.extra // 2])
    assert cut.missing is not None
    assert "100 % of the digits can be used" in cut.missing
    assert cut.missing.endswith("; what larger parts lack is lost")
    nearly = recover(data[:-1])
    assert nearly.missing is not None
    assert "lack" not in nearly.missing
    assert np.array_equal(nearly.picture, decompress(data))
    stripped = read_available(data[: -parts.closing - parts.extra // 2], priors_for(named_model("biscuit-s")))
    assert stripped.residual is None
    assert not stripped.missing.any()
    whole = recover(data)
    assert whole.missing is None
    assert np.array_equal(whole.picture, decompress(data))
    assert (cut.picture != whole.picture).any()
    assert np.abs(cut.picture.astype(int) - whole.picture).mean() < 4
