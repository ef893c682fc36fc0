"""Reports as people and programs read them. What enters: a `CodecReport`. What leaves: tables, and files in a folder.

`write` puts there report.md (tables and pictures), rd.png, side_by_side.webp, report.json (settings, versions, means,
Bjøntegaard differences), files.csv (a line for each file) and one {codec}.json with CompressAI's keys.
"""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bsq.bench import plots
from bsq.bench.codecs import CodecReport
from bsq.bench.compare import MEASURES, compare
from bsq.bench.sweep import LPIPS_MIN_SIDE, FileResult, Point
from bsq.bench.tables import comparison_remarks, comparison_table, strict_json, table, versions
from bsq.data.files import Existing, write_file
from bsq.metrics.pixel import MS_SSIM_MIN_SIDE

PROTOCOL = (
    "Rates: bytes of real files, all of a .bsq file (header, framing, digest), but of the others only what their "
    "decoders must know: JPEG without application segments and comments, WebP and AVIF without RIFF and boxes, "
    "JPEG 2000 and JPEG XL as bare codestreams; file_bytes in files.csv are those of the whole file. No file holds "
    "metadata. For each picture and rate, the largest file within the rate.",
    "Quality: the file read again, RGB, whole numbers in 0 … 255, the same functions for every codec; PSNR and MS-SSIM "
    "(pytorch-msssim defaults) of each picture, then means over pictures; MS-SSIM in dB is −10·log10(1 − mean). LPIPS "
    "v0.1 with SqueezeNet at full size.",
    "Seconds: one encode from pixels to bytes in memory, one decode back, on the same number of threads for every "
    "codec, the search for the rate left out, each codec warmed up once. CPU s are seconds of processor; s are by the "
    "clock, which other work on the machine stretches.",
    "Bjøntegaard: piecewise cubic (PCHIP) over log rate through the means, over the range both curves reach, never "
    "beyond it.",
)
SECONDS = ("encode CPU s", "decode CPU s", "encode s", "decode s")
HEADINGS = ("codec", "≤ bpp", "bpp", "file bpp", "PSNR dB", "MS-SSIM dB", "LPIPS", *SECONDS)
LIBRARIES = ("bsq", "torch", "numpy", "pillow", "pillow-jxl-plugin", "pytorch-msssim")


def summary(report: CodecReport) -> str:
    """Quality at equal bytes (a column a codec), Bjøntegaard differences and seconds, in Markdown."""
    parts = [_matched_table(report, name) for name in _measured(report)]
    return "\n".join(
        [
            *parts,
            comparison_table(compare(report), report.labels, report.anchor),
            _seconds_table(report),
            *_remarks(report),
        ]
    )


def markdown(report: CodecReport) -> str:
    """The summary, every point, the settings and the protocol."""
    count = len({file.picture for file in report.files})
    head = f"# Codecs on {report.settings.folder.resolve().name}: {count} pictures\n"
    pictures = "![Quality over rate](rd.png)\n\n![Pictures at equal bytes](side_by_side.webp)\n"
    points = table(HEADINGS, (_point_cells(report, point) for point in report.points))
    how = [f"- {report.labels[name]}: {words}" for name, words in report.descriptions.items()]
    libraries = ", ".join(f"{name} {number}" for name, number in versions(LIBRARIES).items())
    threads = f"{report.settings.threads} thread{'s' * (report.settings.threads > 1)}"
    how += [f"- {words}" for words in PROTOCOL] + [f"- {threads}; {platform.machine()}; {libraries}"]
    return "\n".join([head, pictures, summary(report), "## Every point\n", points, "## How\n", *how, ""])


