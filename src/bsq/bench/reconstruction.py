"""A tokenizer at several numbers of bits. What enters: a folder of pictures and a tokenizer. What leaves: a table.

Reconstructions are measured unrounded, as in the paper. Beside raw bits stand the bytes of real `.bsq` files of the
same codes, with one prior or several.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt
from rich.table import Table
from torch import Tensor

from bsq.bench.codecs import pictures_in
from bsq.bench.ours import PriorName, shown_name
from bsq.codec.shelf import named_model, prior_called
from bsq.codec.stream import write_codes
from bsq.codec.writer import describe
from bsq.codes import Codes
from bsq.data.files import Existing, write_file
from bsq.data.pictures import open_picture, to_pixels
from bsq.errors import SettingsError
from bsq.frozen import load_lpips
from bsq.metrics import CodeUse, CodeUseMeter, RateMeter, ReconstructionMeter, ReconstructionScores, raw_bits_per_pixel
from bsq.metrics.reconstruction import Distance
from bsq.prior.base import Prior
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer

PROTOCOL = (
    "Whole pictures at their own size, in RGB. Reconstructions are not rounded; PSNR, SSIM and MS-SSIM (pytorch-msssim "
    "defaults) of each picture in 0 … 255, then means over pictures; MS-SSIM in dB is −10·log10(1 − mean). LPIPS v0.1 "
    "with SqueezeNet. Raw rates are bits over pixels, without header or prior; the others those of whole .bsq files "
    "that do not set colours right (`bsq evaluate compression` measures files as they are decoded)."
)
MEASURES = ("PSNR dB", "SSIM", "MS-SSIM", "MS-SSIM dB", "LPIPS-squeeze", "code entropy ≤", "decode s")


class ReconstructionSettings(Settings):
    """What to measure, on what."""

    folder: Path
    model: str = "biscuit-s"  # a bundled name, a folder or a hub id
    bits: tuple[PositiveInt, ...] = (9, 18, 27, 36)
    priors: tuple[PriorName, ...] = ("auto",)  # to write files with; may be empty
    perceptual: Literal["lpips-squeeze", "none"] = "lpips-squeeze"
    pictures: PositiveInt | None = None  # only the first so many, by name

    def shown(self) -> dict[str, Any]:
        """As JSON for reports, with folders by their last names."""
        return self.model_dump(mode="json") | {"folder": self.folder.resolve().name, "model": shown_name(self.model)}


@dataclass(frozen=True)
class Coded:
    """Files written with one prior."""

    prior: str
    bits_per_pixel: float  # mean over pictures of whole files


@dataclass(frozen=True, eq=False)
class Row:
    """One number of bits, over all pictures."""

    bits: int  # digits kept of each code
    raw_bits_per_pixel: float  # mean over pictures
    coded: tuple[Coded, ...]  # one for each prior
    scores: ReconstructionScores
    use: CodeUse
    decoding_time: float  # seconds a picture


@dataclass(frozen=True, eq=False)
class ReconstructionReport:
    """Everything that was measured, and how."""

    settings: ReconstructionSettings
    code_hash: str
    parameters: int
    encoding_time: float  # seconds a picture
    rows: tuple[Row, ...]


class _Tally:
    """What adds up at one number of bits."""

    def __init__(self, bits: int, model: Tokenizer, priors: Sequence[Prior], perceptual: Distance | None) -> None:
        self.bits = bits
        self._model = model
        self._meter = ReconstructionMeter(perceptual)
        self._use = CodeUseMeter(model.radices[:bits])
        self._priors = priors
        self._files = [RateMeter() for _ in priors]
        self._rates: list[float] = []
        self._seconds: list[float] = []

    def add(self, codes: Codes, reference: Tensor) -> None:
        """All digits of one picture, and its pixels (1, 3, H, W)."""
        height, width = reference.shape[-2:]
        kept = codes.first(self.bits)
        started = time.perf_counter()
        pixels = self._model.decode(kept, (height, width)).cpu()
        self._seconds.append(time.perf_counter() - started)
        self._meter.add(pixels, reference[:, :, None])
        self._use.add(kept)
        self._rates.append(raw_bits_per_pixel(kept, (height, width)))
        for prior, files in zip(self._priors, self._files, strict=True):
            data = write_codes(kept, describe(self._model, height, width, kept.length), prior)
            files.add(len(data), height, width)

    def row(self) -> Row:
        rate, seconds = (math.fsum(values) / len(values) for values in (self._rates, self._seconds))
        rates = [files.result().bits_per_pixel for files in self._files]
        coded = tuple(Coded(prior.name, bpp) for prior, bpp in zip(self._priors, rates, strict=True))
        return Row(self.bits, rate, coded, self._meter.result(), self._use.result(), seconds)


def run(
    settings: ReconstructionSettings,
    tokenizer: Tokenizer | None = None,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> ReconstructionReport:
    """Measures a tokenizer on all pictures of a folder.

    `tokenizer` is used in place of `settings.model`; `on_picture` is told (done, total) after each picture.
    Raises DataError for an empty folder, SettingsError for bits that the tokenizer does not have.
    """
    model = tokenizer or named_model(settings.model)
    radices = model.radices
    if not settings.bits or max(settings.bits) > len(radices):
        raise SettingsError(f"bits must be 1 to {len(radices)} for this tokenizer, got {settings.bits}")
    perceptual = load_lpips("squeeze").distance if settings.perceptual == "lpips-squeeze" else None
    priors = [prior_called(name, model) for name in settings.priors]
    tallies = [_Tally(bits, model, priors, perceptual) for bits in sorted(set(settings.bits))]
    paths = pictures_in(settings.folder)[: settings.pictures]
    encoding: list[float] = []
    for done, path in enumerate(paths, 1):
        reference = to_pixels(open_picture(path))
        started = time.perf_counter()
        codes = model.encode(reference)
        encoding.append(time.perf_counter() - started)
        for tally in tallies:
            tally.add(codes, reference)
        on_picture(done, len(paths))
    return ReconstructionReport(
        settings=settings,
        code_hash=model.code_hash,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        encoding_time=math.fsum(encoding) / len(encoding),
        rows=tuple(tally.row() for tally in tallies),
    )


def headings(report: ReconstructionReport) -> tuple[str, ...]:
    """Of the columns of `cells`."""
    return ("bits", "raw bpp", *(f"{coded.prior} bpp" for coded in report.rows[0].coded), *MEASURES)


def cells(report: ReconstructionReport) -> list[tuple[str, ...]]:
    """The table's cells, a row for each number of bits."""
    return [
        (
            str(row.bits),
            f"{row.raw_bits_per_pixel:.4f}",
            *(f"{coded.bits_per_pixel:.4f}" for coded in row.coded),
            f"{row.scores.psnr:.2f}",
            f"{row.scores.ssim:.4f}",
            _cell(row.scores.ms_ssim, 4),
            _cell(row.scores.ms_ssim_db, 2),
            _cell(row.scores.lpips, 4),
            f"{row.use.marginal_entropy_bits:.2f}",
            f"{row.decoding_time:.3f}",
        )
        for row in report.rows
    ]


