"""Codes made when a run begins: pictures that cannot be read are named, a cache knows what was written over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from runs import write_pictures

from bsq.errors import DataError
from bsq.tokenizer import Tokenizer
from bsq.train.tokens import TokenDataSettings, encode_pictures


def settings(**changes: object) -> TokenDataSettings:
    return TokenDataSettings.model_validate({"source": ["here"], "crop": 32, "mirrored": "never"} | changes)


def test_what_cannot_be_read_is_named(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", 3)
    (folder / "zzz.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    told: list[tuple[int, int]] = []
    rows = encode_pictures(settings(), (str(folder),), tiny_tokenizer, 8, lambda done, of: told.append((done, of)))
    assert len(rows) == 3
    assert told[-1] == (4, 4)
    assert "without 1 that cannot be read" in rows.describe()
    assert "zzz.png" in rows.describe()
    for path in folder.glob("0*.png"):
        path.unlink()
    with pytest.raises(DataError, match="none of 1 pictures can be read"):
        encode_pictures(settings(), (str(folder),), tiny_tokenizer, 8)


def test_a_picture_written_over_is_encoded_again(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", 2)
    kept = settings(cache=str(tmp_path / "cache"))
    first = encode_pictures(kept, (str(folder),), tiny_tokenizer, 8)
    assert torch.equal(encode_pictures(kept, (str(folder),), tiny_tokenizer, 8).digits, first.digits)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    one, other = folder / "000.png", folder / "001.png"
    most = max(one.stat().st_size, other.stat().st_size)
    for path in (one, other):
        path.write_bytes(path.read_bytes().ljust(most, b"\0"))  # of equal length, as trailing bytes do not matter
    before = encode_pictures(kept, (str(folder),), tiny_tokenizer, 8)
    one.write_bytes(other.read_bytes())
    os.utime(one, ns=(1, 1))
    after = encode_pictures(kept, (str(folder),), tiny_tokenizer, 8)
    assert not torch.equal(after.digits, before.digits)
    assert torch.equal(after.digits[0], after.digits[1])
