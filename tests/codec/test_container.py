"""The container: what a stream says of itself, and everything a stranger may send instead."""

from __future__ import annotations

import io
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from streams import describe, samples

from bsq.codec.checksum import crc32c
from bsq.codec.container import MAGIC, ContainerWriter, read_container
from bsq.codec.fields import FieldReader, varint
from bsq.codec.framing import Form, Place, blocks, first_crc
from bsq.codec.header import Header, header_body, read_header_body
from bsq.codec.info import Limits, StreamInfo
from bsq.codec.measure import inspect
from bsq.codec.stream import read_available, read_codes, write_codes
from bsq.errors import (
    CodesError,
    DamagedStreamError,
    EmptyStreamError,
    LimitError,
    NewerVersionError,
    NotABsqStreamError,
    StreamError,
    TruncatedStreamError,
)


def stream_of(body: bytes, rest: bytes = b"", version: bytes = b"\2\0") -> bytes:
    """A stream with a sound checksum around any header."""
    head = MAGIC + version + varint(len(body)) + body
    return head + crc32c(head).to_bytes(4, "little") + rest


def chunk_of(head: bytes, place: Place, tag: int, payload: bytes) -> bytes:
    """A chunk with sound checksums, whatever it says."""
    frame = varint(tag) + varint(len(payload))
    out, crc = frame, first_crc(crc32c(head[:-4]), place, frame)
    for block in blocks(len(payload)):
        crc = crc32c(payload[block], crc)
        out += payload[block] + crc.to_bytes(4, "little")
    return out


infos = st.builds(
    lambda radices, share, frames, rate, group, colours, **fields: StreamInfo(
        radices=tuple(radices),
        colours=() if rate else colours,
        kept=1 + share % len(radices),
        frames=frames if rate else 1,
        frame_rate=rate,
        frames_per_group=group if rate and group and group < frames else None,
        **fields,
    ),
    radices=st.one_of(
        st.integers(1, 1024).map(lambda n: [2] * n), st.lists(st.integers(2, 65536), min_size=1, max_size=30)
    ),
    share=st.integers(0, 1023),
    frames=st.integers(1, 2**31 - 1),
    rate=st.none() | st.fractions(Fraction(1, 1000), 1000, max_denominator=1001),
    group=st.none() | st.integers(1, 100),
    colours=st.just(()) | st.tuples(*[st.integers(-4096, 4096)] * 12),
    height=st.integers(1, 2**31 - 1),
    width=st.integers(1, 2**31 - 1),
    patch=st.integers(1, 64),
    code_hash=st.binary(min_size=8, max_size=8),
    tokenizer=st.text(max_size=40),
)


@given(infos, st.sampled_from(["uniform", "adaptive", "masked", "causal", "another", ""]), st.booleans(), st.data())
def test_headers_come_back(info: StreamInfo, prior: str, portable: bool, data: st.DataObject) -> None:
    assume(all(ord(letter) < 0xD800 or ord(letter) > 0xDFFF for letter in info.tokenizer))
    header = Header(info, prior, data.draw(st.binary(min_size=8, max_size=8)), portable)
    body = header_body(header)
    assert read_header_body(body) == header
    assert len(body) <= 4096
    bare = len(header_body(replace(header, info=replace(info, colours=()))))  # a record is no part of the rest
    for cut in set(range(0, len(body), 1 + len(body) // 40)) - {bare}:
        with pytest.raises(StreamError):
            read_header_body(body[:cut])


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 1), (1, 0), (2**31, 1), (2**62, 2**62), (2**31, 2**30)])
def test_both_terms_of_a_frame_rate_have_limits(numerator: int, denominator: int) -> None:
    info = replace(describe((2,) * 9), frames=3, frame_rate=Fraction(25, 2))
    body = header_body(Header(info, "uniform", bytes(8), True))
    before, after = body.split(bytes([3, 25, 2]))
    assert read_header_body(body).info == info
    with pytest.raises(DamagedStreamError, match="frame rate's terms"):
        read_header_body(before + bytes([3]) + varint(numerator) + varint(denominator) + after)


def test_the_least_grid_is_kept_only_where_it_matters() -> None:
    plain = Header(describe((2,) * 9), "uniform", bytes(8), True)
    small = replace(plain, info=replace(plain.info, least_rows=3, least_columns=4))
    assert header_body(small) == header_body(plain)
    large = replace(plain, info=replace(plain.info, least_rows=16, least_columns=1))
    again = read_header_body(header_body(large))
    assert (again.info.grid.height, again.info.grid.width) == (16, 4)


@given(st.integers(0, 2**63 - 1))
def test_varints(value: int) -> None:
    data = varint(value)
    reader = FieldReader(data + b"\x55")
    assert reader.varint() == value
    assert reader.left == 1
    for cut in range(len(data)):
        with pytest.raises(TruncatedStreamError):
            FieldReader(data[:cut]).varint()


