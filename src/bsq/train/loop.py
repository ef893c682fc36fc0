"""A training run. What enters: a recipe and a folder. What leaves: in that folder a model, checkpoints, logs, samples.

out/recipe.yaml     the whole recipe           out/checkpoints/   the newest few, for resuming
out/log.jsonl       a line every `log_every`   out/samples/       sheets of reconstructions
out/model/          averaged weights           out/tensorboard/
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from bsq.data.files import Existing, plain_reason, write_file
from bsq.data.loader import Share
from bsq.data.pictures import save_picture
from bsq.data.streams import Refused
from bsq.errors import MediaError, SettingsError, TrainingError
from bsq.train.adversary import Skipped
from bsq.train.checkpoints import State, checkpoints, flush_folder, load_state, save_state
from bsq.train.generator_recipe import GeneratorRecipe
from bsq.train.generator_trainer import GeneratorTrainer
from bsq.train.logs import Boards, JsonLines, Screen, cut_log
from bsq.train.material import CodeMaterial, Material, PictureMaterial
from bsq.train.mover import Mover
from bsq.train.parallel import join_processes
from bsq.train.recipe import Recipe, write_recipe
from bsq.train.signals import StopSignals
from bsq.train.trainer import Trainer


class Start(Enum):
    """How a run begins."""

    FRESH = "fresh"
    RESUME = "resume"


class End(Enum):
    """Why a run ended."""

    FINISHED = "finished"
    STOPPED = "stopped"


@dataclass(frozen=True)
class RunResult:
    """What a run came to: why it ended, how far it got, where the averaged model lies, the last means logged."""

    end: End
    steps: int
    pictures: int
    model: Path
    last: dict[str, float]


def run(recipe: Recipe | GeneratorRecipe, out: str | Path, start: Start = Start.FRESH) -> RunResult:
    """Train a tokenizer or a generator by `recipe` in the folder `out`.

    SIGINT and SIGTERM save first, then end the run (`End.STOPPED`). RESUME goes on from the newest checkpoint in `out`
    exactly as if the run had not been interrupted.

    Raises TrainingError (a run is there already, nothing to resume, too many bad steps, the last checkpoint cannot be
    written), SettingsError, DataError.
    """
    out = Path(out)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    if start is Start.FRESH and checkpoints(out / "checkpoints"):
        raise TrainingError(f"{out} holds a run already; resume it (--resume) or name another folder")
    state = load_state(out / "checkpoints") if start is Start.RESUME else None
    with StopSignals() as signals, ExitStack() as closing:
        trainer, material = prepare(recipe, state)
        return Run(trainer, out, material, closing).go(signals)


def prepare(recipe: Recipe | GeneratorRecipe, state: State | None) -> tuple[Mover[Any], Material]:
    """What is trained, as `state` has it if there is one, and what it is trained on."""
    accelerator = join_processes()
    match recipe:
        case Recipe():
            trainer = Trainer(recipe, accelerator)
            if state is not None:
                trainer.restore(state)
            return trainer, PictureMaterial(trainer)
        case GeneratorRecipe():
            codes = CodeMaterial(recipe, accelerator)
            generator = GeneratorTrainer(recipe, codes.card, accelerator)
            if state is not None:
                generator.restore(state)
            return generator, codes
        case other:
            raise SettingsError(f"nothing to train by {other!r}")


@dataclass
class Clock:
    """Where the time since the last line of the log went."""

    began: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    pictures: int = 0

    def read(self) -> dict[str, float]:
        passed = max(1e-9, time.perf_counter() - self.began)
        return {"pictures_per_second": self.pictures / passed, "data_wait": self.waited / passed}


class Run:
    """The loop around a `Mover`, and all that it writes. Only the main process writes."""

    def __init__(self, trainer: Mover[Any], out: Path, material: Material, closing: ExitStack) -> None:
        self.trainer, self.out, self.material = trainer, out, material
        self.recipe: Recipe | GeneratorRecipe = trainer.recipe  # type: ignore[assignment]
        self.main = trainer.accelerator.is_main_process
        self.clock = Clock()
        self.unreadable: set[str] = set()
        self.last: dict[str, float] = {}
        self.owed = False  # a checkpoint that is due waits for a step that gave numbers
        if not self.main:
            return
        write_file(out / "recipe.yaml", write_recipe(self.recipe).encode(), Existing.REPLACE)
        cut_log(out / "log.jsonl", trainer.step)
        self.log = JsonLines(out / "log.jsonl")
        closing.callback(self.log.close)
        self.screen = Screen(self.recipe.pictures, trainer.seen)
        closing.callback(self.screen.close)
        self.boards = Boards(self._say)
        closing.callback(self.boards.close)
        for kind in self.recipe.writers:
            self.boards.open(kind, out, trainer.seen + 1)
        material.look_at_samples()

    def go(self, signals: StopSignals) -> RunResult:
        """Train until the end or a signal."""
        batches = self._batches()  # before a checkpoint makes a run of what cannot begin
        self._begin()
        trainer, end = self.trainer, End.FINISHED
        while trainer.step < self.recipe.steps:
            if trainer.anywhere(signals.requested):
                end = End.STOPPED
                break
            self._step(batches)
            self._write_what_is_due()
        self._close(end)
        return RunResult(end, trainer.step, trainer.seen, self.out / "model", self.last)

    def _begin(self) -> None:
        parameters = self.trainer.parameters / 1e6
        self._say(f"{parameters:.2f} M parameters, {self.material.describe()}, {self.recipe.steps:,} steps")
        if self.trainer.step == 0:
            self._save()  # so that a run can be resumed whenever it is killed
        else:
            self._say(f"resumed at step {self.trainer.step:,}, {self.trainer.seen:,} pictures seen")
        if self.trainer.step == self.recipe.steps:
            self._export(fatal=True)  # all that may be missing

    def _batches(self) -> Iterator[Any]:
        recipe, accelerator = self.recipe, self.trainer.accelerator
        local = max(1, recipe.batch // accelerator.num_processes)
        share = Share(recipe.batch, recipe.micro_batch or local, accelerator.process_index, accelerator.num_processes)
        self.parts = share.parts
        first, last = self.trainer.seen, recipe.steps * recipe.batch
        return self.material.batches(share, first, last)

    def _step(self, batches: Iterator[Any]) -> None:
        before = time.perf_counter()
        taken = list(islice(batches, self.parts))
        self.clock.waited += time.perf_counter() - before
        for refused in dict.fromkeys(refused for batch in taken for refused in batch.unreadable):
            self._note_unreadable(refused)
        outcome = self.trainer.train_step(taken)
        self.clock.pictures += self.recipe.batch
        if isinstance(outcome, Skipped):
            self._note_skipped(outcome)
        if self.main:
            self.screen.advance(self.trainer.seen)

    def _write_what_is_due(self) -> None:
        recipe, step = self.recipe, self.trainer.step
        last = step == recipe.steps
        self.owed |= step % recipe.steps_in(recipe.checkpoint_every) == 0
        # Steps without numbers may be the end of the run: the checkpoints kept must be from before.
        saving = last or (self.owed and not self.trainer.bad_steps)
        # A checkpoint closes a stretch of the log, so that a resumed run averages over the same steps.
        if saving or step % recipe.steps_in(recipe.log_every) == 0:
            self._write_log()
        if last or step % recipe.steps_in(recipe.samples.every) == 0:
            self._write_sheet()
        if saving:
            self.owed = False
            self._save(fatal=last)
            self._export(fatal=last)

    def _close(self, end: End) -> None:
        """On a signal save what there is; at the end everything is written already."""
        if end is End.STOPPED:
            self._write_log()
            self._save(fatal=True)
            self._export()
            self._say(f"stopped at step {self.trainer.step:,}; --resume goes on from there")
        else:
            self._say(f"finished after {self.trainer.seen:,} pictures; the model is in {self.out / 'model'}")

    def _write_log(self) -> None:
        meter = self.trainer.meter
        if self.trainer.accelerator.num_processes > 1:
            first, *others = gather_object([meter])
            for other in others:
                first.merge(other)
        else:
            first = meter
        if self.main and (means := first.means()):
            rates = [group["lr"] for optimizer in self.trainer.optimizers for group in optimizer.param_groups]
            means |= {"learning_rate": max(rates)} | self.clock.read()
            self.last = means
            self._log({"event": "train", **means})
            self.screen.show(means, self.trainer.seen)
            self.boards.show(lambda board: board.scalars(means, self.trainer.seen))
            if (ones := first.ones()) is not None:
                self.boards.show(lambda board: board.balance(ones, self.trainer.seen))
        meter.clear()
        self.clock = Clock()

    def _write_sheet(self) -> None:
        averaged = self.trainer.averaged()
        if not self.main:
            return
        sheet = self.material.sheet(averaged)
        path = self.out / "samples" / f"{self.trainer.seen:010d}.png"
        with self._written("a sheet of samples"):
            save_picture(path, sheet.picture, Existing.REPLACE)
        self._log({"event": "samples", **sheet.psnr})
        self._say("  ".join(f"{name} {value:.2f} {sheet.unit}" for name, value in sheet.psnr.items()) + f"  {path}")
        self.boards.show(lambda board: board.sheet(sheet.picture, self.trainer.seen))
        self.boards.show(lambda board: board.scalars(sheet.psnr, self.trainer.seen))

    def _save(self, fatal: bool = False) -> None:
        """A checkpoint. A disk that is full is no reason to stop; the checkpoint before is still there."""
        state = self.trainer.state()
        if not self.main:
            return
        with self._written(f"the checkpoint of step {self.trainer.step:,}", fatal):
            save_state(self.out / "checkpoints", self.trainer.step, state, self.recipe.keep_checkpoints)

    def _export(self, fatal: bool = False) -> None:
        """The averaged model in a folder of its own, swapped in whole."""
        averaged = self.trainer.averaged()  # every process has to ask, and only once
        if not self.main:
            return
        folder, draft, old = self.out / "model", self.out / ".model.part", self.out / ".model.old"
        with self._written("the model", fatal), ExitStack() as leaving:
            leaving.callback(shutil.rmtree, draft, ignore_errors=True)
            for path in (draft, old):
                shutil.rmtree(path, ignore_errors=True)
            self.trainer.export(draft, averaged)
            if folder.exists():
                folder.rename(old)
            draft.rename(folder)
            flush_folder(self.out)
            shutil.rmtree(old, ignore_errors=True)

    def _note_skipped(self, outcome: Skipped) -> None:
        trainer = self.trainer
        self._say(f"step {trainer.step:,} skipped ({trainer.bad_steps} in a row): {outcome.reason}")
        self._log({"event": "skipped", "reason": outcome.reason, "in_a_row": trainer.bad_steps})
        if trainer.bad_steps >= self.recipe.most_bad_steps:
            raise TrainingError(
                f"{trainer.bad_steps} steps in a row gave no numbers to learn from (last: {outcome.reason}). The "
                f"newest checkpoint in {self.out / 'checkpoints'} is from before; resume with a lower learning rate"
            )

    def _note_unreadable(self, refused: Refused) -> None:
        if refused.name not in self.unreadable:
            self.unreadable.add(refused.name)
            self._say(f"cannot use {refused}; another takes its place ({len(self.unreadable)} so far)")
            facts = {"name": refused.name, "reason": refused.reason, "so_far": len(self.unreadable)}
            self._log({"event": "unreadable", **facts})

    def _log(self, values: dict[str, Any]) -> None:
        if self.main:
            with self._written("a line of the log"):
                self.log.write({"step": self.trainer.step, "pictures": self.trainer.seen, **values})

    @contextmanager
    def _written(self, what: str, fatal: bool = False) -> Iterator[None]:
        """A disk that is full costs what cannot be written, and not the run, unless nothing comes after it."""
        try:
            yield
        except (OSError, MediaError) as error:
            reason = plain_reason(error) if isinstance(error, OSError) else str(error)
            if fatal:
                raise TrainingError(f"{what} cannot be written ({reason}); make room, then --resume") from error
            self._say(f"not written: {what} ({reason})")

    def _say(self, line: str) -> None:
        if self.main:
            self.screen.say(line)
