"""What an evaluation is. What enters: the command line's words. What leaves: checked settings."""

from __future__ import annotations

from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt

from bsq.data.stored import Kind
from bsq.evaluate.protocols import Protocol
from bsq.evaluate.systems.names import shown_path, shown_spec
from bsq.settings import Settings


class EvaluationSettings(Settings):
    """`systems` as `bsq.evaluate.systems.spec` reads them; `data` are folders, files, tars, globs, or one `.npz`.

    Every number of quality comes from one sample at a time. `features` is the network of the Fréchet distance. Each
    system is timed `rounds` times, by turns, on `timed` batches of `batch` samples. `shown` samples are on the contact
    sheet. Each of `processes` works with `threads` threads.
    """

    systems: tuple[str, ...] = Field(min_length=1)
    data: tuple[str, ...] = Field(min_length=1)
    kind: Kind = Kind.PICTURES
    protocol: Protocol = Protocol()
    lpips: str = "squeeze"
    features: str = "squeeze"
    first: PositiveInt | None = None
    shown: NonNegativeInt = 3
    timed: PositiveInt = 2
    batch: PositiveInt = 1
    rounds: NonNegativeInt = 3
    processes: PositiveInt = 1
    threads: PositiveInt = 1
    device: str = "cpu"

    def for_reports(self) -> dict[str, Any]:
        """As JSON, with folders by their last names: reports are for other machines too."""
        whole = self.model_dump(mode="json") | {"protocol": self.protocol.for_reports()}
        return whole | {
            "systems": [shown_spec(text) for text in self.systems],
            "data": [shown_path(text) for text in self.data],
            "features": shown_spec(self.features),
        }
