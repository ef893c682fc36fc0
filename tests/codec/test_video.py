"""Videos as streams: frames come back as the tokenizer gives them, groups stand alone, damage stays where it is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from bsq.codec.colours import ColourMap, coloured
from bsq.codec.groups import GroupReader
from bsq.codec.info import Limits
from bsq.codec.measure import inspect
from bsq.codec.picture import compress, decompress
from bsq.codec.recover import Fill
from bsq.codec.stream import read_codes
from bsq.codec.video import compress_video, decompress_video, frames_between, recover_video, verify_video
from bsq.data.pictures import to_pixels, to_uint8
from bsq.errors import (
    DamagedStreamError,
    LimitError,
    MediaError,
    SettingsError,
    ShapeError,
    StreamError,
    TruncatedStreamError,
    WrongModelError,
)
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.base import Prior
from bsq.prior.uniform import UniformPrior
from bsq.tokenizer import Tokenizer, TokenizerSettings

RATE = Fraction(30000, 1001)
COUNT, GROUP = 11, 4


def film(count: int = COUNT, height: int = 45, width: int = 62) -> list[np.ndarray]:
    """A bright square that moves over noise that stays."""
    noise = np.random.default_rng(0).integers(0, 200, (height, width, 3), dtype=np.uint8)
    frames = [noise.copy() for _ in range(count)]
    for number, frame in enumerate(frames):
        frame[number % height :, number % width :][:16, :16] = 255
    return frames


def packed(
    model: Tokenizer, frames: list[np.ndarray] | None = None, prior: Prior | str | None = None, **options: Any
) -> bytes:
    target = io.BytesIO()
    options = {"frames_per_group": GROUP} | options
    compress_video(film() if frames is None else frames, RATE, target, model, prior=prior or UniformPrior(), **options)
    return target.getvalue()


def unpacked(data: bytes, model: Tokenizer, **options: Any) -> list[np.ndarray]:
    return list(decompress_video(io.BytesIO(data), model, **options).frames)


def assert_same(got: list[np.ndarray], want: list[np.ndarray]) -> None:
    assert len(got) == len(want)
    assert all(map(np.array_equal, got, want))


def by_group(model: Tokenizer, frames: list[np.ndarray], colours: ColourMap) -> Iterator[np.ndarray]:
    """What the tokenizer makes of each group on its own, taken whole."""
    for start in range(0, len(frames), GROUP):
        clip = torch.stack([to_pixels(frame)[0] for frame in frames[start : start + GROUP]], 1)[None]
        again = coloured(model.reconstruct(clip), colours)
        yield from (to_uint8(again[:, :, number]) for number in range(again.shape[2]))


@pytest.fixture(scope="module")
def data(tiny_tokenizer: Tokenizer) -> bytes:
    return packed(tiny_tokenizer)


def test_frames_come_back_as_the_tokenizer_gives_them(data: bytes, tiny_tokenizer: Tokenizer) -> None:
    video = decompress_video(io.BytesIO(data), tiny_tokenizer)
    assert (video.rate, video.span, video.info.frames) == (RATE, range(COUNT), COUNT)
    assert_same(list(video.frames), list(by_group(tiny_tokenizer, film(), video.info.colours)))
    assert video.missing == []


def test_the_stream_is_that_of_the_whole_clips_codes(data: bytes, tiny_tokenizer: Tokenizer) -> None:
    stream = read_codes(data)
    assert (stream.info.group_size, stream.info.group_count) == (GROUP, 3)
    first = torch.stack([to_pixels(frame)[0] for frame in film()[:GROUP]], 1)[None]
    assert torch.equal(stream.codes.digits[:, :GROUP], tiny_tokenizer.encode(first).digits)
    verify_video(io.BytesIO(data), tiny_tokenizer)


@pytest.mark.parametrize(("first", "last"), [(0, 11), (0, 1), (3, 5), (4, 8), (7, 8), (10, 11), (5, 99)])
def test_any_part_is_the_same_as_in_the_whole(data: bytes, tiny_tokenizer: Tokenizer, first: int, last: int) -> None:
    video = decompress_video(io.BytesIO(data), tiny_tokenizer, start=first / RATE, end=last / RATE)
    assert_same(list(video.frames), unpacked(data, tiny_tokenizer)[first:last])
    assert video.span == range(first, min(last, COUNT))


def test_priors_by_name(data: bytes, tiny_tokenizer: Tokenizer) -> None:
    assert packed(tiny_tokenizer, prior="raw") == data
    assert packed(tiny_tokenizer, prior="auto") == packed(tiny_tokenizer, prior="adaptive")
    with pytest.raises(SettingsError, match="no prior was trained"):
        packed(tiny_tokenizer, prior="learned")


def test_parts_meet_without_a_gap(data: bytes) -> None:
    info = GroupReader(io.BytesIO(data)).info
    cuts: list[Fraction | float] = [0, 0.05, 0.1, Fraction(1, 7), 0.2, 0.3, 1]
    numbers = [n for a, b in pairwise(cuts) for n in frames_between(info, a, b)]
    assert numbers == list(range(COUNT))
    for start, end in ((0.2, 0.2), (0.3, 0.1), (-1, None), (99, None), (None, 0), (0.01, 0.02)):
        with pytest.raises(SettingsError, match=r"there are no frames; the video has 11, 0 s to 0\.367033 s"):
            frames_between(info, start, end)


def test_seconds_are_what_they_look_like(data: bytes) -> None:
    info = replace(GroupReader(io.BytesIO(data)).info, frame_rate=Fraction(10), frames=100, frames_per_group=None)
    for tenths in range(99):
        assert frames_between(info, tenths / 10, (tenths + 1) / 10) == range(tenths, tenths + 1)
    with pytest.raises(SettingsError, match="a number of seconds, got nan"):
        frames_between(info, float("nan"), None)


def test_other_groups_do_not_matter_to_a_part(data: bytes, tiny_tokenizer: Tokenizer) -> None:
    spoilt = bytearray(data)
    spoilt[-60] ^= 1  # in the last group
    spoilt[inspect(data).header + 200] ^= 1  # behind the first block of the first group
    middle = {"start": 4 / RATE, "end": 8 / RATE}
    want = unpacked(data, tiny_tokenizer)[4:8]
    assert_same(unpacked(bytes(spoilt), tiny_tokenizer, **middle), want)
    with pytest.raises(DamagedStreamError):
        unpacked(bytes(spoilt), tiny_tokenizer)


@pytest.mark.parametrize(("count", "prior"), [(1, UniformPrior()), (4, UniformPrior()), (5, AdaptivePrior())])
def test_bits_priors_and_counts(tiny_tokenizer: Tokenizer, prior: Prior, count: int) -> None:
    data = packed(tiny_tokenizer, film(count), prior=prior, bits=2)
    info = inspect(data).info
    assert (info.kind, info.frames, info.kept) == ("video", count, 2)
    assert info.frames_per_group == (GROUP if count > GROUP else None)
    assert len(unpacked(data, tiny_tokenizer)) == count


@pytest.mark.parametrize(("still", "smallest"), [(True, "adaptive"), (False, "uniform")])
def test_of_several_priors_the_smallest_stream_is_written(
    tiny_tokenizer: Tokenizer, still: bool, smallest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A still film teaches the adaptive prior; of a few tokens it learns nothing."""
    monkeypatch.setattr("bsq.codec.shelf.smallest_of", lambda model: (UniformPrior(), AdaptivePrior()))
    frames = [film(1)[0]] * 9 if still else film(1, 8, 8)
    target = io.BytesIO()
    compress_video(frames, RATE, target, tiny_tokenizer)
    made = {prior.name: packed(tiny_tokenizer, frames, prior, frames_per_group=24) for prior in both()}
    assert target.getvalue() == made[smallest] == min(made.values(), key=len)
    assert len(made["adaptive"]) != len(made["uniform"])
    assert_same(unpacked(target.getvalue(), tiny_tokenizer), unpacked(made["uniform"], tiny_tokenizer))