def as_json(report: CodecReport) -> dict[str, Any]:
    """Everything but single files."""
    return {
        "settings": report.settings.for_reports(),
        "protocol": PROTOCOL,
        "machine": platform.platform(),
        "versions": versions(LIBRARIES),
        "pictures": len({file.picture for file in report.files}),
        "skipped": [asdict(one) for one in report.skipped],
        "codecs": {name: {"label": report.labels[name], "how": how} for name, how in report.descriptions.items()},
        "points": [asdict(point) for point in report.points],
        "anchor": report.anchor,
        "bjontegaard": [asdict(one) for one in compare(report)],
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


def files_csv(files: Sequence[FileResult]) -> str:
    """A line for each file; what was not measured is left blank."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = [asdict(file) for file in files]
    writer.writerow(rows[0])
    writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row.values()] for row in rows)
    return text.getvalue()


def write(report: CodecReport, out: Path) -> tuple[Path, ...]:
    """Writes all files into the folder `out`, over older ones; returns their paths. Raises MediaError."""
    files = {"report.md": markdown(report).encode(), "report.json": strict_json(as_json(report))}
    files |= {f"{codec}.json": strict_json(compressai_json(report, codec)) for codec in report.labels}
    files |= {"files.csv": files_csv(report.files).encode(), "rd.png": plots.rate_distortion(report)}
    if report.shown:
        files["side_by_side.webp"] = plots.side_by_side(report)
    for name, data in files.items():
        write_file(out / name, data, Existing.REPLACE)
    return tuple(out / name for name in files)


def _measured(report: CodecReport) -> list[str]:
    return [name for name, value in MEASURES.items() if all(value(point) is not None for point in report.points)]


def _matched_table(report: CodecReport, measure: str) -> str:
    """A row for each rate, a column for each codec that was held to it (further ones of ours keep their own rates)."""
    points = {(point.codec, point.target): point for point in report.points}
    targets = sorted({point.target for point in report.points})
    first, *others = report.labels
    rates = [points[first, target].budget_bits_per_pixel for target in targets]
    held = [c for c in others if [points[c, target].budget_bits_per_pixel for target in targets] == rates]
    rows = [
        [f"{rate:.4f}", *(_quality_cell(points[codec, target], measure) for codec in (first, *held))]
        for rate, target in zip(rates, targets, strict=True)
    ]
    return table((f"{measure} at ≤ bpp", *(report.labels[codec] for codec in (first, *held))), rows)


def _quality_cell(point: Point, measure: str) -> str:
    value = MEASURES[measure](point)
    assert value is not None
    return f"{abs(value):.{3 if measure == 'LPIPS' else 2}f}" + "*" * bool(point.over_budget)


def _seconds_table(report: CodecReport) -> str:
    middle = max(point.target for point in report.points) // 2
    rows = [(report.labels[point.codec], *_seconds_cells(point)) for point in report.points if point.target == middle]
    return table(("a picture at the middle rate", *SECONDS), rows)


def _remarks(report: CodecReport) -> list[str]:
    """What the marks mean, and what is missing and why."""
    lines = []
    if any(point.over_budget for point in report.points):
        lines.append("\\* the smallest file of some pictures is above the rate.")
    lines += comparison_remarks(compare(report))
    if any(file.ms_ssim is None for file in report.files):
        small = len({file.picture for file in report.files if file.ms_ssim is None})
        lines.append(f"MS-SSIM needs sides of {MS_SSIM_MIN_SIDE} pixels: left blank, {small} pictures are smaller.")
    if report.settings.perceptual != "none" and any(file.lpips is None for file in report.files):
        lines.append(f"LPIPS needs sides of {LPIPS_MIN_SIDE} pixels: left blank, some pictures are smaller.")
    if report.skipped:
        lines.append(f"{len(report.skipped)} pictures could not be measured: {_listed(report)}")
    return [f"{line}\n" for line in lines]


def _listed(report: CodecReport) -> str:
    return "; ".join(f"{one.picture} ({one.reason})" for one in report.skipped)


def _point_cells(report: CodecReport, point: Point) -> tuple[str, ...]:
    return (
        report.labels[point.codec],
        f"{point.budget_bits_per_pixel:.4f}",
        f"{point.bits_per_pixel:.4f}" + "*" * bool(point.over_budget),
        f"{point.file_bits_per_pixel:.4f}",
        f"{point.psnr:.2f}",
        "–" if point.ms_ssim_db is None else f"{point.ms_ssim_db:.2f}",
        "–" if point.lpips is None else f"{point.lpips:.4f}",
        *_seconds_cells(point),
    )


def _seconds_cells(point: Point) -> tuple[str, ...]:
    return tuple(
        f"{value:.3f}" for value in (point.encoding_cpu, point.decoding_cpu, point.encoding_time, point.decoding_time)
    )
