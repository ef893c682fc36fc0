"""Video reports as people and programs read them. What enters: a `VideoReport`. What leaves: tables, files in a folder.

`write` puts there report.md (tables and pictures), rd.png, film_strip.png and report.json (settings, versions, means,
Bjøntegaard differences, and every stream with its numbers frame by frame).
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bsq.bench.compare import Comparison, compare
from bsq.bench.plots import Line, draw
from bsq.bench.tables import comparison_remarks, comparison_table, strict_json, table, versions
from bsq.bench.video.compare import VideoReport, point_json
from bsq.bench.video.strip import film_strip
from bsq.bench.video.sweep import VideoPoint
from bsq.data.files import Existing, write_file
from bsq.metrics.pixel import MS_SSIM_3_MIN_SIDE, MS_SSIM_MIN_SIDE

PROTOCOL = (
    "Rates: elementary streams. Of the classical codecs all packets that their encoder writes, parameter sets and "
    "sequence headers among them, but no container, no supplemental messages (SEI) and no AV1 delimiters; of ours all "
    "of the .bsq stream. For each clip and rate, the best constant quality (CRF) whose stream is not above the "
    "bytes of the first of ours; further models of ours keep the rates of their own streams.",
    "One clip is one run of an encoder, with key frames where the encoder sets them. Frames go in as YUV, BT.709, "
    "limited range, and come back as RGB; sides are made even and at least 64 by repeating the last row and column, "
    "which are cut off again.",
    "Quality: RGB frames as decoded, whole numbers in 0 … 255, beside those of the source; PSNR, SSIM, MS-SSIM and "
    "LPIPS v0.1 with SqueezeNet of every frame, means over the frames of a clip, then over clips. MS-SSIM-3 has the "
    "first three of MS-SSIM's five scales, their weights divided by their sum (0.0711, 0.4530, 0.4760), for frames "
    "under 161 pixels a side; it is not to be set beside MS-SSIM. In dB: −10·log10(1 − mean). VMAF: libvmaf's default "
    "model, which was made for large screens.",
    "Frames a second: by the clock, of one encode and one decode in memory, the search left out, on the same number of "
    "threads for every codec; CPU ms are milliseconds of processor a frame, which other work hardly stretches.",
    "Bjøntegaard: piecewise cubic (PCHIP) over log rate through the means, over the range both curves reach.",
    "The sources are themselves coded videos; what they lost before is nobody's gain or loss here.",
)
MEASURES: dict[str, Callable[[Any], float | None]] = {
    "PSNR dB": lambda point: point.psnr,
    "MS-SSIM dB": lambda point: point.ms_ssim_db,
    "MS-SSIM-3 dB": lambda point: point.ms_ssim_3_db,
    "LPIPS": lambda point: None if point.lpips is None else -point.lpips,
    "VMAF": lambda point: point.vmaf,
}
AXES = {
    "PSNR dB": "PSNR (dB)",
    "MS-SSIM dB": "MS-SSIM (dB)",
    "MS-SSIM-3 dB": "MS-SSIM of 3 scales (dB)",
    "LPIPS": "LPIPS-squeeze (less is better)",
    "VMAF": "VMAF",
}
QUALITY = ("PSNR dB", "SSIM", "MS-SSIM", "MS-SSIM-3", "LPIPS", "VMAF")
HEADINGS = ("codec", "rate", "bpp", "bytes a clip", *QUALITY, "enc f/s", "dec f/s", "enc CPU ms", "dec CPU ms")
LIBRARIES = ("bsq", "torch", "numpy", "av", "pytorch-msssim")


def cells(report: VideoReport) -> list[tuple[str, ...]]:
    """A row for each rate and codec, in the order of `HEADINGS`, ordered by rate."""
    ordered = sorted(report.points, key=lambda point: point.target)
    return [(report.labels[point.codec], str(point.target + 1), *_numbers(point)) for point in ordered]


def terminal_table(report: VideoReport) -> Table:
    """Without measures that were not taken, and without seconds of processor."""
    rows = cells(report)
    kept = [
        place
        for place, heading in enumerate(HEADINGS)
        if "CPU" not in heading and any(row[place] != "–" for row in rows)
    ]
    shown = Table(title=title(report), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for place in kept:
        shown.add_column(HEADINGS[place], justify="left" if HEADINGS[place] == "codec" else "right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        new_rate = following is not None and following[1] != row[1]
        shown.add_row(*(row[place] for place in kept), end_section=new_rate)
    return shown


def plain_table(report: VideoReport) -> str:
    """Everything, in Markdown."""
    return table(HEADINGS, cells(report))


def title(report: VideoReport) -> str:
    frames = sum({one.clip: one.frames for one in report.streams}.values())
    names = ", ".join(report.settings.for_reports()["source"])
    return f"Video codecs on {report.clips} clips ({frames} frames) of {names}"


def compared(report: VideoReport) -> tuple[Comparison, ...]:
    """Every codec beside the first of ours."""
    return compare(report, {name: MEASURES[name] for name in measured(report)})


def measured(report: VideoReport) -> list[str]:
    return [name for name, value in MEASURES.items() if all(value(point) is not None for point in report.points)]


def summary(report: VideoReport) -> str:
    """Bjøntegaard differences and remarks, in Markdown."""
    found = compared(report)
    parts = [comparison_table(found, report.labels, report.anchor)] if len(report.labels) > 1 else []
    return "\n".join([*parts, *(f"{line}\n" for line in (*comparison_remarks(found), *remarks(report)))])


def remarks(report: VideoReport) -> list[str]:
    """What stands below the table: rates, exceptions, clips left out."""
    own = {one.target: one.quality for one in report.streams if one.codec == report.anchor}
    told = ", ".join(f"{own[target]:g}" for target in sorted(own))
    lines = [f"Rates: those of {report.labels[report.anchor]} at {told} bits a code.", *report.notes]
    if any(point.over_budget for point in report.points):
        lines.append("\\* the smallest stream of some clips is above the rate.")
    if any(one.ms_ssim is None for one in report.streams):
        lines.append(f"MS-SSIM needs sides of {MS_SSIM_MIN_SIDE} pixels, MS-SSIM-3 of {MS_SSIM_3_MIN_SIDE}.")
    if report.skipped:
        told = "; ".join(f"{one.clip} ({one.reason})" for one in report.skipped)
        lines.append(f"{len(report.skipped)} clips could not be measured: {told}")
    return lines


def markdown(report: VideoReport) -> str:
    """The table, differences, pictures and the protocol."""
    pictures = "![Quality over rate](rd.png)\n\n![One clip at equal bytes](film_strip.png)\n"
    how = [f"- {report.labels[name]}: {words}" for name, words in report.descriptions.items()]
    how += [f"- {words}" for words in PROTOCOL]
    libraries = ", ".join(f"{name} {number}" for name, number in versions(LIBRARIES).items())
    threads = f"{report.settings.threads} thread{'s' * (report.settings.threads > 1)}"
    how += [f"- {threads}; {platform.machine()}; {libraries}{f'; {report.vmaf}' if report.vmaf else ''}"]
    return "\n".join([f"# {title(report)}\n", pictures, plain_table(report), summary(report), "## How\n", *how, ""])


def as_json(report: VideoReport) -> dict[str, Any]:
    """All that the report knows, for a machine: settings, versions, points, streams."""
    return {
        "settings": report.settings.for_reports(),
        "protocol": PROTOCOL,
        "machine": platform.platform(),
        "versions": versions(LIBRARIES) | ({"vmaf": report.vmaf} if report.vmaf else {}),
        "clips": report.clips,
        "skipped": [asdict(one) for one in report.skipped],
        "notes": report.notes,
        "codecs": {name: {"label": report.labels[name], "how": how} for name, how in report.descriptions.items()},
        "anchor": report.anchor,
        "points": [point_json(point) for point in report.points],
        "bjontegaard": [asdict(one) for one in compared(report)],
        "streams": [asdict(one) for one in report.streams],
    }


def rate_distortion(report: VideoReport) -> bytes:
    """A panel for each measure that was taken of all clips, as PNG."""
    panels = {}
    for measure in measured(report):
        lines = []
        for codec, label in report.labels.items():
            points = [point for point in report.points if point.codec == codec]
            values = [abs(value) for point in points if (value := MEASURES[measure](point)) is not None]
            lines.append(Line(label, [p.bits_per_pixel for p in points], values, codec.startswith("bsq")))
        panels[AXES[measure]] = lines
    return draw(panels, columns=4)


def write(report: VideoReport, out: Path) -> tuple[Path, ...]:
    """Writes all files into the folder `out`, over older ones; all are made before the first is written.

    Returns their paths. Raises MediaError.
    """
    files = {
        "report.md": markdown(report).encode(),
        "report.json": strict_json(as_json(report)),
        "rd.png": rate_distortion(report),
        "film_strip.png": film_strip(report),
    }
    for name, data in files.items():
        write_file(out / name, data, Existing.REPLACE)
    return tuple(out / name for name in files)


def _numbers(point: VideoPoint) -> tuple[str, ...]:
    return (
        f"{point.bits_per_pixel:.4f}" + "*" * bool(point.over_budget),
        f"{point.bytes:,.0f}",
        f"{point.psnr:.2f}",
        _cell(point.ssim, 4),
        _cell(point.ms_ssim, 4),
        _cell(point.ms_ssim_3, 4),
        _cell(point.lpips, 4),
        _cell(point.vmaf, 1),
        f"{point.encoding_rate:.1f}",
        f"{point.decoding_rate:.1f}",
        f"{1000 * point.encoding_cpu:.1f}",
        f"{1000 * point.decoding_cpu:.1f}",
    )


def _cell(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"
