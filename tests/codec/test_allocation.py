"""Tokens that keep different numbers of digits: streams come back, hostile ones are refused, and files get better."""

from __future__ import annotations

import hashlib
import random
import resource
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import EchoPrior, describe, likely_codes
from test_fuzz import mutate

import bsq
from bsq.codec.allocation import Costs, best_within, levels_of, measure_costs, patch_errors
from bsq.codec.header import Header, header_body, read_header_body
from bsq.codec.info import StreamInfo
from bsq.codec.measure import inspect
from bsq.codec.picture import compress, decompress, recover
from bsq.codec.shelf import priors_for
from bsq.codec.stream import read_available, read_codes, write_codes
from bsq.codes import Codes
from bsq.data.pictures import to_pixels
from bsq.errors import CodesError, DamagedStreamError, SettingsError, StreamError, TruncatedStreamError
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.allocated import allocate, kept_digits
from bsq.prior.base import Prior
from bsq.prior.lengths import digit_lengths
from bsq.prior.masked import MaskedPrior, MaskedSettings
from bsq.prior.uniform import UniformPrior

PRIORS: dict[str, Prior] = {
    "uniform": UniformPrior(),
    "echo": EchoPrior(),
    "adaptive": AdaptivePrior(),
    "masked": MaskedPrior(MaskedSettings(radices=(2,) * 12, layer_digits=4, width=16, blocks=1, chain_width=16)),
}


def allocated(radices: tuple[int, ...], levels: tuple[int, ...], seed: int = 0) -> tuple[Codes, StreamInfo]:
    """Whole codes with a level for each token, and what the header says of them."""
    info = describe(radices, kept=levels[-1])
    chosen = np.random.default_rng(seed).integers(len(levels), size=info.grid.tokens)
    return allocate(likely_codes(info, seed), levels, chosen), replace(info, levels=levels)


@pytest.mark.parametrize("name", PRIORS)
def test_streams_come_back(name: str) -> None:
    codes, info = allocated((2,) * 12, (2, 5, 12))
    data = write_codes(codes, info, PRIORS[name])
    decoded = read_codes(data, [PRIORS[name]])
    kept = kept_digits(codes, info.levels)
    assert decoded.info == info
    assert decoded.codes == codes.first(12)
    assert decoded.kept is not None
    assert torch.equal(decoded.kept, kept)
    assert torch.equal(decoded.known, torch.arange(12) < kept[0, ..., None])
    assert not decoded.codes.digits[~decoded.known[None]].any()
    assert data[8:10] == b"\2\1"


def test_streams_without_levels_are_as_before() -> None:
    info = describe((2,) * 12)
    assert write_codes(likely_codes(info), info, UniformPrior())[8:10] == b"\2\0"


def test_the_bytes_are_fixed() -> None:
    """A change of format 2.1 shows here: old files must stay readable."""
    codes, info = allocated((2,) * 12, (3, 12))
    data = write_codes(codes, info, UniformPrior())
    assert hashlib.sha256(data).hexdigest() == GOLDEN


GOLDEN = "36d3745b4d80910e2c3638ca51ce3462cc63780c6d7f5e99619bc934bd5a8518"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_radices_and_levels(data: st.DataObject) -> None:
    radices = tuple(data.draw(st.lists(st.integers(2, 300), min_size=2, max_size=12)))
    levels = sorted(data.draw(st.sets(st.integers(1, len(radices)), min_size=2, max_size=8)))
    codes, info = allocated(radices, tuple(levels), data.draw(st.integers(0, 99)))
    prior = data.draw(st.sampled_from([UniformPrior(), EchoPrior()]))
    decoded = read_codes(write_codes(codes, info, prior), [prior])
    assert decoded.codes.digits.equal(codes.digits[..., :-1])
    assert decoded.kept is not None
    assert decoded.kept.equal(kept_digits(codes, info.levels))


@pytest.mark.parametrize(
    ("levels", "words"),
    [((12,), "2 to 16"), ((5, 5, 12), "ascending"), ((0, 12), "ascending"), ((3, 11), "must be the 12 digits kept")],
)
def test_levels_that_contradict_the_rest_are_refused(levels: tuple[int, ...], words: str) -> None:
    info = replace(describe((2,) * 12), levels=levels)
    with pytest.raises(CodesError, match=words):
        write_codes(likely_codes(info), info, UniformPrior())


def test_a_video_has_no_levels() -> None:
    info = replace(describe((2,) * 12, frames=2, frame_rate=Fraction(25)), levels=(3, 12))
    with pytest.raises(CodesError, match="video"):
        write_codes(likely_codes(info), info, UniformPrior())


