"""Codecs at equal bytes. What enters: a folder of pictures, codecs, rates. What leaves: a `CodecReport` of real files.

Rates are those of our own files of the same picture at each number of bits, or fixed. At each of them every other codec
writes the largest file that is not above it (`bench/sweep.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt

from bsq.bench.classical import (
    AvifSettings,
    ClassicalSettings,
    Codec,
    Jpeg2000Settings,
    JpegSettings,
    WebpSettings,
    classical_codec,
)
from bsq.bench.ours import OursCodec, OursSettings, shown_name
from bsq.bench.sweep import FileResult, Judge, Picture, Point, Written, every_quality, sweep
from bsq.data.pictures import PICTURE_SUFFIXES, open_picture
from bsq.errors import DataError, LimitError, MediaError, SettingsError
from bsq.frozen import load_lpips
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer

SHOWN_PICTURES = 3


class FixedRates(Settings):
    """The same rates in bits per pixel for every picture. The defaults are the paper's and others around them."""

    kind: Literal["fixed"] = "fixed"
    bits_per_pixel: tuple[PositiveFloat, ...] = Field(default=(0.14, 0.2073, 0.2812, 0.4218, 0.5625), min_length=1)


class MatchedRates(Settings):
    """For each picture the bytes of our own files of it (the first of `ours`), one rate for each number of bits.

    Further ones of `ours` keep the rates of their own files at the same numbers of bits.
    """

    kind: Literal["matched"] = "matched"


class CodecBenchSettings(Settings):
    """What to compare, on what, at which rates."""

    folder: Path
    codecs: tuple[ClassicalSettings, ...] = (JpegSettings(), Jpeg2000Settings(), WebpSettings(), AvifSettings())
    ours: tuple[OursSettings, ...] = (OursSettings(),)  # differing in their priors
    rates: Annotated[FixedRates | MatchedRates, Field(discriminator="kind")] = MatchedRates()
    perceptual: Literal["lpips-squeeze", "none"] = "lpips-squeeze"
    anchor: str | None = None  # the codec that Bjøntegaard differences are relative to; None: the first of ours, or all
    pictures: PositiveInt | None = None  # only the first so many, by name
    shown: tuple[str, ...] = ()  # names of the pictures to show side by side; (): three, evenly spaced
    threads: PositiveInt = 1  # of every codec that can use more than one

    def for_reports(self) -> dict[str, Any]:
        """As JSON, with folders by their last names."""
        whole = self.model_dump(mode="json")
        ours = [one | {"model": shown_name(one["model"])} for one in whole["ours"]]
        return whole | {"folder": self.folder.resolve().name, "ours": ours}


@dataclass(frozen=True, eq=False)
class Showcase:
    """One picture as every codec leaves it at the middle rate."""

    original: Picture
    written: tuple[Written, ...]


@dataclass(frozen=True)
class Skipped:
    """A picture that was not measured, and why."""

    picture: str
    reason: str


@dataclass(frozen=True, eq=False)
class CodecReport:
    """Everything that was measured, and how."""

    settings: CodecBenchSettings
    anchor: str
    labels: dict[str, str]  # codec name → what tables call it; ours first
    descriptions: dict[str, str]  # codec name → how its files were written
    points: tuple[Point, ...]  # ordered by codec, then rate
    files: tuple[FileResult, ...]
    shown: tuple[Showcase, ...]
    skipped: tuple[Skipped, ...]


