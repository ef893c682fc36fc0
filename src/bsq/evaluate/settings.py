"""What an evaluation is. What enters: the command line's words. What leaves: checked settings."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt

from bsq.data.stored import Kind
from bsq.evaluate.protocols import Protocol
from bsq.settings import Settings


class EvaluationSettings(Settings):
    """`systems` as `bsq.evaluate.systems.spec` reads them; `data` are folders, files, tars, globs, or one `.npz`.

    Every number of quality comes from one sample at a time. `features` is the network of the Fréchet distance,
    `rounds` how often each system is timed on `timed` samples, by turns; `shown` samples are on the contact sheet.
    Each of `processes` works with `threads` threads.
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


def shown_path(text: str) -> str:
    """The last part of an absolute path."""
    return PurePath(text).name or text if text.startswith(("/", "~", "..")) else text


def shown_spec(text: str) -> str:
    """A system with the folders of this machine left out: "LFQ=…/lfq-18@18" for "LFQ=/data/runs/lfq-18@18"."""
    label, sign, rest = text.partition("=")
    head, colon, path = rest.partition(":") if sign else text.partition(":")
    name = path if colon else (rest if sign else text)
    short = f"…/{PurePath(name).name}" if name.startswith(("/", "~", "..")) else name
    return f"{label}{sign}" * bool(sign) + f"{head}{colon}" * bool(colon) + short
