"""examples/results.py asks for what `bsq` understands, and leaves out what it has no data for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from bsq.evaluate.lines import Form
from bsq.evaluate.protocols import PROTOCOLS
from bsq.evaluate.published import published_beside
from bsq.evaluate.systems.codecs import LikeSystem
from bsq.evaluate.systems.spec import CodecSpec, parse_named


@pytest.fixture(scope="module")
def script(example: Callable[[str], ModuleType]) -> ModuleType:
    return example("results")


def folders(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_every_row_is_a_system(script: ModuleType, tmp_path: Path) -> None:
    data = script.find(folders(tmp_path / "data", "kodak", "photos-val", "videos-val"))
    models = script.found_models(folders(tmp_path / "models", "lfq-18/model", "vq-10/model", "video-causal/model"))
    tasks = script.tables(data, models)
    assert [task.name for task in tasks] == ["reconstruction", "quantizers", "kodak", "codecs", "video"]
    for task in tasks:
        words = list(task.arguments)
        rows = [parse_named(after) for word, after in pairwise(words) if word == "--system"]
        labels = [row.label for row in rows]
        assert len(set(labels)) == len(labels)
        for row in rows:
            match row.spec:
                case CodecSpec(aim=LikeSystem(leader)):
                    assert leader in labels
        if "--protocol" in words:
            assert published_beside(Form[words[1].upper()], PROTOCOLS[words[words.index("--protocol") + 1]])
    kodak = next(task for task in tasks if task.name == "kodak")
    assert f"lfq-18={tmp_path / 'models' / 'lfq-18' / 'model'}" in kodak.arguments


def test_what_is_not_there_is_left_out(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = script.find(folders(tmp_path / "data", "kodak"))
    assert [task.name for task in script.tables(data, {})] == ["kodak", "codecs"]
    assert "left out: rows of lfq-18, vq-10, fsq-18, bsq-18" in capsys.readouterr().err


def test_published_pages_are_small(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = folders(tmp_path, "out/kodak") / "out/kodak"
    (measured / "table.md").write_text("# A table\n\n![chart.png](chart.png)\n", encoding="utf-8")
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(measured / "chart.png")
    script.publish(measured, tmp_path / "docs" / "kodak")
    script.publish(tmp_path / "out" / "video", tmp_path / "docs" / "video")
    assert (tmp_path / "docs" / "kodak.md").read_text() == "# A table\n\n![chart](kodak-chart.webp)\n"
    assert (measured / "chart.png").stat().st_size > script.LARGEST
    assert (tmp_path / "docs" / "kodak-chart.webp").stat().st_size <= script.LARGEST
    assert "not measured yet: video" in capsys.readouterr().out
    assert not (tmp_path / "docs" / "video.md").exists()
