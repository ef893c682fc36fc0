"""Models on the hub, which is far away, and sometimes too far."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bsq import folders

ASK = "import bsq.cli.main as m; m.app(['encode', 'a.png', '--model', 'no-owner/no-model'])"


def test_a_hub_out_of_reach_is_asked_once_and_said_in_one_line(tmp_path: Path) -> None:
    nowhere = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "NO_PROXY": "*"}
    done = subprocess.run([sys.executable, "-c", ASK], env=os.environ | nowhere, capture_output=True, text=True)
    assert done.returncode == 6
    assert done.stderr.startswith("error: no folder 'no-owner/no-model', and the hub did not give it: it cannot be rea")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("trouble", "locally"), [(ConnectionError("no network"), True), (None, False)])
def test_what_is_cached_needs_no_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trouble: Exception | None, locally: bool
) -> None:
    def answer(url: str, token: object = None) -> None:
        if trouble is not None:
            raise trouble

    def fetch(hub_id: str, name: str, local_files_only: bool = False) -> str:
        assert local_files_only is locally
        return str(tmp_path / name)

    monkeypatch.setattr(folders, "get_hf_file_metadata", answer)
    monkeypatch.setattr(folders, "hf_hub_download", fetch)
    assert folders.download("owner/name", {}) == tmp_path