def run(
    settings: CodecBenchSettings,
    tokenizer: Tokenizer | None = None,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> CodecReport:
    """Measures all codecs on all pictures of a folder.

    Args:
        settings: what to compare.
        tokenizer: used in place of the models that `settings.ours` name.
        on_picture: told (done, total) after each picture.

    Raises:
        DataError: an empty folder, or one in which nothing can be read. SettingsError: settings that do not fit each
        other. MissingDependencyError: a codec this machine lacks.
    """
    ours = [OursCodec(one, tokenizer) for one in settings.ours]
    others = [classical_codec(codec, settings.threads) for codec in settings.codecs]
    codecs: list[Codec] = [*ours, *others]
    anchor = _checked_anchor(settings, codecs)
    named = _named(pictures_in(settings.folder)[: settings.pictures])
    chosen = _chosen(settings.shown, named) or _evenly(list(named))
    perceptual = load_lpips("squeeze").distance if settings.perceptual == "lpips-squeeze" else None
    files: list[FileResult] = []
    shown: list[Showcase] = []
    skipped: list[Skipped] = []
    with lent_threads(settings.threads):
        for done, (name, path) in enumerate(named.items(), 1):
            try:
                picture = Picture(name, open_picture(path))
                if not files:
                    _warm_up(picture, codecs)
                written = _measure_all(Judge(picture, perceptual), ours, others, settings.rates)
            except (MediaError, LimitError) as error:
                skipped.append(Skipped(name, str(error)))
                continue
            finally:
                on_picture(done, len(named))
            files += [one.result for one in written]
            if name in chosen:
                shown.append(_showcase(picture, written))
    if not files:
        raise DataError(f"none of {len(named)} pictures can be measured; the first: {skipped[0].reason}")
    return CodecReport(
        settings=settings,
        anchor=anchor,
        labels={codec.name: codec.label for codec in codecs},
        descriptions={codec.name: codec.description for codec in codecs},
        points=_points(files, codecs),
        files=tuple(files),
        shown=tuple(shown),
        skipped=tuple(skipped),
    )


def pictures_in(folder: Path) -> list[Path]:
    """Picture files of a folder, by name. Raises DataError when there are none."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"no pictures in {folder}; looked for {' '.join(sorted(PICTURE_SUFFIXES))}")
    return paths


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Pictures by their stems, by their whole names where stems are shared."""
    stems = Counter(path.stem for path in paths)
    return {path.stem if stems[path.stem] == 1 else path.name: path for path in paths}


def _evenly(names: Sequence[str]) -> tuple[str, ...]:
    count = min(SHOWN_PICTURES, len(names))
    return tuple(names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count))


def _checked_anchor(settings: CodecBenchSettings, codecs: Sequence[Codec]) -> str:
    names = [codec.name for codec in codecs]
    if not names or len(set(names)) < len(names):
        raise SettingsError(f"compare one or more codecs, each once; got {', '.join(names) or 'none'}")
    if not settings.ours and isinstance(settings.rates, MatchedRates):
        raise SettingsError("matched rates are those of our own files; compare with ours, or use fixed rates")
    anchor = settings.anchor or names[0]
    if anchor not in names:
        raise SettingsError(f"the anchor {anchor!r} is none of the codecs compared: {', '.join(names)}")
    return anchor


@contextmanager
def lent_threads(count: int) -> Iterator[None]:
    """So many threads for torch; the other codecs were told when they were made."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warm_up(picture: Picture, codecs: Sequence[Codec]) -> None:
    """Write and read one file with every codec, so that no library is timed while it sets itself up."""
    for codec in codecs:
        codec.decode(codec.encode(picture.pixels, codec.qualities()[0]))


def _measure_all(
    judge: Judge, ours: Sequence[Codec], others: Sequence[Codec], rates: FixedRates | MatchedRates
) -> list[Written]:
    match rates:
        case FixedRates(bits_per_pixel=wanted):
            height, width, _ = judge.picture.pixels.shape
            budgets = [int(rate * height * width / 8) for rate in sorted(wanted)]
            return [one for codec in (*ours, *others) for one in sweep(judge, codec, budgets)]
        case MatchedRates():
            own = [every_quality(judge, codec) for codec in ours]
            budgets = [written.result.bytes for written in own[0]]
            written = [one for part in own for one in part]
            return written + [one for codec in others for one in sweep(judge, codec, budgets)]
        case _:
            raise SettingsError(f"no budgets for {rates!r}")


def _chosen(shown: Sequence[str], named: Mapping[str, Path]) -> list[str]:
    """The names of pictures that were given by name or as files. Raises SettingsError."""
    by_file = {path.name: name for name, path in named.items()}
    chosen = [name if name in named else by_file.get(Path(name).name, "") for name in shown]
    if missing := [name for name, found in zip(shown, chosen, strict=True) if not found]:
        raise SettingsError(f"no picture {', '.join(missing)}; there are {', '.join(named)}")
    return chosen


def _showcase(picture: Picture, written: Sequence[Written]) -> Showcase:
    middle = max(one.result.target for one in written) // 2
    return Showcase(picture, tuple(one for one in written if one.result.target == middle))


def _points(files: Sequence[FileResult], codecs: Sequence[Codec]) -> tuple[Point, ...]:
    targets = sorted({file.target for file in files})
    return tuple(
        Point.of([file for file in files if file.codec == codec.name and file.target == target])
        for codec in codecs
        for target in targets
    )
