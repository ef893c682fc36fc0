"""What every recipe says about its run, whatever is trained. What enters: settings. What leaves: them, checked."""

from __future__ import annotations

from abc import ABC
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from bsq.settings import Settings
from bsq.train.ema import EmaSettings
from bsq.train.optimizers import AdamWSettings, OptimizerSettings, ScheduleFreeSettings
from bsq.train.schedule import ScheduleSettings

# YAML reads a bare off as false.
Compile = Annotated[
    Literal["off", "default", "max-autotune"], BeforeValidator(lambda given: "off" if given is False else given)
]


class RunSettings(Settings, ABC):
    """Length, batches, optimizer and records of a run. Lengths are counted in pictures seen, whatever the batch."""

    optimizer: OptimizerSettings = AdamWSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    ema: EmaSettings = EmaSettings()
    pictures: PositiveInt  # how many are seen before the run ends
    batch: PositiveInt = 32  # pictures of one step, over all processes
    micro_batch: PositiveInt | None = None  # pictures a process takes at once; None: its whole share of the batch
    precision: Literal["fp32", "bf16"] = "bf16"
    clip: PositiveFloat | None = 1.0  # largest norm of the gradient
    step_in_backward: bool = False  # weights move when their gradients come: the same weights, and few gradients kept
    parallel: Literal["ddp", "fsdp"] = "ddp"  # several processes: all hold the whole model, or a part each (FSDP2)
    compile: Compile = "off"
    initial: str | None = None  # start from the weights of this model: a bundled name, a folder or a hub id
    seed: NonNegativeInt = 0
    threads: PositiveInt | None = None  # of PyTorch on CPUs; None: as many as it finds
    log_every: PositiveInt = 1_000
    checkpoint_every: PositiveInt = 50_000
    keep_checkpoints: PositiveInt = 2
    most_bad_steps: PositiveInt = 20  # steps in a row without finite gradients after which the run gives up
    writers: tuple[Literal["tensorboard", "wandb"], ...] = ("tensorboard",)

    @model_validator(mode="after")
    def _has_whole_batches(self) -> Self:
        if self.micro_batch is not None and self.batch % self.micro_batch:
            raise ValueError(f"batch={self.batch} is not a multiple of micro_batch={self.micro_batch}")
        if self.pictures < self.batch:
            raise ValueError(f"pictures={self.pictures} is less than one batch of {self.batch}")
        if isinstance(self.optimizer, ScheduleFreeSettings) and self.schedule.floor != 1:
            raise ValueError("optimizer.kind=schedule_free keeps its rate: it needs schedule.floor=1")
        if self.step_in_backward:
            check_step_in_backward(self)
        return self

    @property
    def steps(self) -> int:
        """Whole batches in the run."""
        return self.pictures // self.batch

    def steps_in(self, pictures: int) -> int:
        """Steps that see about so many pictures, at least one."""
        return max(1, round(pictures / self.batch))


def check_step_in_backward(run: RunSettings) -> None:
    """Raises ValueError for what needs all gradients of a step, or the step at once."""
    if run.clip is not None:
        raise ValueError("step_in_backward knows the norm of all gradients too late to clip them: it needs clip=null")
    if run.micro_batch not in (None, run.batch):
        raise ValueError(f"step_in_backward cannot add up gradients: micro_batch={run.micro_batch} is not the batch")
    if isinstance(run.optimizer, ScheduleFreeSettings):
        raise ValueError(
            "optimizer.kind=schedule_free counts its steps: it cannot take them in parts (step_in_backward)"
        )
