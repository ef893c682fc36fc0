"""Streams on the page: whole, cut, damaged, of others."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bsq.codec.picture import compress, decompress
from bsq.codec.video import compress_video
from bsq.demo.material import Bounds
from bsq.demo.opening import cut, look, open_stream
from bsq.errors import DamagedStreamError, LimitError, NotABsqStreamError, WrongModelError
from bsq.tokenizer import Tokenizer

RANDOM = np.random.default_rng(0)
BOUNDS = Bounds()


@pytest.fixture
def stream(tiny_tokenizer: Tokenizer, tmp_path: Path) -> Path:
    path = tmp_path / "a.bsq"
    path.write_bytes(compress(RANDOM.integers(0, 256, (80, 64, 3), dtype=np.uint8), tiny_tokenizer))
    return path


def test_a_whole_file(stream: Path, tiny_tokenizer: Tokenizer) -> None:
    opened = open_stream(stream, BOUNDS)
    seen = look(opened, 100, tiny_tokenizer, BOUNDS)
    assert (opened.name, seen.missing, seen.rate) == ("a.bsq", None, None)
    assert (seen.frames[0] == decompress(stream.read_bytes(), tiny_tokenizer)).all()


def test_a_part_is_less_and_says_what_is_missing(stream: Path, tiny_tokenizer: Tokenizer) -> None:
    opened = open_stream(stream, BOUNDS)
    part = look(opened, 60, tiny_tokenizer, BOUNDS)
    assert part.size == -(-len(opened.data) * 60 // 100)
    assert "ends early" in (part.missing or "")
    assert (part.frames[0] != look(opened, 100, tiny_tokenizer, BOUNDS).frames[0]).any()
    nothing = look(opened, 1, tiny_tokenizer, BOUNDS)
    assert (nothing.frames, bool(nothing.missing)) == ((), True)


def test_a_file_that_was_cut_before_it_came(stream: Path, tiny_tokenizer: Tokenizer) -> None:
    stream.write_bytes(stream.read_bytes()[:-30])
    opened = open_stream(stream, BOUNDS)
    assert opened.parts.trouble is not None
    seen = look(opened, 100, tiny_tokenizer, BOUNDS)
    assert seen.frames[0].shape == (80, 64, 3)
    assert "ends early" in (seen.missing or "")


def test_cutting() -> None:
    data = bytes(range(200))
    assert cut(data, 100) == data
    assert cut(data, 0.5) == data[:1]
    assert cut(data[:7], 50) == data[:4]


def test_a_clip(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    file, frames = io.BytesIO(), [RANDOM.integers(0, 256, (16, 24, 3), dtype=np.uint8) for _ in range(5)]
    compress_video(frames, Fraction(10), file, tiny_tokenizer)
    (tmp_path / "a.bsq").write_bytes(file.getvalue())
    opened = open_stream(tmp_path / "a.bsq", BOUNDS)
    seen = look(opened, 100, tiny_tokenizer, BOUNDS)
    assert (len(seen.frames), seen.rate, seen.missing) == (5, Fraction(10), None)
    for bounds in (Bounds(frames=2), Bounds(pixels=16 * 24 * 5 // 2)):
        seen = look(opened, 100, tiny_tokenizer, bounds)
        assert len(seen.frames) == 2
        assert seen.missing == "only the first 2 of 5 frames are shown; bsq decode gives all of them"


def test_wrong_files(stream: Path, tiny_tokenizer: Tokenizer, other_tokenizer: Tokenizer) -> None:
    opened = open_stream(stream, BOUNDS)
    with pytest.raises(WrongModelError, match="none of the bundled ones"):
        look(opened, 100, other_tokenizer, BOUNDS)
    with pytest.raises(LimitError, match="pixels"):
        look(opened, 100, tiny_tokenizer, Bounds(pixels=100))
    data = bytearray(stream.read_bytes())
    data[12] ^= 255
    stream.write_bytes(data)
    with pytest.raises(DamagedStreamError, match=r"a\.bsq: "):
        open_stream(stream, BOUNDS)
    stream.write_bytes(b"no stream")
    with pytest.raises(NotABsqStreamError, match=r"a\.bsq: "):
        open_stream(stream, BOUNDS)
