"""Reports as people and programs read them. What enters: a `CodecReport`. What leaves: a table, and files in a folder.

`write` puts there report.json (everything), one {codec}.json with CompressAI's keys, report.md, rd.png and
side_by_side_{n}.png, one for each rate.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table

from bsq.bench import plots
from bsq.bench.bjontegaard import Curve, rate_difference
from bsq.bench.codecs import CodecReport
from bsq.bench.sweep import Point
from bsq.data.files import Existing, write_file
from bsq.errors import DataError, NumericsError

PROTOCOL = (
    "Whole files in bytes, holding nothing but the picture (JPEG 2000 as a bare codestream). For each picture and rate "
    "the largest file within the rate. RGB of the decoded file, whole numbers in 0 … 255; PSNR and MS-SSIM "
    "(pytorch-msssim defaults) of each picture, then means over pictures; MS-SSIM in dB is −10·log10(1 − mean). "
    "LPIPS v0.1 with SqueezeNet at full size. Seconds of one encode and one decode, the search left out."
)
HEADINGS = ("codec", "≤ bpp", "bpp", "PSNR dB", "MS-SSIM dB", "LPIPS-squeeze", "encode s", "decode s")

SAVINGS = ("PSNR", "MS-SSIM dB", "LPIPS-squeeze")


@dataclass(frozen=True)
class Saving:
    """Bjøntegaard rate of a codec over the anchor in percent, negative saves bits; None where curves do not compare."""

    codec: str
    psnr: float | None
    ms_ssim_db: float | None
    lpips: float | None


def savings(report: CodecReport) -> tuple[Saving, ...]:
    """Of every codec over `settings.anchor`; empty when the anchor was not measured."""
    if report.settings.anchor not in report.labels:
        return ()
    measures: tuple[Callable[[Point], float | None], ...] = (
        lambda point: point.psnr,
        lambda point: point.ms_ssim_db,
        lambda point: None if point.lpips is None else -point.lpips,
    )
    return tuple(
        Saving(codec, *(_saving(report, codec, measure) for measure in measures))
        for codec in report.labels
        if codec != report.settings.anchor
    )


def _saving(report: CodecReport, codec: str, measure: Callable[[Point], float | None]) -> float | None:
    curves = []
    try:
        for name in (report.settings.anchor, codec):
            # a codec that cannot go as low repeats its smallest file, which is one point of its curve
            found = {p.bits_per_pixel: measure(p) for p in report.points if p.codec == name}
            values = [value for value in found.values() if value is not None]
            if len(values) < len(found):
                return None
            curves.append(Curve.of(list(found), values))
        return rate_difference(*curves)
    except (DataError, NumericsError):
        return None


def rows(report: CodecReport) -> list[tuple[str, ...]]:
    """The table's cells; a rate marked * has pictures whose smallest file is above it."""
    return [
        (
            report.labels[point.codec],
            f"{point.budget_bits_per_pixel:.4f}",
            f"{point.bits_per_pixel:.4f}" + ("*" if point.over_budget else ""),
            f"{point.psnr:.2f}",
            _cell(point.ms_ssim_db, 2),
            _cell(point.lpips, 4),
            f"{point.encoding_time:.3f}",
            f"{point.decoding_time:.3f}",
        )
        for point in sorted(report.points, key=lambda point: point.target)
    ]


def table(report: CodecReport) -> Table:
    """For the terminal: codecs grouped by rate."""
    count = len({file.picture for file in report.files})
    shown = Table(
        title=f"{report.settings.folder.resolve().name}: means over {count} pictures",
        caption="* smallest file above the rate",
    )
    for heading in HEADINGS:
        shown.add_column(heading, justify="left" if heading == "codec" else "right")
    cells = rows(report)
    for number, row in enumerate(cells):
        shown.add_row(*row, end_section=number + 1 == len(cells) or cells[number + 1][1] != row[1])
    return shown


def savings_table(report: CodecReport) -> Table:
    """For the terminal: Bjøntegaard rates over the anchor; without rows when it was not measured."""
    shown = Table(title=f"rate over {report.settings.anchor} at equal quality (Bjøntegaard)")
    for heading in ("codec", *SAVINGS):
        shown.add_column(heading, justify="left" if heading == "codec" else "right")
    for saving in savings(report):
        shown.add_row(report.labels[saving.codec], *_savings_cells(saving))
    return shown


def markdown(report: CodecReport) -> str:
    """The same table, Bjøntegaard rates, and the protocol."""
    lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS)), *(_line(row) for row in rows(report)), ""]
    found = savings(report)
    if found:
        head = (f"rate over {report.labels[report.settings.anchor]} at equal", *SAVINGS)
        lines += [_line(head), _line(["---"] * len(head))]
        lines += [_line([report.labels[s.codec], *_savings_cells(s)]) for s in found]
        lines.append("")
    lines += [f"- {report.labels[name]}: {words}" for name, words in report.descriptions.items()]
    return "\n".join([*lines, f"- {PROTOCOL}", "- * the smallest file of some pictures is above the rate", ""])


def as_json(report: CodecReport) -> dict[str, Any]:
    """Everything but pictures."""
    return {
        "settings": report.settings.shown(),
        "protocol": PROTOCOL,
        "machine": platform.platform(),
        "versions": {name: _version(name) for name in ("bsq", "pillow", "torch", "pytorch-msssim")},
        "codecs": report.descriptions,
        "points": [asdict(point) for point in report.points],
        "bjontegaard": [asdict(saving) for saving in savings(report)],
        "files": [asdict(file) for file in report.files],
    }


def compressai_json(report: CodecReport, codec: str) -> dict[str, Any]:
    """One codec as `python -m compressai.utils.bench` writes it; MS-SSIM here is not in dB."""
    points = [point for point in report.points if point.codec == codec]
    return {
        "name": codec,
        "description": report.descriptions[codec],
        "results": {
            "bpp": [point.bits_per_pixel for point in points],
            "psnr-rgb": [point.psnr for point in points],
            "ms-ssim-rgb": [point.ms_ssim for point in points],
            "lpips-squeeze": [point.lpips for point in points],
            "encoding_time": [point.encoding_time for point in points],
            "decoding_time": [point.decoding_time for point in points],
        },
    }


def write(report: CodecReport, out: Path) -> tuple[Path, ...]:
    """Writes all files into the folder `out`, over older ones; returns their paths. Raises MediaError."""
    files = {"report.json": _dump(as_json(report)), "report.md": markdown(report).encode()}
    files |= {f"{codec}.json": _dump(compressai_json(report, codec)) for codec in report.labels}
    files["rd.png"] = plots.rate_distortion(report)
    for target in sorted({point.target for point in report.points}):
        files[f"side_by_side_{target + 1}.png"] = plots.side_by_side(report, target)
    for name, data in files.items():
        write_file(out / name, data, Existing.REPLACE)
    return tuple(out / name for name in files)


def _dump(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _cell(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _savings_cells(saving: Saving) -> list[str]:
    return [_percent(value) for value in (saving.psnr, saving.ms_ssim_db, saving.lpips)]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f} %"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