def title(report: ReconstructionReport) -> str:
    model, folder = shown_name(report.settings.model), report.settings.folder.resolve().name
    return (
        f"{model} ({report.parameters / 1e6:.1f} M parameters, codes {report.code_hash[:8]}) on "
        f"{report.rows[0].scores.pictures} pictures of {folder}; encode {report.encoding_time:.3f} s"
    )


def table(report: ReconstructionReport) -> Table:
    """For the terminal."""
    shown = Table(title=title(report))
    for heading in headings(report):
        shown.add_column(heading, justify="right")
    for row in cells(report):
        shown.add_row(*row)
    return shown


def markdown(report: ReconstructionReport) -> str:
    """The same table and the protocol."""
    lines = [headings(report), ("---:",) * len(headings(report)), *cells(report)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{title(report)}\n\n{body}\n\n{PROTOCOL}\n"


def write(report: ReconstructionReport, out: Path) -> tuple[Path, ...]:
    """Writes reconstruction.json and reconstruction.md into the folder `out`, over older ones. Raises MediaError."""
    content = {
        "settings": report.settings.shown(),
        "protocol": PROTOCOL,
        "machine": platform.platform(),
        "code_hash": report.code_hash,
        "parameters": report.parameters,
        "encoding_time": report.encoding_time,
        "rows": [asdict(row) for row in report.rows],
    }
    files = {"reconstruction.json": json.dumps(content, indent=2) + "\n", "reconstruction.md": markdown(report)}
    for name, text in files.items():
        write_file(out / name, text.encode(), Existing.REPLACE)
    return tuple(out / name for name in files)


def _cell(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"