def both() -> tuple[Prior, Prior]:
    return AdaptivePrior(), UniformPrior()


def test_models_whose_frames_see_later_ones() -> None:
    part = {"width": 16, "depth": 1, "head_width": 8, "time": "full"}
    torch.manual_seed(0)
    settings = {"patch": 8, "quantizer": {"kind": "bsq", "bits": 6}, "encoder": part, "decoder": part}
    model = Tokenizer(TokenizerSettings.model_validate(settings)).eval()
    data = packed(model)
    assert_same(unpacked(data, model), list(by_group(model, film(), inspect(data).info.colours)))
    assert_same(unpacked(data, model, start=6 / RATE), unpacked(data, model)[6:])


def test_groups_are_no_longer_than_a_table_of_frames() -> None:
    part = {"width": 16, "depth": 1, "head_width": 8, "positions": {"kind": "learned", "rows": 2, "columns": 2}}
    settings = {"patch": 8, "quantizer": {"kind": "bsq", "bits": 6}, "encoder": part, "decoder": dict(part)}
    for frames, group in ((1, 1), (3, 3), (99, None)):
        part["positions"] = settings["decoder"]["positions"] = part["positions"] | {"frames": frames}  # type: ignore
        model = Tokenizer(TokenizerSettings.model_validate(settings)).eval()
        data = packed(model, film(5), frames_per_group=None)
        assert inspect(data).info.frames_per_group == group
        assert len(unpacked(data, model)) == 5
        if frames == 3:
            with pytest.raises(ShapeError):
                packed(model, film(5), frames_per_group=4)


def damaged_group(data: bytes, number: int, behind: int) -> bytes:
    """With a byte changed in the chunk of a group, so many bytes behind its head."""
    parts, changed = inspect(data), bytearray(data)
    start = parts.header + sum(chunk.framed for chunk in parts.chunks[:number])
    changed[start + behind] ^= 0x55
    return bytes(changed)


