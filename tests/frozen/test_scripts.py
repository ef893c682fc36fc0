import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

from bsq.errors import CheckpointError
from bsq.frozen import files
from bsq.frozen.scripts import I3D_SCRIPT, INCEPTION_SCRIPT, find_script, load_script

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "server" / "net.pt"
    path.parent.mkdir()
    torch.jit.script(nn.Sequential(nn.Flatten(), nn.Dropout())).save(str(path))
    return path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def test_a_script_and_its_hash(script: Path) -> None:
    found = load_script(script)
    assert found.sha256 == files.sha256(script)
    assert found.name == "net.pt"
    assert not found.module.training
    assert found.module(torch.ones(2, 3, 4)).tolist() == torch.ones(2, 12).tolist()  # no dropout
    assert not found.is_published(I3D_SCRIPT)


def test_a_checked_download(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a server on this machine, into the cache; a file that changed on the way is refused and leaves nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("BSQ_WEIGHTS", raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(script.parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/net.pt"
        published = files.WeightFile("net.pt", files.sha256(script), address, "A test", "Go on without.")
        assert find_script(published).is_published(published)
        other = files.WeightFile("other.pt", "0" * 64, address, "A test", "Go on without.")
        with pytest.raises(CheckpointError, match="is not the published"):
            find_script(other)
        absent = files.WeightFile("absent.pt", "0" * 64, f"{address}.not", "A test", "Go on without.")
        with pytest.raises(CheckpointError, match="the download failed"):
            find_script(absent)
        server.shutdown()
    assert [path.name for path in files.cache_folder().iterdir()] == ["net.pt"]


def test_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no file"):
        load_script(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("not a script")
    with pytest.raises(CheckpointError, match="cannot be read as TorchScript"):
        load_script(tmp_path / "text.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "tensors.pt")
    with pytest.raises(CheckpointError, match="cannot be read as TorchScript"):
        load_script(tmp_path / "tensors.pt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for file, use in ((I3D_SCRIPT, "FVD"), (INCEPTION_SCRIPT, "FID with the TorchScript")):
        with pytest.raises(CheckpointError, match=use) as caught:
            find_script(file)
        assert file.sha256 in str(caught.value)
