import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

from bsq.errors import CheckpointError
from bsq.frozen import files, scripts
from bsq.frozen.files import WeightFile


class Quiet(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        if self.path.endswith("short.pt"):
            self.protocol_version = "HTTP/1.0"
            self._headers_buffer = [  # type: ignore[attr-defined]
                b"Content-Length: 1000\r\n" if line.startswith(b"Content-Length") else line
                for line in self._headers_buffer  # type: ignore[attr-defined]
            ]
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which this machine serves it to itself."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("BSQ_WEIGHTS", raising=False)
    folder = tmp_path / "server"
    folder.mkdir()
    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_a_script_from_an_address(server: tuple[Path, str]) -> None:
    """Whole way: download, cache, read, run; its publisher states no hash, so the file's own is recorded."""
    folder, address = server
    torch.jit.script(nn.Linear(3, 2)).save(str(folder / "net.pt"))
    file = WeightFile("net.pt", None, f"{address}/net.pt", "A test", "Go on without.")
    script = scripts.find_script(file, None)
    assert script.path == files.cache_folder() / "net.pt"
    assert script.sha256 == files.sha256(folder / "net.pt")
    assert script.network(torch.zeros(1, 3)).shape == (1, 2)
    (folder / "net.pt").unlink()
    assert scripts.find_script(file, None).sha256 == script.sha256  # from the cache
    with pytest.raises(CheckpointError, match="states no SHA-256"):
        scripts.find_script(WeightFile("gone.pt", None, f"{address}/gone.pt", "A test", "Go on without."), None)
    assert [path.name for path in files.cache_folder().iterdir()] == ["net.pt"]


def test_a_download_that_breaks_off_leaves_nothing(server: tuple[Path, str]) -> None:
    folder, address = server
    (folder / "short.pt").write_bytes(b"weights")
    with pytest.raises(CheckpointError, match="7 of 1000 bytes came"):
        files.find(WeightFile("short.pt", None, f"{address}/short.pt", "A test", "Go on without."))
    assert list(files.cache_folder().iterdir()) == []


def test_a_hash_known_only_by_its_beginning(server: tuple[Path, str]) -> None:
    folder, address = server
    (folder / "net.bin").write_bytes(b"weights")
    digest = files.sha256(folder / "net.bin")
    with pytest.raises(CheckpointError, match="not the published"):
        files.find(WeightFile("net.bin", "0" * 8, f"{address}/net.bin", "A test", "Go on without."))
    found = files.find(WeightFile("net.bin", digest[:8], f"{address}/net.bin", "A test", "Go on without."))
    assert found.read_bytes() == b"weights"


def test_what_is_no_script(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no file"):
        scripts.load_script(tmp_path / "absent.pt")
    (tmp_path / "noise.pt").write_bytes(b"noise")
    with pytest.raises(CheckpointError, match="cannot be read as TorchScript"):
        scripts.load_script(tmp_path / "noise.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "tensors.pt")
    with pytest.raises(CheckpointError, match="cannot be read as TorchScript"):
        scripts.load_script(tmp_path / "tensors.pt")