def test_a_lost_group_shows_the_frame_before_it_and_the_rest_decodes(data: bytes, tiny_tokenizer: Tokenizer) -> None:
    video = recover_video(io.BytesIO(damaged_group(data, 1, 5)), tiny_tokenizer)
    want = unpacked(data, tiny_tokenizer)
    assert_same(list(video.frames), want[:4] + [want[3]] * 4 + want[8:])
    assert video.missing == [
        f"is damaged ({len(data)} bytes are there): of 11 frames 7 are whole, 0 there in part, "
        "4 lost (the frame before stays)"
    ]


@pytest.mark.parametrize("number", [0, 2])
def test_groups_lost_at_either_end(data: bytes, tiny_tokenizer: Tokenizer, number: int) -> None:
    got = list(recover_video(io.BytesIO(damaged_group(data, number, 5)), tiny_tokenizer).frames)
    want = unpacked(data, tiny_tokenizer)
    lost = {0: [want[4]] * 4 + want[4:], 2: want[:8] + [want[7]] * 3}[number]
    assert_same(got, lost if number == 0 else lost[: len(got)])


@pytest.mark.parametrize("way", list(Fill))
def test_a_cut_stream_gives_its_beginning(data: bytes, tiny_tokenizer: Tokenizer, way: Fill) -> None:
    parts = inspect(data)
    cut = data[: parts.header + parts.chunks[0].framed + 180]
    with pytest.raises(TruncatedStreamError):
        unpacked(cut, tiny_tokenizer)
    video = recover_video(io.BytesIO(cut), tiny_tokenizer, way=way)
    frames, want = list(video.frames), unpacked(data, tiny_tokenizer)
    assert_same(frames[:4], want[:4])
    assert 4 < len(frames) <= 8
    assert video.missing[0].startswith(f"ends early ({len(cut)} bytes are there): of 11 frames 4 are whole, ")
    assert video.missing[0].endswith(" behind the end")
    with pytest.raises(TruncatedStreamError):
        list(recover_video(io.BytesIO(data[: parts.header + 3]), tiny_tokenizer).frames)


def test_a_sound_stream_has_nothing_to_recover(data: bytes, tiny_tokenizer: Tokenizer) -> None:
    video = recover_video(io.BytesIO(data), tiny_tokenizer, start=0.1, end=0.3)
    assert_same(list(video.frames), unpacked(data, tiny_tokenizer, start=0.1, end=0.3))
    assert video.missing == []


def test_every_changed_byte_is_found(tiny_tokenizer: Tokenizer) -> None:
    data = packed(tiny_tokenizer, film(3, 8, 8), frames_per_group=2)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x10
        with pytest.raises(StreamError):
            unpacked(bytes(changed), tiny_tokenizer)
        with suppress(StreamError):
            left = recover_video(io.BytesIO(changed), tiny_tokenizer)
            assert 1 <= len(list(left.frames)) <= 3
            assert len(left.missing) == 1


def test_what_is_refused(data: bytes, tiny_tokenizer: Tokenizer, other_tokenizer: Tokenizer) -> None:
    picture = compress(film()[0], tiny_tokenizer)
    with pytest.raises(MediaError, match="the stream holds a picture"):
        unpacked(picture, tiny_tokenizer)
    with pytest.raises(MediaError, match="the stream holds a video of 11 frames"):
        decompress(data, tiny_tokenizer)
    with pytest.raises(WrongModelError):
        unpacked(data, other_tokenizer)
    with pytest.raises(MediaError, match="there are no frames"):
        packed(tiny_tokenizer, [])
    with pytest.raises(ShapeError, match="one size"):
        packed(tiny_tokenizer, film(5) + film(1, 8, 8))
    with pytest.raises(SettingsError, match="a group has 1 frame or more"):
        packed(tiny_tokenizer, frames_per_group=0)
    with pytest.raises(SettingsError, match="bits must be 1 to 12"):
        packed(tiny_tokenizer, bits=13)
    for rate in (0, -1, Fraction(1, 2**31)):
        with pytest.raises(SettingsError, match="frame rate"):
            compress_video(film(), rate, io.BytesIO(), tiny_tokenizer)


def test_limits_bound_a_group_not_the_film(data: bytes, tiny_tokenizer: Tokenizer) -> None:
    a_group = 6 * 8 * GROUP
    assert len(unpacked(data, tiny_tokenizer, limits=Limits(frames=GROUP, tokens=a_group))) == COUNT
    with pytest.raises(LimitError):
        unpacked(data, tiny_tokenizer, limits=Limits(tokens=a_group - 1))
    with pytest.raises(LimitError):
        inspect(data, Limits(frames=GROUP))


def test_frames_are_taken_and_given_one_by_one(tiny_tokenizer: Tokenizer) -> None:
    """A film need not be in memory: the writer keeps a group of codes, the reader gives frames before it has all."""
    taken: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for number, frame in enumerate(film()):
            taken.append(number)
            yield frame

    target = io.BytesIO()
    compress_video(frames(), 10, target, tiny_tokenizer, prior=UniformPrior(), frames_per_group=GROUP)
    assert taken == list(range(COUNT))
    source = io.BytesIO(target.getvalue()[:-100])
    video = decompress_video(source, tiny_tokenizer)
    assert_same([next(video.frames) for _ in range(4)], unpacked(target.getvalue(), tiny_tokenizer)[:4])
