"""`bsq bench video`. What enters: clips, codecs, models. What leaves: a `VideoReport` of real streams at equal bytes.

Rates are those of our own streams of the same clip (the first of ours) at each number of bits. At each of them every
classical codec writes the best stream that is not above it; further models of ours keep the rates of their own streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field, PositiveInt

from bsq.bench.codecs import lent_threads
from bsq.bench.ours import shown_name
from bsq.bench.video.clips import Clip, find_clips, read_clip
from bsq.bench.video.judge import Judge
from bsq.bench.video.ours import OursVideoCodec, OursVideoSettings
from bsq.bench.video.rivals import (
    RivalCodec,
    SvtAv1Settings,
    VideoCodec,
    VideoCodecSettings,
    Vp9Settings,
    X264Settings,
    X265Settings,
    rival_codec,
)
from bsq.bench.video.sweep import StreamResult, VideoPoint, Written, every_quality, sweep
from bsq.bench.video.vmaf import MISSING, find_vmaf
from bsq.data.videos import import_av
from bsq.errors import DataError, LimitError, MediaError, MissingDependencyError, SettingsError
from bsq.frozen import load_lpips
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer


class VideoBenchSettings(Settings):
    """What to compare, on what."""

    source: tuple[str, ...] = Field(min_length=1)  # files, folders, tars, globs
    codecs: tuple[VideoCodecSettings, ...] = (X264Settings(), X265Settings(), Vp9Settings(), SvtAv1Settings())
    ours: tuple[OursVideoSettings, ...] = Field(default=(OursVideoSettings(),), min_length=1)
    perceptual: Literal["lpips-squeeze", "none"] = "lpips-squeeze"
    vmaf: Literal["where available", "none"] = "where available"
    clips: PositiveInt | None = None  # only the first so many, by name
    frames: PositiveInt | None = 96  # at most so many of each, from its first on; None: all, in memory
    shown: str | None = None  # the clip on the film strip; None: the first
    threads: PositiveInt = 1  # of every codec

    def for_reports(self) -> dict[str, Any]:
        """As JSON, with folders and files by their last names."""
        whole = self.model_dump(mode="json")
        ours = [one | {"model": shown_name(one["model"])} for one in whole["ours"]]
        return whole | {"source": [name.rstrip("/").rpartition("/")[2] for name in self.source], "ours": ours}


@dataclass(frozen=True)
class Skipped:
    """A clip that was not measured, and why."""

    clip: str
    reason: str


@dataclass(frozen=True, eq=False)
class FilmStrip:
    """One clip as every codec leaves it at the middle rate."""

    original: Clip
    written: tuple[Written, ...]


@dataclass(frozen=True, eq=False)
class VideoReport:
    """Everything that was measured, and how. The anchor is the first of ours."""

    settings: VideoBenchSettings
    anchor: str
    labels: dict[str, str]  # codec name → what tables call it; ours first
    descriptions: dict[str, str]  # codec name → how its streams were written
    points: tuple[VideoPoint, ...]  # ordered by codec, then rate
    streams: tuple[StreamResult, ...]
    strip: FilmStrip
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]  # what could not be compared or measured, and why
    vmaf: str | None  # the program that measured it

    @property
    def clips(self) -> int:
        return len({one.clip for one in self.streams})


@dataclass(frozen=True, eq=False)
class Contest:
    """Codecs ready to run, how they are measured, and what is left out."""

    ours: tuple[OursVideoCodec, ...]
    rivals: tuple[RivalCodec, ...]
    judge: Judge
    notes: tuple[str, ...]

    @property
    def codecs(self) -> tuple[VideoCodec, ...]:
        return *self.ours, *self.rivals

    def written(self, clip: Clip) -> list[Written]:
        """One clip through every codec at every rate."""
        own = [every_quality(self.judge, clip, codec) for codec in self.ours]
        budgets = [one.result.bytes for one in own[0]]
        others = [sweep(self.judge, clip, codec, budgets) for codec in self.rivals]
        return [one for part in (*own, *others) for one in part]

    def warm_up(self, clip: Clip) -> None:
        """Two frames through every codec, so that no library is timed while it sets itself up."""
        short = Clip(clip.name, clip.frames[:2], clip.rate)
        for codec in self.codecs:
            codec.decode(codec.encode(short, codec.qualities()[0]), short)


def run(
    settings: VideoBenchSettings,
    tokenizer: Tokenizer | None = None,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> VideoReport:
    """Measures all codecs on all clips.

    `tokenizer` is used in place of the models that `settings.ours` name; `on_clip` is told (done, total).
    Raises DataError if there is no video, or none that can be read; SettingsError; CheckpointError;
    MissingDependencyError without PyAV. Encoders that this build of PyAV lacks are left out, with a note.
    """
    import_av()
    named = find_clips(settings.source, settings.clips)
    if settings.shown is not None and settings.shown not in named:
        raise SettingsError(f"no clip {settings.shown}; there are {', '.join(named)}")
    contest = prepared(settings, tokenizer)
    streams: list[StreamResult] = []
    strip: FilmStrip | None = None
    skipped: list[Skipped] = []
    with lent_threads(settings.threads):
        for done, (name, item) in enumerate(named.items(), 1):
            try:
                clip = read_clip(name, item, settings.frames)
                if not streams:
                    contest.warm_up(clip)
                written = contest.written(clip)
            except (MediaError, LimitError, DataError, OSError) as error:
                skipped.append(Skipped(name, str(error)))
                continue
            finally:
                on_clip(done, len(named))
            streams += [one.result for one in written]
            if strip is None or name == settings.shown:
                strip = film_strip(clip, written)
    if strip is None:
        raise DataError(f"none of {len(named)} clips can be measured; the first: {skipped[0].reason}")
    return VideoReport(
        settings=settings,
        anchor=contest.ours[0].name,
        labels={codec.name: codec.label for codec in contest.codecs},
        descriptions={codec.name: codec.description for codec in contest.codecs},
        points=points_of(streams, contest.codecs),
        streams=tuple(streams),
        strip=strip,
        skipped=tuple(skipped),
        notes=(*contest.notes, *_other_strip(settings.shown, strip)),
        vmaf=None if contest.judge.vmaf is None else contest.judge.vmaf.version,
    )


def prepared(settings: VideoBenchSettings, tokenizer: Tokenizer | None) -> Contest:
    """Opens models and encoders, and what measures them."""
    kinds = [codec.kind for codec in settings.codecs]
    if len(set(kinds)) < len(kinds):
        raise SettingsError(f"compare each codec once, got {', '.join(kinds)}")
    ours = tuple(OursVideoCodec(one, number, tokenizer) for number, one in enumerate(settings.ours))
    if len({codec.label for codec in ours}) < len(ours):
        raise SettingsError("models have the same label; tell them apart with MODEL:LABEL")
    notes: list[str] = []
    rivals: list[RivalCodec] = []
    for codec in settings.codecs:
        try:
            rivals.append(rival_codec(codec, settings.threads))
        except MissingDependencyError as error:
            notes.append(str(error))
    vmaf = find_vmaf() if settings.vmaf == "where available" else None
    if vmaf is None and settings.vmaf != "none":
        notes.append(MISSING)
    perceptual = load_lpips("squeeze").distance if settings.perceptual == "lpips-squeeze" else None
    return Contest(ours, tuple(rivals), Judge(perceptual, vmaf), tuple(notes))


def _other_strip(asked: str | None, strip: FilmStrip) -> tuple[str, ...]:
    """What to say where the clip that was asked for could not be measured."""
    name = strip.original.name
    return () if asked in (None, name) else (f"The film strip shows {name}, since {asked} could not be measured.",)


def film_strip(clip: Clip, written: Sequence[Written]) -> FilmStrip:
    middle = max(one.result.target for one in written) // 2
    return FilmStrip(clip, tuple(one for one in written if one.result.target == middle))


def points_of(streams: Sequence[StreamResult], codecs: Sequence[VideoCodec]) -> tuple[VideoPoint, ...]:
    """By codec, then rate; models of ours may have different numbers of rates."""
    found = []
    for codec in codecs:
        own = [one for one in streams if one.codec == codec.name]
        for target in sorted({one.target for one in own}):
            found.append(VideoPoint.of([one for one in own if one.target == target]))
    return tuple(found)


def point_json(point: VideoPoint) -> dict[str, Any]:
    """With what follows from the means."""
    return asdict(point) | {"ms_ssim_db": point.ms_ssim_db, "ms_ssim_3_db": point.ms_ssim_3_db}
