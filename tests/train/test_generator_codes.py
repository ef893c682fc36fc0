"""Codes for generators from a folder of `bsq tokenize`, and codes made as they come: order, shares, resuming."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import GENERATOR, NAMES, losses, tiny_generator, write_labelled, write_pictures

from bsq.bulk.run import Request, tokenize
from bsq.bulk.settings import TokenizeSettings, ViewSettings
from bsq.bulk.spread import Here
from bsq.data.loader import Share
from bsq.errors import CheckpointError, DataError, SettingsError, ShapeError
from bsq.tokenizer import Tokenizer
from bsq.train import End, Start, run
from bsq.train.checkpoints import load_state
from bsq.train.generator_trainer import GeneratorTrainer
from bsq.train.live_codes import LiveCodes, LiveCodeSettings
from bsq.train.token_folder import FolderCodes


class Deaf:
    """Listens to nothing."""

    def listed(self, inputs: int) -> None: ...
    def begins(self, plan: Any, done: int, inputs: int) -> None: ...
    def wrote(self, note: Any) -> None: ...


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> Path:
    """Ten pictures of two classes, three views of each (the middle, two random ones, some mirrored), in four shards."""
    folder = write_labelled(tmp_path_factory.mktemp("tokens"))
    views = ViewSettings(size=32, views=3, zoom=0.8, flip=0.5)
    settings = TokenizeSettings(bits=9, shard_size=3, format="webdataset", label="cls", views=views)
    tokenize(Request((str(folder / "a.tar"),), str(folder / "tokens"), settings), tiny_tokenizer, Here(), Deaf())
    return folder


def of_tokens(place: Path, **more: Any) -> dict[str, Any]:
    return {"kind": "tokens", "folder": str(place / "tokens"), "class_names": str(place / "classes.txt")} | more


def of_live(place: Path, **more: Any) -> dict[str, Any]:
    pictures = {"source": [str(place / "a.tar")], "class_names": str(place / "classes.txt"), "crop": 32, "flip": 0.5}
    return {"kind": "live"} | pictures | more


def codes_of(place: Path, tokenizer: Tokenizer) -> FolderCodes:
    return FolderCodes(str(place / "tokens"), tokenizer, 8, NAMES, seed=3)


def rows(codes: Any, share: Share, first: int, last: int) -> list[tuple[int, bytes, int]]:
    """(position, digits, label) of what a process gets."""
    return [
        (int(position), digits.numpy().tobytes(), int(label))
        for batch in codes.batches(share, first, last)
        for position, digits, label in zip(batch.positions, batch.digits, batch.labels, strict=True)
    ]


def test_an_epoch_of_tokens_is_every_view_once(place: Path, tiny_tokenizer: Tokenizer) -> None:
    codes = codes_of(place, tiny_tokenizer)
    assert codes.describe() == "30 rows of tokens"
    assert codes.grid == (1, 4, 4)
    all_rows = codes.every_row()
    one = rows(codes, Share(6, 3), 0, 30)
    assert [position for position, *_ in one] == list(range(30))
    assert sorted(data for _, data, _ in one) == sorted(row.numpy().tobytes() for row in all_rows.digits)
    assert len({data for _, data, _ in one}) > 20, "views differ"
    assert [label for *_, label in one].count(1) == 15
    again = [data for _, data, _ in rows(codes, Share(6, 6), 30, 60)]
    assert sorted(again) == sorted(data for _, data, _ in one)
    assert again != [data for _, data, _ in one], "another epoch, another order"
    assert rows(codes, Share(6, 6), 12, 30) == one[12:]


def test_processes_share_an_epoch(place: Path, tiny_tokenizer: Tokenizer) -> None:
    codes = codes_of(place, tiny_tokenizer)
    parts = [rows(codes, Share(10, 5, process, 2), 0, 30) for process in range(2)]
    assert [position for position, *_ in parts[1]] == [*range(5, 10), *range(15, 20), *range(25, 30)]
    together = sorted(data for part in parts for _, data, _ in part)
    assert together == sorted(row.numpy().tobytes() for row in codes.every_row().digits)


def test_live_codes_are_fresh_cuts_that_follow_from_the_position(place: Path, tiny_tokenizer: Tokenizer) -> None:
    settings = LiveCodeSettings.model_validate(of_live(place, zoom=(0.8, 1.0)))
    codes = LiveCodes(settings, tiny_tokenizer, 8, NAMES, seed=0)
    one = rows(codes, Share(5, 5), 0, 20)
    assert rows(codes, Share(5, 5), 10, 20) == one[10:]
    assert [label for *_, label in one[:10]].count(1) == 5, "an epoch has each picture once"
    first, second = ({data for _, data, _ in part} for part in (one[:10], one[10:]))
    assert not first & second, "cut anew"


@pytest.mark.parametrize("way", [of_tokens, of_live])
def test_a_run_resumes_exactly(
    way: Any, place: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, take = tiny_generator(way(place), tiny_model), GeneratorTrainer.train_step

    def train_step(self: GeneratorTrainer, batches: Any) -> Any:
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(self, batches)

    assert run(recipe, tmp_path / "whole").end is End.FINISHED
    with monkeypatch.context() as patch:
        patch.setattr(GeneratorTrainer, "train_step", train_step)
        assert run(recipe, tmp_path / "cut").end is End.STOPPED
    assert run(recipe, tmp_path / "cut", Start.RESUME).end is End.FINISHED
    mine, theirs = (load_state(tmp_path / name / "checkpoints") for name in ("cut", "whole"))
    assert all(torch.equal(mine.tensors[name], theirs.tensors[name]) for name in theirs.tensors)
    assert [line["pictures"] for line in losses(tmp_path / "whole")] == [8, 16, 24, 32, 40, 48]


def test_held_out_tokens_are_measured(place: Path, tiny_model: Path, tmp_path: Path) -> None:
    samples = {"every": 48, "count": 1, "passes": 2, "tokens": str(place / "tokens"), "sampler": {"steps": 1}}
    run(tiny_generator(of_tokens(place), tiny_model, samples=samples), tmp_path)
    assert "held_out_bits_per_token" in (tmp_path / "log.jsonl").read_text()


def test_a_picture_that_cannot_be_read_is_named_and_replaced(place: Path, tiny_model: Path, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "even", 3)
    (pictures / "broken.png").write_bytes(b"no picture")
    recipe = tiny_generator(of_live(place, source=[str(pictures)]), tiny_model)
    assert run(recipe, tmp_path / "run").end is End.FINISHED
    assert "broken.png" in (tmp_path / "run" / "log.jsonl").read_text()
    for path in pictures.iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="in a row cannot be read"):
        run(recipe, tmp_path / "none")


def test_tokens_that_do_not_fit_are_refused(place: Path, tiny_model: Path, other_model: Path, tmp_path: Path) -> None:
    def refused(error: type[Exception], match: str, **changes: Any) -> None:
        recipe = tiny_generator(**({"data": of_tokens(place), "tokenizer": tiny_model} | changes))
        with pytest.raises(error, match=match):
            run(recipe, tmp_path / match)

    refused(CheckpointError, "tokenize anew", tokenizer=other_model)
    refused(SettingsError, "more --bits", model=GENERATOR | {"radices": [2] * 12})
    refused(ShapeError, "grids", model=GENERATOR | {"grid": [1, 5, 4]})
    refused(DataError, "holds no", data=of_tokens(place, folder=str(place / "pictures")))
    (tmp_path / "others.txt").write_text("even\n")
    refused(
        DataError, "none of the classes", model=GENERATOR | {"classes": 1},
        data=of_tokens(place, class_names=str(tmp_path / "others.txt")),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"samples\.tokens"):
        tiny_generator(of_tokens(place), tiny_model, samples={"source": ["x"]})
    with pytest.raises(ValueError, match="one of them"):
        tiny_generator(of_live(place), tiny_model, samples={"source": ["x"], "tokens": "y"})
    with pytest.raises(ValueError, match=r"tokens|live"):
        tiny_generator({"kind": "dreams"}, tiny_model)
