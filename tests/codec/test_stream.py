"""Codes to streams and back, cut short, damaged, and by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import EchoPrior, Sample, describe, likely_codes, sample, samples

from bsq.codec.framing import Form, blocks
from bsq.codec.measure import inspect
from bsq.codec.stream import check_tokenizer, read_available, read_codes, short_hash, write_codes
from bsq.codes import Codes
from bsq.errors import (
    CodesError,
    DamagedStreamError,
    NotPortableError,
    SettingsError,
    StreamError,
    TruncatedStreamError,
    WrongModelError,
)
from bsq.prior.base import Conversation, Grid, Question
from bsq.prior.uniform import UniformPrior

SAMPLES = samples()


def read(data: bytes, kind: Sample) -> Codes:
    return read_codes(data, [kind.prior]).codes


@pytest.mark.parametrize("name", SAMPLES)
def test_streams_come_back(name: str) -> None:
    kind = SAMPLES[name]
    decoded = read_codes(kind.data, [kind.prior])
    assert decoded.codes == kind.codes
    assert decoded.codes.radices == kind.info.kept_radices
    assert decoded.info == kind.info
    assert decoded.trouble is None
    assert decoded.known.shape == kind.codes.shape[1:]
    assert decoded.known.all()


@pytest.mark.parametrize("length", [1, 36, 60, 256, 1024])
@pytest.mark.parametrize("prior", [UniformPrior(), EchoPrior()], ids=["uniform", "echo"])
def test_codes_of_any_length_survive_bit_for_bit(length: int, prior: UniformPrior | EchoPrior) -> None:
    info = describe((2,) * length, height=64, width=96)
    codes = Codes(torch.randint(0, 2, (1, 1, 8, 12, length)), (2,) * length)
    assert read_codes(write_codes(codes, info, prior), [prior]).codes == codes


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(2, 300) | st.sampled_from([2, 65536]), min_size=1, max_size=12).map(tuple),
    st.integers(1, 70),
    st.integers(1, 70),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_radices_and_sizes(radices: tuple[int, ...], height: int, width: int, echo: bool, seed: int) -> None:
    prior = EchoPrior() if echo else UniformPrior()
    info = describe(radices, height=height, width=width, patch=16)
    codes = likely_codes(info, seed)
    assert read_codes(write_codes(codes, info, prior), [prior]).codes == codes


def test_golden_stream() -> None:
    """The worked example of docs/format.md."""
    info = describe((2,) * 12, height=20, width=30, kept=9)
    digits = torch.tensor([[(7 * token + digit * digit) // 3 % 2 for digit in range(9)] for token in range(12)])
    data = write_codes(Codes(digits.reshape(1, 1, 3, 4, 9), (2,) * 9), info, UniformPrior())
    assert data == bytes.fromhex(
        "8f6273710d0a1a0a02000f06141e080c09000102030405060700a8e03706250e1c738ec71e38c7138e1c738ec710ac96"
        "67f3037ebe11df1900861e"
    )


def test_golden_coded_stream() -> None:
    info = describe((2, 2, 2, 3, 3), height=40, width=40, tokenizer="tiny")
    digits = torch.tensor([[(token // 6 + digit // 3) % 2 for digit in range(5)] for token in range(25)])
    data = write_codes(Codes(digits.reshape(1, 1, 5, 5, 5), info.radices), info, EchoPrior())
    assert [chunk.form for chunk in inspect(data).chunks] == [Form.CODED]
    assert data == bytes.fromhex(
        "8f6273710d0a1a0a0200254a28280805050302020300010203040506070474696e7904046563686f6563686f2d303031"
        "fe4fbd622815c46c5d08c9256ab6293154cbfab2b7fb55e480c4a45f70ee1b0329b2f52a7281e902"
    )


def test_the_uniform_prior_stores_exactly_the_raw_bits() -> None:
    kind = sample((2,) * 36, UniformPrior(), height=512, width=768, patch=16)
    parts = inspect(kind.data)
    assert parts.payload * 8 == parts.raw_bits == 36 * 32 * 48
    assert {chunk.form for chunk in parts.chunks} == {Form.RAW}
    assert parts.payload + parts.overhead == parts.total == len(kind.data)


@pytest.mark.parametrize(("patch", "length"), [(16, 9), (16, 18), (16, 36), (8, 9), (8, 18), (8, 36)])
@pytest.mark.parametrize("prior", [UniformPrior(), EchoPrior()], ids=["uniform", "echo"])
def test_overhead_on_a_picture_is_at_most_100_bytes(patch: int, length: int, prior: UniformPrior | EchoPrior) -> None:
    kind = sample((2,) * length, prior, height=512, width=768, patch=patch, tokenizer="biscuit-s")
    assert inspect(kind.data).overhead <= 100


def test_a_good_prior_shrinks_and_a_bad_one_costs_nothing_much() -> None:
    good = sample((2,) * 36, height=128, width=192)
    assert inspect(good.data).payload * 8 < 0.6 * inspect(good.data).raw_bits
    info = describe((2,) * 36, height=128, width=192)
    noise = Codes(torch.randint(0, 2, (1, 1, 16, 24, 36)), (2,) * 36)
    parts = inspect(write_codes(noise, info, EchoPrior()))
    assert {chunk.form for chunk in parts.chunks} == {Form.RAW}
    assert parts.payload * 8 <= parts.raw_bits + 8 * len(parts.chunks)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_prefix_is_an_error_and_what_is_there_is_right(name: str) -> None:
    kind = SAMPLES[name]
    data, header, shares = kind.data, inspect(kind.data).header, []
    for size in range(len(data)):
        with pytest.raises(StreamError) as caught:
            read(data[:size], kind)
        assert isinstance(caught.value, TruncatedStreamError) == (size > 0)
        if size < header:
            with pytest.raises(StreamError):
                read_available(data[:size], [kind.prior])
            continue
        some = read_available(data[:size], [kind.prior])
        assert isinstance(some.trouble, TruncatedStreamError)
        assert torch.equal(some.codes.digits[0][some.known], kind.codes.digits[0][some.known])
        assert not some.codes.digits[0][~some.known].any()
        shares.append(int(some.known.sum()))
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == kind.codes.digits.numel()


def test_every_byte_of_a_cut_stream_counts() -> None:
    """Seven bytes more, of which four may be a checksum, are digits more; all are right."""
    for kind in (sample((2,) * 36, height=80, width=120), sample((2, 3, 7) * 4, UniformPrior(), height=80, width=120)):
        data, parts = kind.data, inspect(kind.data)
        counts = []
        for size in range(parts.header + 150, len(data) - 20, 7):
            some = read_available(data[:size], [kind.prior])
            assert torch.equal(some.codes.digits[0][some.known], kind.codes.digits[0][some.known])
            counts.append(int(some.known.sum()))
        assert counts == sorted(set(counts))
        assert some.known.float().mean() > 0.9


def test_a_cut_keeps_the_important_digits() -> None:
    kind = sample((2,) * 36, UniformPrior(), height=256, width=384)
    data = kind.data
    some = read_available(data[: len(data) // 2], [])
    depth = some.known[0].sum(-1)
    assert depth.max() - depth.min() <= 1
    assert 0 < depth.min() < depth.max() < 36
    assert some.known[..., : int(depth.min())].all()


def test_bytes_without_a_checksum_are_counted() -> None:
    kind = sample((2,) * 36, height=256, width=384)
    parts = inspect(kind.data)
    assert parts.payload > 1024
    start = parts.header + parts.framing - 4 * len(list(blocks(parts.payload)))
    for end, checks in ((128, 1), (512, 2)):
        cut = start + end + 4 * checks
        assert read_available(kind.data[:cut], [kind.prior]).unchecked == 0
        assert read_available(kind.data[: cut + 9], [kind.prior]).unchecked == 9
        assert read_available(kind.data[: cut - 1], [kind.prior]).unchecked == (384 if end == 512 else 0)
    assert read_codes(kind.data, [kind.prior]).unchecked == 0


def test_a_head_that_nothing_vouches_for_is_not_used() -> None:
    """A length made larger looks like a cut; no digit may come of it."""
    kind = sample((2,) * 9, UniformPrior())
    data, parts = bytearray(kind.data), inspect(kind.data)
    assert parts.payload < 128
    data[parts.header + 1] += 20
    some = read_available(bytes(data), [])
    assert isinstance(some.trouble, TruncatedStreamError)
    assert not some.known.any()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_single_byte_change_is_found(name: str) -> None:
    kind = SAMPLES[name]
    data, rng = kind.data, np.random.default_rng(0)
    for position in range(len(data)):
        changes = [1 << bit for bit in range(8)] + rng.integers(1, 256, 4).tolist()
        for change in changes:
            changed = bytearray(data)
            changed[position] ^= change
            with pytest.raises(StreamError):
                read(bytes(changed), kind)


FLIPS = [1 << bit for bit in range(8)] + [255]


@pytest.mark.parametrize(
    "changes", [FLIPS, pytest.param(range(1, 256), marks=pytest.mark.slow)], ids=["every bit", "every value"]
)
def test_every_byte_changed_is_found_and_never_taken_for_codes(changes: Iterable[int]) -> None:
    kind = sample((2,) * 5)
    data = kind.data
    for position in range(len(data)):
        for change in changes:
            changed = data[:position] + bytes([data[position] ^ change]) + data[position + 1 :]
            with pytest.raises(StreamError):
                read(changed, kind)
            try:
                some = read_available(changed, [kind.prior])
            except StreamError:
                continue
            assert torch.equal(some.codes.digits[0][some.known], kind.codes.digits[0][some.known])
            assert some.trouble is not None


def test_damage_ends_what_is_available() -> None:
    kind = sample((2,) * 36, height=256, width=384)
    parts = inspect(kind.data)
    shares = []
    for place in (50, 300, 1500):
        data = bytearray(kind.data)
        data[parts.header + place] ^= 4
        with pytest.raises(DamagedStreamError, match="checksum"):
            read(bytes(data), kind)
        some = read_available(bytes(data), [kind.prior])
        assert isinstance(some.trouble, DamagedStreamError)
        assert some.unchecked == 0
        assert torch.equal(some.codes.digits[0][some.known], kind.codes.digits[0][some.known])
        shares.append(int(some.known.sum()))
    assert shares[0] == 0 < shares[1] < shares[2] < some.known.numel()


@pytest.mark.parametrize("where", ["head", "tag", "first block", "last block", "two groups"])
def test_groups_behind_a_damaged_one_are_read(where: str) -> None:
    video = {"frames": 9, "frame_rate": Fraction(25), "frames_per_group": 2}
    kind = sample((2,) * 30, height=160, width=240, **video)
    data, parts = bytearray(kind.data), inspect(kind.data)
    assert [chunk.group for chunk in parts.chunks] == [0, 1, 2, 3, 4]
    starts = np.cumsum([parts.header, *(chunk.framed for chunk in parts.chunks)])
    start, behind = int(starts[1]), int(starts[2])
    assert behind - start > 400
    match where:
        case "head":
            data[start + 2] ^= 0x40  # the length, behind a tag of two bytes
        case "tag":
            data[start] ^= 0x40
        case "first block":
            data[start + 60] ^= 1
        case "last block":
            data[behind - 20] ^= 1
        case _:
            data[behind - 20] ^= 1
            data[int(starts[3]) + 50] ^= 1
    some = read_available(bytes(data), [kind.prior])
    assert isinstance(some.trouble, DamagedStreamError if where != "head" else StreamError)
    assert torch.equal(some.codes.digits[0][some.known], kind.codes.digits[0][some.known])
    groups = [some.known[frames].float().mean() for frames in (slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8))]
    assert groups[0] == 1
    assert groups[1] < 1
    assert (groups[1] > 0) == (where in ("last block", "two groups"))
    assert groups[2] == (where != "head")
    assert groups[3] == (where not in ("head", "two groups"))
    assert some.known[8].all() == (where != "head")


def test_bytes_after_the_end_are_damage() -> None:
    kind = SAMPLES["raw picture"]
    with pytest.raises(DamagedStreamError, match="3 bytes follow"):
        read(kind.data + b"abc", kind)


def test_the_prior_must_be_at_hand() -> None:
    kind = SAMPLES["coded picture"]
    for priors in ([], [EchoPrior(identity=b"echo-002")], [EchoPrior(name="masked")]):
        with pytest.raises(WrongModelError, match="echo"):
            read_codes(kind.data, priors)
    assert read_codes(kind.data, [EchoPrior(identity=b"echo-002"), kind.prior]).codes == kind.codes


@pytest.mark.parametrize("read", [read_codes, read_available])
def test_a_prior_that_cannot_model_the_codes_is_the_wrong_one(read: Callable) -> None:
    for prior in (ChoosyPrior(), HastyPrior()):
        with pytest.raises(WrongModelError, match="does not fit"):
            read(SAMPLES["coded picture"].data, [prior])


def test_the_digest_finds_a_prior_that_answers_differently() -> None:
    kind = SAMPLES["coded picture"]
    with pytest.raises(DamagedStreamError, match="digest"):
        read_codes(kind.data, [EchoPrior(certainty=60001)])
    floating = replace(kind, prior=EchoPrior(portable=False))
    with pytest.raises(NotPortableError, match="floating point"):
        read_codes(floating.data, [EchoPrior(certainty=60001, portable=False)])
    assert not inspect(floating.data).portable
    for certainty in range(40000, 65000, 1000):
        with pytest.raises(NotPortableError):
            read_codes(floating.data, [EchoPrior(certainty=certainty + 7, portable=False)])


def test_the_tokenizer_must_be_the_one() -> None:
    info = SAMPLES["coded picture"].info
    check_tokenizer(info, info.code_hash.hex() + "00" * 24)
    assert short_hash("ab" * 32) == b"\xab" * 8
    with pytest.raises(WrongModelError, match="biscuit-s"):
        check_tokenizer(info, "ab" * 32)


def test_codes_must_fit_the_description() -> None:
    kind = SAMPLES["raw picture"]
    for codes in (
        kind.codes.first(8),
        Codes(kind.codes.digits.repeat(2, 1, 1, 1, 1), kind.codes.radices),
        Codes(kind.codes.digits.repeat(1, 2, 1, 1, 1), kind.codes.radices),
        Codes(kind.codes.digits, (3,) * 9),
    ):
        with pytest.raises(CodesError, match="description"):
            write_codes(codes, kind.info, kind.prior)


class TwicePrior(EchoPrior):
    """Broken: asks for the first digit again."""

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        yield next(super().converse(grid, radices))
        yield from super().converse(grid, radices)


class LazyPrior(EchoPrior):
    """Broken: leaves the last digit out."""

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        yield from super().converse(grid, radices[:-1])


class ChoosyPrior(EchoPrior):
    """Models codes of other radices only."""

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        raise SettingsError("this prior models 36 digits of radix 2")
        yield


class HastyPrior(EchoPrior):
    """As `ChoosyPrior`, but says so before the first question."""

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        raise SettingsError("this prior models 36 digits of radix 2")


class BackwardPrior(EchoPrior):
    """Broken: chunk numbers fall."""

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        for question in UniformPrior().converse(grid, radices):
            yield Question(question.tokens, question.digit, question.frequencies, len(radices) - question.chunk)


@pytest.mark.parametrize(
    ("prior", "says"), [(TwicePrior(), "twice"), (LazyPrior(), "unasked"), (BackwardPrior(), "decrease")]
)
def test_a_broken_prior_writes_nothing(prior: EchoPrior, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sample((2,) * 4, prior).data  # noqa: B018


def test_groups_of_frames_start_afresh() -> None:
    whole, grouped = SAMPLES["video"], SAMPLES["grouped video"]
    assert [grid.frames for grid in grouped.info.groups] == [2, 2, 1]
    assert torch.equal(whole.codes.digits, grouped.codes.digits)
    first = inspect(grouped.data)
    assert [chunk.group for chunk in first.chunks] == [0, 1, 2]
    cut = first.header + first.chunks[0].framed
    some = read_available(grouped.data[:cut], [grouped.prior])
    assert some.known[:2].all()
    assert not some.known[2:].any()
