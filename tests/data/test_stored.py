"""Where pictures lie: folders, globs, tars; and what is none."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bsq.data.stored import find_pictures
from bsq.errors import DataError


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_tar_is_read_in_place(tmp_path: Path) -> None:
    members = {"b.png": png(2), "a.png": png(1), "a.json": b"{}", "a.cls": b"3", ".hidden.png": png(9)}
    tar = write_tar(tmp_path / "one.tar", members)
    pictures = find_pictures([str(tar)])
    assert [picture.member for picture in pictures] == ["a.png", "b.png"]
    assert [picture.read() for picture in pictures] == [png(1), png(2)]
    assert pictures[0].name == f"{tar}:a.png"


def test_folders_globs_and_single_pictures(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("b.png", "a.PNG", "deep/er/c.png", ".hidden/d.png", ".e.png", "notes.txt"):
        (tmp_path / name).write_bytes(png(7))
    write_tar(tmp_path / "deep" / "t.tar", {"x.png": png(3)})

    def names(*sources: str) -> list[str]:
        return [picture.name.removeprefix(f"{tmp_path}/") for picture in find_pictures(sources)]

    assert names(str(tmp_path)) == ["a.PNG", "b.png", "deep/er/c.png", "deep/t.tar:x.png"]
    assert names(str(tmp_path / "*.png")) == ["b.png"]
    assert names(str(tmp_path / "**" / "*.tar")) == ["deep/t.tar:x.png"]
    assert names(str(tmp_path / "b.png"), str(tmp_path / "?.png")) == ["b.png"], "each picture once"


@pytest.mark.parametrize("source", ["missing", "missing/*.tar", "empty", "notes.tar"])
def test_sources_without_pictures(tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.tar").write_bytes(b"not a tar at all")
    with pytest.raises(DataError, match=source.split("/")[0]):
        find_pictures([str(tmp_path / source)])


def test_no_source() -> None:
    with pytest.raises(DataError, match="empty"):
        find_pictures([])


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "t.tar", {"a.png": png(1)})
    (picture,) = find_pictures([str(tar)])
    tar.write_bytes(tar.read_bytes()[:520])
    with pytest.raises(DataError, match="indexed"):
        picture.read()