@pytest.mark.parametrize("data", [b"\x80\x00", b"\xff\x80\x00", b"\xff" * 9 + b"\1", b"\x80" * 8 + b"\x00"])
def test_a_number_has_one_spelling(data: bytes) -> None:
    with pytest.raises(DamagedStreamError, match="no number"):
        FieldReader(data).varint()


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", EmptyStreamError, "0 bytes"),
        (b"\x89PNG\r\n\x1a\n", NotABsqStreamError, "not a .bsq stream"),
        (b"x", NotABsqStreamError, "not a .bsq stream"),
        (MAGIC[:5], TruncatedStreamError, "cut short"),
        (MAGIC, TruncatedStreamError, "cut short"),
        (MAGIC.replace(b"\r\n", b"\n") + bytes(50), DamagedStreamError, "text mode"),
        (MAGIC.replace(b"\n", b"\r\n") + bytes(50), DamagedStreamError, "text mode"),
        (bytes([MAGIC[0] & 0x7F]) + MAGIC[1:] + bytes(50), NotABsqStreamError, "not a .bsq stream"),
        (stream_of(b"", version=b"\3\0"), NewerVersionError, "format 3.0"),
        (stream_of(b"", version=b"\1\0"), DamagedStreamError, "no format 1.0"),
        (MAGIC + b"\2\0" + varint(4097) + bytes(5000), DamagedStreamError, "at most 4096"),
        (stream_of(b"\x80"), NewerVersionError, "header flag"),
        (stream_of(b""), DamagedStreamError, "longer than the header"),
    ],
)
def test_each_trouble_has_its_own_error(data: bytes, error: type[StreamError], says: str) -> None:
    for read in (read_codes, read_available, inspect):
        with pytest.raises(error, match=says) as caught:
            read(data)
        assert type(caught.value) is error


def test_errors_have_exit_codes_of_their_own() -> None:
    kinds = [
        NotABsqStreamError,
        EmptyStreamError,
        NewerVersionError,
        DamagedStreamError,
        TruncatedStreamError,
        LimitError,
    ]
    assert len({kind.exit_code for kind in kinds}) == len(kinds)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"height": 2**31 - 1, "width": 2**31 - 1}, LimitError),
        ({"height": 2**31 - 1, "width": 1}, LimitError),
        ({"frames": 10**9, "frame_rate": Fraction(25)}, LimitError),
        ({"frames": 2**16, "frame_rate": Fraction(25), "height": 2**14, "width": 2**14}, LimitError),
        ({"height": 2**14, "width": 2**14, "patch": 1}, LimitError),
        ({"least_rows": 2**31 - 1, "least_columns": 2**31 - 1}, LimitError),
        ({"height": 2**31, "width": 2**31}, DamagedStreamError),
        ({"height": 0}, DamagedStreamError),
        ({"width": 0}, DamagedStreamError),
        ({"frames": 0, "frame_rate": Fraction(25)}, DamagedStreamError),
        ({"frame_rate": Fraction(0)}, DamagedStreamError),
        ({"frame_rate": Fraction(2**40)}, DamagedStreamError),
        ({"kept": 10}, DamagedStreamError),
        ({"frames": 4, "frame_rate": Fraction(25), "frames_per_group": 4}, DamagedStreamError),
        ({"radices": (2, 65537)}, DamagedStreamError),
        ({"radices": (2, 1)}, DamagedStreamError),
        ({"radices": (2,) * 1025}, DamagedStreamError),
    ],
)
def test_hostile_sizes_are_refused_before_anything_is_allocated(
    fields: dict[str, object], error: type[StreamError]
) -> None:
    info = replace(describe((2,) * 9), **fields)  # type: ignore[arg-type]
    data = stream_of(header_body(Header(info, "uniform", bytes(8), True)), bytes(100))
    tracemalloc.start()
    try:
        for read in (read_codes, read_available, inspect):
            with pytest.raises(error):
                read(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["pixels", "frames", "tokens", "digits"])
def test_every_limit_limits(name: str) -> None:
    data = samples()["video"].data
    info = inspect(data).info
    counts = {"pixels": 19 * 30, "frames": 5, "tokens": info.grid.tokens, "digits": info.grid.tokens * 8}
    assert inspect(data, Limits(**{name: counts[name]})).trouble is None
    with pytest.raises(LimitError, match=name):
        inspect(data, Limits(**{name: counts[name] - 1}))


