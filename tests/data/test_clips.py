"""Clips by time, and pictures and clips by turns."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_files import frame, number_of, video
from PIL import Image
from pydantic import ValidationError

from bsq.data.clips import ClipSettings, central_clip, random_clip
from bsq.data.loader import Data, DataSettings, Share, Turns, load_batches, open_dataset
from bsq.data.stored import Kind
from bsq.data.transforms import CropSettings
from bsq.errors import DataError, MediaError

CROP = CropSettings(crop=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of 4 s, one in a tar; one that is too short, one that is damaged; three pictures."""
    path = tmp_path_factory.mktemp("mixed")
    good = video(40)
    (path / "good.mp4").write_bytes(good)
    with tarfile.open(path / "more.tar", "w") as tar:
        for name, data in (("000.mp4", good), ("000.json", b"{}")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (path / "short.webm").write_bytes(video(3, kind="webm", codec="libvpx-vp9"))
    (path / "damaged.mov").write_bytes(good[:500])
    for number in range(3):
        Image.fromarray(frame(number)).save(path / f"{number}.png")
    return path


def opened(folder: Path, seed: int = 0, source: object = (), **clips: object) -> Data:
    settings = {"crop": 16, "source": source, "clips": {"source": str(folder), "frames": 4, "frame_rate": 5, **clips}}
    return open_dataset(DataSettings.model_validate(settings), seed)


def numbers(clip: torch.Tensor) -> list[int]:
    return [number_of(pixels.permute(1, 2, 0).numpy()) for pixels in clip.unbind(1)]


@pytest.mark.parametrize("kind", ["mp4", "webm", "avi"])
def test_a_clip_is_a_stretch_of_time(kind: str) -> None:
    codec = {"mp4": "libx264", "webm": "libvpx-vp9", "avi": "ffv1"}[kind]
    options = {} if kind == "avi" else {"crf": "2", "b": "0", "g": "10"}
    data = video(40, kind=kind, codec=codec, options=options)
    settings = ClipSettings(source=("x",), frames=5, frame_rate=5)
    starts = set()
    for seed in range(25):
        clip = random_clip(data, settings, CROP, np.random.default_rng(seed))
        assert clip.shape == (3, 5, 16, 16)
        assert clip.dtype == torch.uint8
        first, *_ = seen = numbers(clip)
        assert seen == [first + 2 * n for n in range(5)], "every second frame of ten a second"
        starts.add(first)
    assert min(starts) <= 4
    assert max(starts) >= 27
    assert torch.equal(clip, random_clip(data, settings, CROP, np.random.default_rng(24)))
    assert numbers(central_clip(data, settings, CROP))[2] in (19, 20)


def test_a_faster_clip_repeats_frames() -> None:
    clip = random_clip(video(10), ClipSettings(source=("x",), frames=8, frame_rate=20), CROP, np.random.default_rng(0))
    steps = np.diff(numbers(clip))
    assert set(steps.tolist()) == {0, 1}


def test_all_frames_are_cut_alike() -> None:
    """Rows and columns of the frames are told by red and green."""
    clip = random_clip(
        video(10), ClipSettings(source=("x",), frames=4, frame_rate=10), CROP, np.random.default_rng(3)
    ).int()
    assert (clip[:2] - clip[:2, :1]).abs().float().mean() < 3


def test_too_short_is_an_error_in_plain_words() -> None:
    with pytest.raises(MediaError, match=r"too short: 1\.00 s, and 16 frames at 8 a second span 1\.88 s"):
        random_clip(video(10), ClipSettings(source=("x",)), CROP, np.random.default_rng(0))


def test_videos_that_cannot_be_used_are_named_and_replaced(folder: Path) -> None:
    data = opened(folder)
    assert data.describe() == "4 videos"
    (batch,) = load_batches(data, Share(batch=4, micro=4), 0, 4, 0)
    assert batch.stored.shape == (4, 3, 4, 16, 16)
    reasons = {Path(refused.name).name: refused.reason for refused in batch.unreadable}
    assert set(reasons) == {"short.webm", "damaged.mov"}
    assert "too short" in reasons["short.webm"]
    assert "cut-off" in reasons["damaged.mov"]


def test_nothing_long_enough(folder: Path) -> None:
    with pytest.raises(DataError, match="none of 4 videos"):
        opened(folder, frames=100)[0]
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="holds no videos"):
        open_dataset(DataSettings.model_validate({"clips": {"source": str(folder / "empty")}}), 0)


@pytest.mark.parametrize(("share", "of"), [(0.5, 2), (0.25, 4), (0.3, 10), (0.9, 10)])
def test_turns_are_exact_and_spread(share: float, of: int) -> None:
    settings = DataSettings.model_validate({"source": "p", "clips": {"source": "v", "share": share}})
    turns = Turns.from_settings(settings, 7)
    kinds = [turns.kind(step) for step in range(20 * of)]
    clips = [kind is Kind.VIDEOS for kind in kinds]
    for start in range(0, len(clips) - of):
        assert sum(clips[start : start + of]) == round(share * of)
    for step in (0, 1, of, 3 * of + 1):
        assert turns.steps_before(Kind.VIDEOS, step) == sum(clips[:step])
        assert turns.steps_before(Kind.PICTURES, step) == step - sum(clips[:step])
    assert len({Turns.from_settings(settings, seed).first for seed in range(20)}) > 1


def test_pictures_and_clips_by_turns_resume_anywhere(folder: Path) -> None:
    data, share = opened(folder, source=str(folder)), Share(batch=3, micro=3)
    whole = list(load_batches(data, share, 0, 24, 0))
    frames = [batch.stored.shape[2] for batch in whole]
    assert sorted(frames) == [1] * 4 + [4] * 4
    pictures = [batch for batch in whole if batch.stored.shape[2] == 1]
    assert all(len({number_of_pixels(p) for p in batch.stored}) == 3 for batch in pictures), "an epoch a batch"
    rest = list(load_batches(opened(folder, source=str(folder)), share, 9, 24, 1))
    assert all(torch.equal(a.stored, b.stored) for a, b in zip(whole[3:], rest, strict=True))
    assert [group.shape[2] for group in data.central(4)] == [1, 4]


def number_of_pixels(clip: torch.Tensor) -> int:
    return numbers(clip)[0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"source": []},
        {"clips": {"source": "v", "share": 0.5}},
        {"clips": {"source": "v"}, "cache_gib": 1},
        {"source": "p", "clips": {"source": "v", "share": 1.0}},
        {"source": "p", "clips": {"source": "v", "frames": 0}},
        {"source": "p", "clips": {"source": "v", "frame_rate": 0}},
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DataSettings.model_validate(settings)
