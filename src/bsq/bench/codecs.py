"""Codecs at equal bytes. What enters: a folder of pictures, codecs, rates. What leaves: a `CodecReport` of real files.

Rates are fixed, or those of our own files of the same picture at each number of bits. At each of them every codec
writes the largest file that is not above it (`bench/sweep.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

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
from bsq.bench.sweep import FileResult, Picture, Point, Written, sweep
from bsq.data.pictures import open_picture
from bsq.errors import DataError, SettingsError
from bsq.frozen import load_lpips
from bsq.metrics.reconstruction import Distance
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer

SUFFIXES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class FixedRates(Settings):
    """The same rates in bits per pixel for every picture. The defaults are the paper's and others around them."""

    kind: Literal["fixed"] = "fixed"
    bits_per_pixel: tuple[PositiveFloat, ...] = Field(default=(0.14, 0.2073, 0.2812, 0.4218, 0.5625), min_length=1)


class MatchedRates(Settings):
    """For each picture the bytes of our own files of it (the first of `ours`), one rate for each number of bits."""

    kind: Literal["matched"] = "matched"


class CodecBenchSettings(Settings):
    """What to compare, on what, at which rates."""

    folder: Path
    codecs: tuple[ClassicalSettings, ...] = (JpegSettings(), Jpeg2000Settings(), WebpSettings(), AvifSettings())
    ours: tuple[OursSettings, ...] = (OursSettings(),)  # differing in their priors
    rates: Annotated[FixedRates | MatchedRates, Field(discriminator="kind")] = FixedRates()
    perceptual: Literal["lpips-squeeze", "none"] = "lpips-squeeze"
    anchor: str = "webp"  # the codec that Bjøntegaard rates are relative to
    pictures: PositiveInt | None = None  # only the first so many, by name
    showcase: str | None = None  # stem of the picture to show side by side; None: the first

    def shown(self) -> dict[str, Any]:
        """As JSON for reports, with folders by their last names."""
        whole = self.model_dump(mode="json")
        ours = [one | {"model": shown_name(one["model"])} for one in whole["ours"]]
        return whole | {"folder": self.folder.resolve().name, "ours": ours}


@dataclass(frozen=True, eq=False)
class Showcase:
    """One picture as every codec leaves it at every rate."""

    original: Picture
    written: tuple[Written, ...]


@dataclass(frozen=True, eq=False)
class CodecReport:
    """Everything that was measured, and how."""

    settings: CodecBenchSettings
    labels: dict[str, str]  # codec name → what tables call it
    descriptions: dict[str, str]  # codec name → how its files were written
    points: tuple[Point, ...]  # ordered by codec, then rate
    files: tuple[FileResult, ...]
    showcase: Showcase


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
        DataError: an empty folder. SettingsError: settings that do not fit each other. MissingDependencyError: a codec
        this machine lacks. MediaError: a picture that cannot be read.
    """
    ours = [OursCodec(one, tokenizer) for one in settings.ours]
    codecs: list[Codec] = [*(classical_codec(codec) for codec in settings.codecs), *ours]
    _check(settings, codecs)
    paths = pictures_in(settings.folder)[: settings.pictures]
    shown = settings.showcase or paths[0].stem
    if shown not in {path.stem for path in paths}:
        raise SettingsError(f"no picture {shown!r} among the {len(paths)} of {settings.folder}")
    perceptual = load_lpips("squeeze").distance if settings.perceptual == "lpips-squeeze" else None
    files: list[FileResult] = []
    for done, path in enumerate(paths, 1):
        picture = Picture(path.stem, open_picture(path))
        written = _measure_all(picture, codecs, _budgets(settings.rates, ours, picture), perceptual)
        files += [one.result for one in written]
        if path.stem == shown:
            showcase = Showcase(picture, tuple(written))
        on_picture(done, len(paths))
    return CodecReport(
        settings=settings,
        labels={codec.name: codec.label for codec in codecs},
        descriptions={codec.name: codec.description for codec in codecs},
        points=_points(files, codecs),
        files=tuple(files),
        showcase=showcase,
    )


def pictures_in(folder: Path) -> list[Path]:
    """Picture files of a folder, by name. Raises DataError when there are none."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"no pictures in {folder}; looked for {' '.join(SUFFIXES)}")
    return paths


def _check(settings: CodecBenchSettings, codecs: Sequence[Codec]) -> None:
    names = [codec.name for codec in codecs]
    if not names or len(set(names)) < len(names):
        raise SettingsError(f"compare one or more codecs, each once; got {', '.join(names) or 'none'}")
    if not settings.ours and isinstance(settings.rates, MatchedRates):
        raise SettingsError("matched rates are those of our own files; set `ours`, or fixed rates")


def _budgets(rates: FixedRates | MatchedRates, ours: Sequence[OursCodec], picture: Picture) -> list[int]:
    match rates:
        case FixedRates(bits_per_pixel=wanted):
            height, width, _ = picture.pixels.shape
            return [int(rate * height * width / 8) for rate in sorted(wanted)]
        case MatchedRates():
            return [len(ours[0].encode(picture.pixels, bits)) for bits in ours[0].qualities()]
        case _:
            raise SettingsError(f"no budgets for {rates!r}")


def _measure_all(
    picture: Picture, codecs: Sequence[Codec], budgets: Sequence[int], perceptual: Distance | None
) -> list[Written]:
    return [written for codec in codecs for written in sweep(picture, codec, budgets, perceptual)]


def _points(files: Sequence[FileResult], codecs: Sequence[Codec]) -> tuple[Point, ...]:
    targets = sorted({file.target for file in files})
    return tuple(
        Point.of([file for file in files if file.codec == codec.name and file.target == target])
        for codec in codecs
        for target in targets
    )