def test_codes_and_levels_must_fit() -> None:
    codes, info = allocated((2,) * 12, (3, 12))
    with pytest.raises(CodesError, match="as the description says"):
        write_codes(codes.first(12), info, UniformPrior())
    with pytest.raises(CodesError, match="largest of the levels"):
        allocate(codes.first(12), (3, 11), np.zeros(12, np.int64))


def test_what_is_cut_gives_what_is_there() -> None:
    _, info = allocated((2,) * 30, (10, 20, 30))
    large = replace(info, height=400, width=400)
    chosen = np.random.default_rng(0).integers(3, size=large.grid.tokens)
    whole = allocate(likely_codes(replace(large, levels=())), info.levels, chosen)
    data = write_codes(whole, large, EchoPrior())
    for length in range(0, len(data), len(data) // 23):
        with pytest.raises(StreamError):
            read_codes(data[:length], [EchoPrior()])
    with pytest.raises(TruncatedStreamError):
        read_codes(data[:-1], [EchoPrior()])
    shares = []
    for length in (len(data) // 3, len(data) // 2, len(data) - 12):
        part = read_available(data[:length], [EchoPrior()])
        assert part.trouble is not None
        assert torch.equal(part.codes.digits[0][part.known], whole.digits[0, ..., :-1][part.known])
        assert not (part.known & ~(torch.arange(30) < kept_digits(whole, info.levels)[0, ..., None])).any()
        shares.append(int(part.known.sum()))
    assert 0 < shares[0] < shares[1] < shares[2]


def test_bytes_by_strangers_are_refused() -> None:
    codes, info = allocated((2,) * 12, (3, 7, 12))
    data, rng = write_codes(codes, info, EchoPrior()), random.Random(0)
    for _ in range(2000):
        changed = mutate(data, rng)
        for read in (read_codes, read_available):
            try:
                found = read(changed, [EchoPrior()])
            except StreamError:
                continue
            known = found.known[None]
            assert torch.equal(found.codes.digits[known], codes.digits[..., :-1][known])


@pytest.mark.parametrize("record", [b"\1\0", b"\1\1\3", b"\1\2\3\13", b"\1\2\14\3", b"\1\2\3\14\1\2\3\14"])
def test_records_of_levels_that_make_no_sense(record: bytes) -> None:
    body = header_body(Header(describe((2,) * 12), "uniform", bytes(8), True))
    with pytest.raises(DamagedStreamError):
        read_header_body(body + record)


def test_costs_are_those_of_the_file() -> None:
    info = describe((2,) * 12, height=160, width=160)
    codes = likely_codes(info)
    for prior in (EchoPrior(), AdaptivePrior()):
        spent = digit_lengths(prior, codes)
        payload = inspect(write_codes(codes, info, prior)).payload
        assert spent.shape == (info.grid.tokens, 12)
        assert spent.sum() / 8 == pytest.approx(payload, abs=2)
    mixed = describe((5, 3, 300), height=64, width=64)
    assert digit_lengths(UniformPrior(), likely_codes(mixed)).sum(0) / 64 == pytest.approx(
        np.log2([5, 3, 300]), rel=1e-3
    )


def test_errors_are_of_the_picture_and_not_of_the_padding() -> None:
    pixels = torch.zeros(1, 3, 10, 12)
    again = torch.full((1, 3, 16, 16), 0.5)
    errors = patch_errors(again, pixels, 8).reshape(2, 2)
    flat = 0.25 * 3 / np.sqrt(0.003)
    assert errors == pytest.approx(flat * np.array([[64, 32], [16, 8]]), rel=1e-5)
    busy = pixels.clone()
    busy[..., ::2] = 1
    assert patch_errors(busy[..., :8, :8] + 0.5, busy[..., :8, :8], 8) < patch_errors(
        again[..., :8, :8], pixels[..., :8, :8], 8
    )


def test_the_choice_is_the_best_of_its_size() -> None:
    """Beside all choices of four tokens: none of at most these bits has less error."""
    rng = np.random.default_rng(0)
    bits = np.sort(rng.integers(10, 200, (4, 3)), 1).cumsum(1).astype(float)
    errors = -np.sort(-rng.random((4, 3)), 1)
    costs = Costs(errors, bits)
    every = np.array(np.meshgrid(*[range(3)] * 4)).reshape(4, -1).T
    for multiplier in (0.0, 1e-4, 1e-3, 1e-2, 1.0):
        chosen = costs.best(multiplier)
        size = bits[np.arange(4), chosen].sum()
        fitting = [one for one in every if bits[np.arange(4), one].sum() <= size]
        assert costs.error(chosen) == pytest.approx(min(map(costs.error, fitting)))


def test_the_search_comes_close_to_what_is_allowed() -> None:
    rng = np.random.default_rng(1)
    bits = rng.uniform(4, 12, (2000, 4)).cumsum(1)
    errors = -np.sort(-rng.exponential(size=(2000, 4)), 1)
    costs = Costs(errors, bits)
    written: list[int] = []

    def write(chosen: np.ndarray) -> bytes:
        written.append(len(chosen))
        return bytes(int(1.07 * costs.bytes(chosen)) + 90)

    for allowed in (3000, 5000, 7000):
        found = best_within(costs, write, allowed)
        assert found is not None
        assert 0.98 * allowed < len(found[1]) <= allowed
    assert len(written) <= 15
    assert best_within(costs, write, 500) is None


def test_levels_are_quarters() -> None:
    assert levels_of(36) == (9, 18, 27, 36)
    assert levels_of(10) == (3, 5, 8, 10)
    assert levels_of(1) == (1,)


@pytest.mark.parametrize("how", [{"bits": 22}, {"max_bytes": 2600}, {"bits": 20, "max_bytes": 2200}])
def test_a_file_of_equal_size_is_closer(face: np.ndarray, how: dict[str, int]) -> None:
    alike, shared = (compress(face, **how, allocate=one, search=0, colours=False) for one in (False, True))
    assert len(shared) <= (how.get("max_bytes") or len(alike))
    assert inspect(shared).info.levels
    wanted = to_pixels(face)
    errors = [patch_errors(to_pixels(decompress(data)), wanted, 8).sum() for data in (alike, shared)]
    assert errors[1] < errors[0]
    assert np.array_equal(bsq.decompress(shared), recover(shared).picture)
    assert recover(shared[: len(shared) // 2]).missing is not None
    assert inspect(shared).info.kept == (how.get("bits", 36) if "max_bytes" in how else 36)


def test_no_file_is_farther_off(face: np.ndarray) -> None:
    """Costs promise less error than mixed levels then have (18 bits of this picture): the file stays uniform."""
    wanted = to_pixels(face)
    for bits in (9, 12, 18, 27):
        alike, shared = (to_pixels(decompress(compress(face, bits=bits, allocate=how))) for how in (False, True))
        assert patch_errors(shared, wanted, 8).sum() <= patch_errors(alike, wanted, 8).sum()


def test_nothing_is_made_up_for_digits_that_were_left_out(face: np.ndarray) -> None:
    """Levels below the prior's first layer: with only the digest cut off, the picture is the same."""
    data = compress(face, bits=9, max_bytes=700, allocate=True, colours=False)
    assert min(inspect(data).info.levels) < 9
    last = recover(data[:-1])
    assert last.missing is not None
    assert "100 % of the digits" in last.missing
    assert np.array_equal(last.picture, decompress(data))
    cut = read_available(data[: len(data) // 2], priors_for(bsq.load("biscuit-s")))
    assert cut.kept is not None
    assert cut.missing[cut.kept[0] == 0].all()


def test_there_must_be_something_to_share_out(face: np.ndarray) -> None:
    with pytest.raises(SettingsError, match="bits or max_bytes"):
        compress(face, allocate=True)
    for bits in (0, 37, -3):
        with pytest.raises(SettingsError, match="1 to 36"):
            compress(face, bits=bits, allocate=True)
    small = face[:1, :1]
    assert np.array_equal(decompress(compress(small, bits=3, allocate=True)).shape, (1, 1, 3))


def test_measured_costs_fall_with_levels(face: np.ndarray) -> None:
    model, pixels = bsq.load("biscuit-s").eval(), to_pixels(face)
    codes = model.encode(pixels)
    costs = measure_costs(model, pixels, codes, (9, 18, 27, 36), UniformPrior())
    assert costs.errors.sum(0).tolist() == sorted(costs.errors.sum(0), reverse=True)
    assert costs.bits[0].tolist() == pytest.approx([9, 18, 27, 36])


def test_wide_radices_are_not_written_out_row_by_row() -> None:
    """Beside 2^16 frequencies a token, of 16,384 tokens, 8 GiB: far more than this process may take."""
    info = replace(describe((65536, 65536), height=128, width=128, patch=1), levels=(1, 2))
    whole = likely_codes(replace(info, levels=()))
    codes = allocate(whole, (1, 2), np.arange(info.grid.tokens) % 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_codes(write_codes(codes, info, UniformPrior())).codes == codes.first(2)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """Of scikit-image's wheel, 200×232."""
    skimage_data = pytest.importorskip("skimage.data")
    picture: np.ndarray = skimage_data.astronaut()[20:220, 100:332]
    return picture
