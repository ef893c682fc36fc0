"""What a run writes for people to look at: boards, charts, sheets; and runs on clips."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import losses, tiny, write_pictures

from bsq.data.video_files import write_video
from bsq.errors import MissingDependencyError, SettingsError
from bsq.train import Start, run
from bsq.train.logs import draw_balance, open_board
from bsq.train.plan import plan_run
from bsq.train.recipe import Recipe, check_recipe
from bsq.train.samples import draw_sheet


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of a second, and one that is too short."""
    pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("videos")
    still = np.kron(np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    for number in range(4):
        with write_video(folder / f"{number}.mp4", 8) as video:
            for moment in range(8 if number else 2):
                video.write(np.ascontiguousarray(np.roll(still, moment, 1)))
    return folder


def on_clips(videos: Path, source: object = (), **changes: Any) -> Recipe:
    data = {"source": source, "crop": 32, "workers": 0, "clips": {"source": str(videos), "frames": 3, "frame_rate": 4}}
    lengths = {"pictures": 16, "log_every": 8, "checkpoint_every": 8, "samples": {"every": 16, "count": 2}}
    return tiny(videos, data=data, **(lengths | changes))


def test_a_run_on_clips_resumes_exactly(videos: Path, tmp_path: Path) -> None:
    run(on_clips(videos), tmp_path / "whole")
    run(on_clips(videos, pictures=8), tmp_path / "parts")
    run(on_clips(videos), tmp_path / "parts", Start.RESUME)
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert whole[-1]["pictures"] == 16
    assert {k: v for k, v in parts[-1].items() if k != "learning_rate"} == {
        k: v for k, v in whole[-1].items() if k != "learning_rate"
    }
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    (refused,) = [line for line in lines if line["event"] == "unreadable"]
    assert refused["name"].endswith("0.mp4")
    assert "too short" in refused["reason"]
    assert any("ema_clip_psnr@8" in line for line in lines)


def test_a_run_on_pictures_and_clips(videos: Path, tmp_path: Path) -> None:
    run(on_clips(videos, str(write_pictures(tmp_path / "pictures"))), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (samples,) = [line for line in lines if line["event"] == "samples"]
    assert {"ema_psnr@8", "ema_clip_psnr@8"} <= set(samples)


def test_a_longer_clip_takes_more(videos: Path) -> None:
    content = on_clips(videos).model_dump(mode="json")
    content["data"]["clips"]["frames"] = 6
    short, long = plan_run(on_clips(videos)), plan_run(Recipe.model_validate(content))
    assert long.flops > 1.9 * short.flops
    assert long.activation_bytes > 1.5 * short.activation_bytes


def test_pictures_and_clips_take_their_mean(videos: Path) -> None:
    content = on_clips(videos, "pictures").model_dump(mode="json")
    content["data"]["clips"]["share"] = 0.25
    both, clips = plan_run(Recipe.model_validate(content)), plan_run(on_clips(videos))
    pictures = plan_run(tiny(Path("pictures"), data={"source": "pictures", "crop": 32}))
    assert both.flops == pytest.approx(0.75 * pictures.flops + 0.25 * clips.flops)
    assert both.activation_bytes == clips.activation_bytes


def test_clips_longer_than_the_models_table_of_frames(videos: Path) -> None:
    content = on_clips(videos).model_dump(mode="json")
    content["model"]["encoder"]["positions"] = {"kind": "learned", "rows": 4, "columns": 4, "frames": 2}
    with pytest.raises(SettingsError, match=r"data\.clips\.frames=3 is more than positions\.frames=2"):
        check_recipe(content, "here")


def test_sheets_show_pictures_then_clips(tiny_tokenizer: Any) -> None:
    pictures, clips = torch.zeros(3, 3, 1, 16, 16), torch.zeros(2, 3, 6, 16, 16)
    sheet = draw_sheet(tiny_tokenizer, [pictures, clips], [4, 12])
    assert sheet.picture.shape == (6 * 18, 8 * 18, 3)
    assert set(sheet.psnr) == {"ema_psnr@4", "ema_psnr@12", "ema_clip_psnr@4", "ema_clip_psnr@12"}


def test_the_balance_chart() -> None:
    chart = draw_balance([0.5, 1.0, 0.0, 0.6])
    assert chart.shape == (96, 48, 3)
    coloured = (chart[:, 6::12] != 255).any(-1) & (chart[:, 6::12] != 0).any(-1)
    above, below = coloured[:48].sum(0), coloured[49:].sum(0)
    assert above.tolist() == [0, 48, 0, 10]
    assert below.tolist() == [0, 0, 47, 0]
    assert chart[10, 18, 0] > chart[10, 18, 2], "a stuck bit is red"
    assert chart[44, 42, 0] < chart[44, 42, 2], "one within bounds is blue"


def test_tensorboard_holds_numbers_charts_and_sheets(tmp_path: Path) -> None:
    board = open_board("tensorboard", tmp_path, 0)
    board.scalars({"loss": 0.5}, 8)
    board.balance((0.5, 0.25), 8)
    board.sheet(np.zeros((8, 8, 3), np.uint8), 8)
    board.close()
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("loss")] == [0.5]
    assert set(events.Tags()["images"]) == {"bits/balance", "samples"}
    assert events.Tags()["histograms"] == ["bits/ones"]


@pytest.mark.slow
def test_wandb_offline_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    identities = []
    for _ in range(2):
        board = open_board("wandb", tmp_path, 0)
        board.scalars({"loss": 0.5}, 8)
        board.balance((0.5, 0.25), 8)
        board.sheet(np.zeros((8, 8, 3), np.uint8), 8)
        board.close()
        identities.append((tmp_path / "wandb-run").read_text())
    assert identities[0] == identities[1]
    recorded = list((tmp_path / "wandb").rglob("*.wandb"))
    assert len(recorded) == 2
    assert b"loss" in recorded[0].read_bytes()
    assert list((tmp_path / "wandb").rglob("samples_*.png"))


def test_wandb_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match=r"bsq\[wandb\]"):
        open_board("wandb", tmp_path, 0)
