import hashlib
from pathlib import Path

import pytest

from bsq.errors import CheckpointError
from bsq.frozen.files import WeightFile, find

CONTENT = b"weights" * 1000


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightFile:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("BSQ_WEIGHTS", raising=False)
    source = tmp_path / "server" / "net.bin"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    return WeightFile("net.bin", digest, source.as_uri(), "A test", "Go on without.")


def test_download_once_then_cache(published: WeightFile, tmp_path: Path) -> None:
    path = find(published)
    assert path == tmp_path / "cache" / "bsq" / "weights" / "net.bin"
    (tmp_path / "server" / "net.bin").unlink()
    assert find(published).read_bytes() == CONTENT


def test_the_user_folder_comes_first(published: WeightFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BSQ_WEIGHTS", str(tmp_path / "server"))
    assert find(published) == tmp_path / "server" / "net.bin"


def test_a_wrong_download_leaves_nothing(published: WeightFile, tmp_path: Path) -> None:
    (tmp_path / "server" / "net.bin").write_bytes(b"other")
    with pytest.raises(CheckpointError, match="SHA-256"):
        find(published)
    assert list((tmp_path / "cache" / "bsq" / "weights").iterdir()) == []


def test_a_damaged_cache_is_named(published: WeightFile) -> None:
    path = find(published)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match="not the published"):
        find(published)


def test_without_network(published: WeightFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server" / "net.bin").unlink()
    with pytest.raises(CheckpointError, match="the download failed") as caught:
        find(published)
    assert "Go on without." in str(caught.value)
    assert published.sha256 in str(caught.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="turned off"):
        find(published)
