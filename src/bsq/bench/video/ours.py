"""`.bsq` streams of clips in the same harness. What enters: a clip and bits a code. What leaves: a stream, and back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from bsq.bench.ours import PRIOR_WORDS, OursSettings, PriorName, chosen_bits, shown_name
from bsq.bench.video.clips import Clip
from bsq.bench.video.elementary import VideoStream
from bsq.codec.shelf import named_model, prior_called, smallest_of, usual_group
from bsq.codec.video import compress_video, decompress_video
from bsq.prior.base import Prior
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer


class OursVideoSettings(Settings):
    """A tokenizer, a prior, bits a code as the dial of rate, and how many frames can be decoded without those before.

    Groups of one frame are coded frame by frame, each alone; None takes what the model is used with. The prior
    "auto" is that of `compress_video`: whichever makes a stream smallest.
    """

    model: str = "biscuit-s"  # a bundled name, a folder or a hub id
    label: str | None = None  # what tables call it; None: the model's name
    prior: PriorName = "auto"
    bits: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | Literal["eighths", "all"] = "eighths"
    frames_per_group: PositiveInt | None = None
    search: NonNegativeInt = 0  # steps


class OursVideoCodec:
    """Quality is the number of bits a code keeps. All of a stream counts: header, framing, digest."""

    def __init__(self, settings: OursVideoSettings, number: int = 0, tokenizer: Tokenizer | None = None) -> None:
        """The `number`-th of ours; `tokenizer` stands in for `settings.model`. SettingsError for bits or a prior."""
        self.tokenizer = tokenizer or named_model(settings.model)
        self._prior = None if settings.prior == "auto" else prior_called(settings.prior, self.tokenizer)
        asked = OursSettings(model=settings.model, bits=settings.bits)
        self._bits = chosen_bits(asked, len(self.tokenizer.radices))
        self._group = settings.frames_per_group or usual_group(self.tokenizer)
        words = " or ".join(map(_words, smallest_of(self.tokenizer) if self._prior is None else (self._prior,)))
        self.name = f"bsq-{number}" if number else "bsq"
        self._search = settings.search
        searched = f", searched {settings.search}" if settings.search else ""
        self.label = settings.label or f"bsq {shown_name(settings.model)}{searched}"
        parameters = sum(parameter.numel() for parameter in self.tokenizer.parameters())
        self.description = (
            f"model {shown_name(settings.model)} ({parameters / 1e6:.1f} M parameters), {words}, groups of "
            f"{self._group} frames that know nothing of each other{searched}"
        )

    def qualities(self) -> Sequence[float]:
        return self._bits

    def encode(self, clip: Clip, quality: float) -> VideoStream:
        target = io.BytesIO()
        bits = int(quality)
        compress_video(clip.frames, clip.rate, target, self.tokenizer, bits, self._prior, self._group, self._search)
        return VideoStream((target.getvalue(),))

    def decode(self, stream: VideoStream, clip: Clip) -> np.ndarray:
        video = decompress_video(io.BytesIO(stream.packets[0]), self.tokenizer)
        return np.stack(list(video.frames))


def _words(prior: Prior) -> str:
    return f"{PRIOR_WORDS.get(prior.name, prior.name)} prior {bytes(prior.identity).hex()}"
