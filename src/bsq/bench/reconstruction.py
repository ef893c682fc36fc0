"""A tokenizer at several numbers of bits. What enters: a folder of pictures and a tokenizer. What leaves: a table.

Nothing is written as a file: rates are those of raw bits, and reconstructions are measured unrounded, as in the paper.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt
from rich.table import Table

from bsq.bench.codecs import pictures_in
from bsq.checkpoint import load
from bsq.data.files import Existing, write_file
from bsq.data.pictures import open_picture, to_pixels
from bsq.errors import SettingsError
from bsq.frozen import load_lpips
from bsq.metrics import CodeUse, CodeUseMeter, ReconstructionMeter, ReconstructionScores, raw_bits_per_pixel
from bsq.metrics.reconstruction import Distance
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer

PROTOCOL = (
    "Whole pictures at their own size, in RGB. Reconstructions are not rounded; PSNR, SSIM and MS-SSIM (pytorch-msssim "
    "defaults) of each picture in 0 … 255, then means over pictures; MS-SSIM in dB is −10·log10(1 − mean). LPIPS v0.1 "
    "with SqueezeNet. Rates are raw bits over pixels, without header or prior."
)
HEADINGS = (
    "bits",
    "raw bpp",
    "PSNR dB",
    "SSIM",
    "MS-SSIM",
    "MS-SSIM dB",
    "LPIPS-squeeze",
    "code entropy ≤",
    "decode s",
)


class ReconstructionSettings(Settings):
    """What to measure, on what."""

    folder: Path
    model: str = "biscuit-s"  # a bundled name, a folder or a hub id
    bits: tuple[PositiveInt, ...] = (9, 18, 27, 36)
    perceptual: Literal["lpips-squeeze", "none"] = "lpips-squeeze"
    pictures: PositiveInt | None = None  # only the first so many, by name


@dataclass(frozen=True, eq=False)
class Row:
    """One number of bits, over all pictures."""

    bits: int  # digits kept of each code
    raw_bits_per_pixel: float  # mean over pictures
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

    def __init__(self, bits: int, radices: tuple[int, ...], perceptual: Distance | None) -> None:
        self.bits = bits
        self.meter = ReconstructionMeter(perceptual)
        self.use = CodeUseMeter(radices[:bits])
        self.rates: list[float] = []
        self.seconds: list[float] = []

    def row(self) -> Row:
        rate, seconds = (math.fsum(values) / len(values) for values in (self.rates, self.seconds))
        return Row(self.bits, rate, self.meter.result(), self.use.result(), seconds)


def run(
    settings: ReconstructionSettings,
    tokenizer: Tokenizer | None = None,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> ReconstructionReport:
    """Measures a tokenizer on all pictures of a folder.

    `tokenizer` is used in place of `settings.model`; `on_picture` is told (done, total) after each picture.
    Raises DataError for an empty folder, SettingsError for bits that the tokenizer does not have.
    """
    model = tokenizer or load(settings.model)
    radices = model.radices
    if not settings.bits or max(settings.bits) > len(radices):
        raise SettingsError(f"bits must be 1 to {len(radices)} for this tokenizer, got {settings.bits}")
    perceptual = load_lpips("squeeze").distance if settings.perceptual == "lpips-squeeze" else None
    tallies = [_Tally(bits, radices, perceptual) for bits in sorted(set(settings.bits))]
    paths = pictures_in(settings.folder)[: settings.pictures]
    encoding: list[float] = []
    for done, path in enumerate(paths, 1):
        encoding.append(_add_picture(model, open_picture(path), tallies))
        on_picture(done, len(paths))
    return ReconstructionReport(
        settings=settings,
        code_hash=model.code_hash,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        encoding_time=math.fsum(encoding) / len(encoding),
        rows=tuple(tally.row() for tally in tallies),
    )


def _add_picture(model: Tokenizer, picture: Any, tallies: list[_Tally]) -> float:
    """Adds one uint8 (H, W, 3) to every tally; returns the seconds it took to encode."""
    reference = to_pixels(picture)
    height, width = reference.shape[-2:]
    started = time.perf_counter()
    codes = model.encode(reference)
    encoding = time.perf_counter() - started
    for tally in tallies:
        kept = codes.first(tally.bits)
        started = time.perf_counter()
        pixels = model.decode(kept, (height, width)).cpu()
        tally.seconds.append(time.perf_counter() - started)
        tally.meter.add(pixels, reference[:, :, None])
        tally.use.add(kept)
        tally.rates.append(raw_bits_per_pixel(kept, (height, width)))
    return encoding


def cells(report: ReconstructionReport) -> list[tuple[str, ...]]:
    """The table's cells, a row for each number of bits."""
    return [
        (
            str(row.bits),
            f"{row.raw_bits_per_pixel:.4f}",
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
    pictures = report.rows[0].scores.pictures
    return (
        f"{report.settings.model} ({report.parameters / 1e6:.1f} M parameters, codes {report.code_hash[:8]}) on "
        f"{pictures} pictures of {report.settings.folder.name}; encode {report.encoding_time:.3f} s"
    )


def table(report: ReconstructionReport) -> Table:
    """For the terminal."""
    shown = Table(title=title(report))
    for heading in HEADINGS:
        shown.add_column(heading, justify="right")
    for row in cells(report):
        shown.add_row(*row)
    return shown


def markdown(report: ReconstructionReport) -> str:
    """The same table and the protocol."""
    lines = [HEADINGS, ("---:",) * len(HEADINGS), *cells(report)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{title(report)}\n\n{body}\n\n{PROTOCOL}\n"


def write(report: ReconstructionReport, out: Path) -> tuple[Path, ...]:
    """Writes reconstruction.json and reconstruction.md into the folder `out`, over older ones. Raises MediaError."""
    content = {
        "settings": report.settings.model_dump(mode="json"),
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