@pytest.mark.parametrize("kind", ["rate over zero", "radices", "no radices", "name", "prior", "length", "no patch"])
def test_headers_that_contradict_themselves(kind: str) -> None:
    sizes, tail = varint(8) * 3, bytes(8) + b"\0"
    body = {
        "rate over zero": b"\x05" + sizes + varint(2) + varint(25) + varint(0) + varint(9) * 2 + tail,
        "radices": b"\x00" + sizes + varint(3) * 2 + varint(4) + varint(2) + tail,
        "no radices": b"\x00" + sizes + varint(3) * 2 + varint(0) + varint(2) + tail,
        "name": b"\x0c" + sizes + varint(9) * 2 + bytes(8) + varint(2) + b"\xff\xfe" + b"\0",
        "prior": b"\x04" + sizes + varint(9) * 2 + bytes(8) + varint(4) + varint(200),
        "length": b"\x04" + sizes + varint(2**60) + varint(9) + tail,
        "no patch": b"\x04" + varint(8) * 2 + varint(0) + varint(9) * 2 + tail,
    }[kind]
    with pytest.raises(DamagedStreamError):
        inspect(stream_of(body))


def test_later_minor_versions_may_add_what_can_be_skipped() -> None:
    sample = samples()["coded picture"]
    body = header_body(inspect_header(sample.data))
    head = stream_of(body + varint(6) + varint(3) + b"new", version=b"\2\7")
    chunks = inspect(sample.data).chunks
    later = head + chunk_of(head, Place(0, 0), 9 << 2 | 2, b"a colour profile, say")
    for index, chunk in enumerate(chunks):
        later += chunk_of(head, Place(0, index + 1), chunk.steps << 2 | chunk.form.value, chunk.payload)
    later += sample.data[-9:]
    assert read_codes(later, [sample.prior]).codes == sample.codes
    assert read_container(later, Limits()).minor == 7


def test_later_minor_versions_may_demand_what_must_be_understood() -> None:
    sample = samples()["coded picture"]
    body = header_body(inspect_header(sample.data))
    with pytest.raises(NewerVersionError, match="record 7"):
        inspect(stream_of(body + varint(7) + varint(0)))
    head = stream_of(body)
    data = head + chunk_of(head, Place(0, 0), 5 << 2 | 3, b"") + sample.data[-9:]
    with pytest.raises(NewerVersionError, match="chunk kind 5"):
        read_codes(data, [sample.prior])
    with pytest.raises(NewerVersionError, match="prior number 5"):
        inspect(stream_of(b"\x04" + varint(8) * 3 + varint(9) * 2 + bytes(8) + varint(5)))
    with pytest.raises(DamagedStreamError):
        inspect(stream_of(body + varint(6) + varint(99) + b"short"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=40), st.booleans()), max_size=8),
    st.sampled_from(sorted(samples())),
)
def test_sound_checksums_around_any_chunks(chunks: list[tuple[int, bytes, bool]], name: str) -> None:
    """Empty, overlapping, missing, oversized chunks by someone who can compute a CRC: errors, never wrong codes."""
    sample = samples()[name]
    head = sample.data[: inspect(sample.data).header]
    data = head
    place = Place(0, 0)
    for tag, payload, in_next_group in chunks:
        if in_next_group and place != (0, 0):
            place = Place(place.group + 1, 0)
        data += chunk_of(head, place, tag, payload)
        place = Place(place.group, place.number + 1)
    data += sample.data[-9:]
    with pytest.raises((DamagedStreamError, NewerVersionError, TruncatedStreamError)):
        read_codes(data, [sample.prior])
    with suppress(DamagedStreamError, NewerVersionError):
        read_available(data, [sample.prior])


def test_chunks_are_bound_to_their_place_and_stream() -> None:
    header = inspect_header(samples()["raw picture"].data)
    file = io.BytesIO()
    writer = ContainerWriter(header, file)
    writer.begin_group()
    for payload in (b"first", b"other"):
        writer.add(Form.RAW, 1, payload)
    writer.finish(bytes(8))
    data = file.getvalue()
    start = len(data) - 9 - 2 * 11
    assert read_container(data, Limits()).trouble is None
    swapped = data[:start] + data[start + 11 : -9] + data[start : start + 11] + data[-9:]
    assert isinstance(read_container(swapped, Limits()).trouble, DamagedStreamError)
    other = io.BytesIO()
    ContainerWriter(replace(header, info=replace(header.info, code_hash=b"anothers")), other)
    elsewhere = other.getvalue() + data[start:]
    assert isinstance(read_container(elsewhere, Limits()).trouble, DamagedStreamError)


def test_descriptions_that_cannot_be_written() -> None:
    sample = samples()["raw picture"]
    for wrong in (
        {"height": 0},
        {"height": 99},
        {"kept": 0},
        {"kept": 10},
        {"kept": 8},
        {"code_hash": b"short"},
        {"tokenizer": "n" * 256},
        {"frames": 2},
        {"frames_per_group": 1},
        {"frame_rate": Fraction(-1)},
        {"radices": (70000,)},
    ):
        with pytest.raises(CodesError):
            write_codes(sample.codes, replace(sample.info, **wrong), sample.prior)  # type: ignore[arg-type]


def inspect_header(data: bytes) -> Header:
    return read_container(data, Limits()).header
