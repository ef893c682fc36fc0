"""Runs of a few steps: what they write, that they resume exactly, and how they fail."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from runs import MODEL, TRANSFORMER, assert_resumes_exactly, losses, tiny
from safetensors.torch import load_file

import bsq
from bsq.data.pictures import open_picture, to_pixels
from bsq.errors import DataError, NumericsError, SettingsError, TrainingError
from bsq.tokenizer import Tokenizer
from bsq.train import End, Start, load_recipe, loop, run
from bsq.train import checkpoints as run_checkpoints
from bsq.train.checkpoints import checkpoints
from bsq.train.logs import JsonLines, TensorBoard
from bsq.train.trainer import Trainer


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one uninterrupted run."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert run(tiny(pictures), out).end is End.FINISHED
    return out


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    """Send ourselves a signal in that step."""
    take = Trainer.train_step

    def train_step(self: Trainer, batches: Any) -> Any:
        if self.step == step:
            os.kill(os.getpid(), number)
        return take(self, batches)

    monkeypatch.setattr(Trainer, "train_step", train_step)


def test_writes_what_it_promises(whole: Path, pictures: Path) -> None:
    assert load_recipe(whole / "recipe.yaml") == tiny(pictures)
    assert [path.name for path in checkpoints(whole / "checkpoints")] == [
        "step-000000008.safetensors",
        "step-000000012.safetensors",
    ]
    lines = losses(whole)
    assert [line["pictures"] for line in lines] == [8, 16, 24, 32, 40, 48]
    named = {"loss", "reconstruction", "l1", "entropy", "psnr", "psnr@4", "psnr@8", "gradient_norm", "worst_imbalance"}
    assert named <= {name for line in lines for name in line}
    sheets = sorted((whole / "samples").glob("*.png"))
    assert [path.stem for path in sheets] == ["0000000024", "0000000048"]
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (2 * 34, 3 * 34)  # two pictures; original, 4 and 8 bits


def test_exports_the_average(whole: Path, pictures: Path) -> None:
    tokenizer = bsq.load(str(whole / "model"))
    averaged = load_file(checkpoints(whole / "checkpoints")[-1])
    for name, tensor in tokenizer.state_dict().items():
        assert torch.equal(tensor, averaged[f"ema.{name}"])
    again = tokenizer.reconstruct(to_pixels(open_picture(pictures / "000.png")))
    assert again.shape == (1, 3, 40, 48)


def test_learns(pictures: Path, tmp_path: Path) -> None:
    fast = {"kind": "adamw", "learning_rate": 1e-2}
    lengths = {"pictures": 240, "batch": 8, "log_every": 40, "checkpoint_every": 240, "samples": {"every": 240}}
    run(tiny(pictures, optimizer=fast, nested=None, loss={"entropy": {"weight": 0, "start": 0}}, **lengths), tmp_path)
    lines = losses(tmp_path)
    assert lines[-1]["reconstruction"] < 0.8 * lines[0]["reconstruction"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_saves_first_and_resuming_is_exact(
    number: signal.Signals, whole: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, 5, number)
        result = run(tiny(pictures), out)
    assert (result.end, result.steps) == (End.STOPPED, 6)
    assert checkpoints(out / "checkpoints")[-1].name == "step-000000006.safetensors"
    assert (result.model / "model.safetensors").is_file()
    assert run(tiny(pictures), out, Start.RESUME).end is End.FINISHED
    assert_same_run(out, whole)


def test_schedule_free_resumes_exactly(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("schedulefree")
    recipe = tiny(pictures, optimizer={"kind": "schedule_free"}, schedule={"warm_up": 16, "floor": 1.0})
    run(recipe, tmp_path / "whole")
    assert_resumes_exactly(recipe, tmp_path / "whole", tmp_path / "stopped")


def test_resuming_an_older_checkpoint_rewrites_the_log(whole: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    checkpoints(out / "checkpoints")[-1].unlink()
    with open(out / "log.jsonl", "a") as log:
        log.write('{"step": 12, "half')
    run(tiny(pictures), out, Start.RESUME)
    assert losses(out) == losses(whole)
    assert_same_run(out, whole)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_and_cache_change_nothing(workers: int, whole: Path, pictures: Path, tmp_path: Path) -> None:
    recipe = tiny(pictures)
    data = recipe.data.model_copy(update={"workers": workers, "cache_gib": 0.01 * (workers - 1)})
    run(recipe.model_copy(update={"data": data}), tmp_path)
    assert losses(tmp_path) == losses(whole)


def test_recomputing_activations_changes_nothing(whole: Path, pictures: Path, tmp_path: Path) -> None:
    run(tiny(pictures, recompute=True), tmp_path)
    assert losses(tmp_path) == losses(whole)


def test_micro_batches_change_next_to_nothing(pictures: Path, tmp_path: Path) -> None:
    # The entropy of the average code is the one term that sees the batch as a whole.
    recipe = tiny(pictures, loss={"entropy": {"weight": 0, "start": 0}})
    run(recipe, tmp_path / "one")
    run(recipe.model_copy(update={"micro_batch": 2}), tmp_path / "two")
    for one, two in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)


def assert_same_run(out: Path, other: Path) -> None:
    mine, theirs = (load_file(checkpoints(folder / "checkpoints")[-1]) for folder in (out, other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_will_not_begin_on_top_of_a_run(whole: Path, pictures: Path) -> None:
    with pytest.raises(TrainingError, match="resume"):
        run(tiny(pictures), whole)


def test_nothing_to_resume(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        run(tiny(pictures), tmp_path, Start.RESUME)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 8}, "batch=4"),
        ({"model": MODEL | {"encoder": TRANSFORMER | {"width": 32}}}, r"model\.encoder\.width=16 and cannot .* 32"),
        ({"model": MODEL | {"encoder": TRANSFORMER | {"positions": {"kind": "rotary", "base": 9}}}}, "positions"),
        ({"optimizer": {"kind": "adamw"}}, r"optimizer\.kind=muon"),
        ({"loss": {"adversarial": {"kind": "adversarial", "discriminator": {"kind": "patch"}}}}, r"loss\.adversarial"),
    ],
)
def test_another_recipe_cannot_resume(changes: dict[str, Any], words: str, whole: Path, pictures: Path) -> None:
    with pytest.raises(SettingsError, match=words):
        run(tiny(pictures, **changes), whole, Start.RESUME)


def test_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        run(tiny(tmp_path / "empty"), tmp_path / "run")


def test_a_step_that_is_no_number_is_skipped(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, steps={2, 3})
    result = run(tiny(pictures, most_bad_steps=3), tmp_path)
    assert result.end is End.FINISHED
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["in_a_row"] for line in lines if line["event"] == "skipped"] == [1, 2]
    assert all(torch.isfinite(p).all() for p in bsq.load(str(result.model)).parameters())


def test_many_such_steps_end_the_run_with_the_last_checkpoint_kept(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, steps=set(range(5, 100)))
    with pytest.raises(TrainingError, match="3 steps in a row"):
        run(tiny(pictures, most_bad_steps=3), tmp_path)
    assert checkpoints(tmp_path / "checkpoints")[-1].name == "step-000000004.safetensors"


@pytest.mark.parametrize(("bad", "every", "kept"), [({7}, 16, [9, 12]), (set(range(6, 100)), 4, [5, 6])])
def test_a_checkpoint_waits_for_a_step_that_gave_numbers(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: set[int], every: int, kept: list[int]
) -> None:
    """Or all that are kept might be from after the harm was done."""
    poison(monkeypatch, bad)
    with contextlib.suppress(TrainingError):
        run(tiny(pictures, most_bad_steps=4, checkpoint_every=every), tmp_path)
    assert [int(path.stem[-9:]) for path in checkpoints(tmp_path / "checkpoints")] == kept


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """In these steps one pixel is no number; in the even ones the quantizer does not see it."""
    reconstruct = Trainer._reconstruct

    def poisoned(self: Trainer, batch: Any) -> Any:
        if self.step in steps and self.step % 2:
            raise NumericsError("a latent is no number")
        objective = reconstruct(self, batch)
        if self.step in steps:
            object.__setattr__(objective, "loss", objective.loss * float("nan"))
        return objective

    monkeypatch.setattr(Trainer, "_reconstruct", poisoned)


def test_a_full_disk_leaves_the_checkpoint_before(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = run_checkpoints.write_draft

    def full(draft: Path, data: bytes) -> None:
        if "000000008" in draft.name:
            draft.write_bytes(data[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(draft, data)

    monkeypatch.setattr(run_checkpoints, "write_draft", full)
    assert run(tiny(pictures), tmp_path).end is End.FINISHED
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert sorted(names) == ["step-000000004.safetensors", "step-000000012.safetensors"]
    assert "the disk is full" in capsys.readouterr().err


def test_a_full_disk_costs_what_cannot_be_written_and_not_the_run(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(loop, "save_picture", full)
    monkeypatch.setattr(JsonLines, "write", full)
    monkeypatch.setattr(TensorBoard, "scalars", full)
    monkeypatch.setattr(TensorBoard, "close", full)
    save = Tokenizer.save_pretrained
    monkeypatch.setattr(Tokenizer, "save_pretrained", lambda self, folder: (folder.mkdir(), full()))
    with pytest.raises(TrainingError, match=r"the model cannot be written \(the disk is full\)"):  # the last one
        run(tiny(pictures, writers=["tensorboard"]), tmp_path)
    said = capsys.readouterr().err
    for what in ("a line of the log", "a sheet of samples", "TensorBoard, which ends here", "the model"):
        assert f"not written: {what} (" in said
    assert said.count("TensorBoard, which ends here") == 1
    assert not (tmp_path / ".model.part").exists()
    monkeypatch.setattr(Tokenizer, "save_pretrained", save)
    assert bsq.load(str(run(tiny(pictures), tmp_path, Start.RESUME).model))


def test_a_line_of_the_log_is_whole_or_not_there() -> None:
    lines = JsonLines(Path("/dev/full"))
    with pytest.raises(OSError, match="No space"):
        lines.write({"step": 1})
    lines.close()


def test_starts_from_a_given_model(whole: Path, pictures: Path, tmp_path: Path) -> None:
    trainer_recipe = tiny(pictures, initial=str(whole / "model"))
    from bsq.train.trainer import build_tokenizer

    given: Tokenizer = bsq.load(str(whole / "model"))
    for mine, theirs in zip(build_tokenizer(trainer_recipe).parameters(), given.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    other = {**trainer_recipe.model.model_dump(), "patch": 4}
    with pytest.raises(SettingsError, match="other settings"):
        build_tokenizer(tiny(pictures, initial=str(whole / "model"), model=other))


def test_a_model_of_videos_starts_from_one_of_pictures(tmp_path: Path, pictures: Path) -> None:
    from bsq.train.trainer import build_tokenizer

    def recipe(frames: int, time: str, **changes: Any) -> Any:
        part = TRANSFORMER | {"positions": {"kind": "learned", "rows": 4, "columns": 4, "frames": frames}, "time": time}
        return tiny(pictures, model=MODEL | {"encoder": part, "decoder": part}, **changes)

    build_tokenizer(recipe(1, "causal")).save_pretrained(tmp_path / "model")
    given = bsq.load(str(tmp_path / "model"))
    clip = torch.rand(1, 3, 3, 32, 32) * 2 - 1
    for time in ("full", "causal"):
        video = build_tokenizer(recipe(3, time, seed=1, initial=str(tmp_path / "model"))).eval()
        for frame in clip.split(1, dim=2):
            assert torch.equal(video(frame).pixels, given(frame).pixels)
        assert video(clip).pixels.shape == clip.shape
    with pytest.raises(SettingsError, match=r"its encoder.* is"):
        build_tokenizer(
            recipe(3, "full", initial=str(tmp_path / "model"), nested=None).model_copy(
                update={"model": tiny(pictures).model}
            )
        )


def test_tensorboard(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(tiny(pictures, writers=["tensorboard"], pictures=8), tmp_path)
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_bfloat16_is_close_and_not_the_same(whole: Path, pictures: Path, tmp_path: Path) -> None:
    run(tiny(pictures, precision="bf16"), tmp_path)
    half, single = losses(tmp_path), losses(whole)
    assert half != single
    assert half[-1]["loss"] == pytest.approx(single[-1]["loss"], rel=0.05)
