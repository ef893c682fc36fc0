"""Pictures of reports. What enters: a `CodecReport`. What leaves: picture files as bytes, small enough for pages."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bsq.bench.codecs import CodecReport, Showcase
from bsq.bench.compare import MEASURES
from bsq.bench.sweep import Point
from bsq.errors import MissingDependencyError

CROP, COLUMNS, MARGIN, CAPTION, FONT = 256, 4, 6, 46, 13
AXES = {"PSNR dB": "PSNR (dB)", "MS-SSIM dB": "MS-SSIM (dB)", "LPIPS": "LPIPS-squeeze (less is better)"}
MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Line:
    """One codec in one panel; ours are drawn thicker."""

    label: str
    rates: Sequence[float]
    values: Sequence[float]
    ours: bool


def rate_distortion(report: CodecReport) -> bytes:
    """PSNR, MS-SSIM in dB and LPIPS over rate, one line a codec, as PNG.

    Raises MissingDependencyError without matplotlib.
    """
    measures = [name for name, value in MEASURES.items() if all(value(point) is not None for point in report.points)]
    panels = {}
    for measure in measures:
        panels[AXES[measure]] = [
            Line(label, [p.bits_per_pixel for p in points], _shown_values(points, measure), codec.startswith("bsq"))
            for codec, label in report.labels.items()
            for points in [[point for point in report.points if point.codec == codec]]
        ]
    return draw(panels, columns=len(report.labels))


def draw(panels: Mapping[str, Sequence[Line]], columns: int) -> bytes:
    """A panel for each axis of quality, its lines over bits per pixel, one legend of so many columns, as PNG.

    Raises MissingDependencyError without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("plots need the library matplotlib; pip install 'bsq[bench]'") from error
    figure = Figure(figsize=(4.8 * len(panels), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (axis, lines) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True):
        for number, line in enumerate(lines):
            width, above = (2.4, 3) if line.ours else (1.2, 2)
            panel.plot(
                line.rates,
                line.values,
                label=line.label,
                color=f"C{number % 10}",
                marker=MARKERS[number % len(MARKERS)],
                markersize=5,
                linewidth=width,
                zorder=above,
            )
        panel.set(xlabel="bits per pixel", ylabel=axis)
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def side_by_side(report: CodecReport) -> bytes:
    """The middle of each shown picture, original first, as every codec leaves it at the middle rate, as WebP.

    Further ones of ours are left out: they differ in their priors, so their pixels do not.
    """
    blocks = [_block(report, showcase) for showcase in report.shown]
    sheet = Image.new("RGB", (max(b.width for b in blocks), sum(b.height for b in blocks)), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    buffer = io.BytesIO()
    sheet.save(buffer, format="WEBP", quality=88, method=6)
    return buffer.getvalue()


def _block(report: CodecReport, showcase: Showcase) -> Image.Image:
    """Rows of captioned crops of one picture."""
    original = showcase.original
    height, width, _ = original.pixels.shape
    tiles = [(f"{original.name}, original", f"{width} by {height}, the middle", original.pixels)]
    first_ours = next((name for name in report.labels if name.startswith("bsq")), None)
    for written in showcase.written:
        file = written.result
        if file.codec.startswith("bsq") and file.codec != first_ours:
            continue
        size = f"{file.bytes:,} B{'*' * file.over_budget}, {file.bits_per_pixel:.3f} bpp, {file.psnr:.2f} dB"
        measures = [] if file.ms_ssim is None else [f"MS-SSIM {file.ms_ssim:.4f}"]
        measures += [] if file.lpips is None else [f"LPIPS {file.lpips:.3f}"]
        label = report.labels[file.codec] + (" (* larger: its smallest file)" if file.over_budget else "")
        tiles.append((label, f"{size}\n{', '.join(measures)}", written.pixels))
    wide, high = CROP + MARGIN, CROP + CAPTION + MARGIN
    rows = -(-len(tiles) // COLUMNS)
    block = Image.new("RGB", (min(COLUMNS, len(tiles)) * wide + MARGIN, rows * high + MARGIN), "white")
    draw, font = ImageDraw.Draw(block), ImageFont.load_default(FONT)
    for number, (label, caption, pixels) in enumerate(tiles):
        x, y = MARGIN + number % COLUMNS * wide, MARGIN + number // COLUMNS * high
        block.paste(Image.fromarray(_middle(pixels)), (x, y))
        draw.text((x, y + CROP + 1), f"{label}\n{caption}", fill="black", font=font, spacing=1)
    return block


def _middle(pixels: np.ndarray) -> np.ndarray:
    height, width, _ = pixels.shape
    top, left = max(0, height - CROP) // 2, max(0, width - CROP) // 2
    return np.ascontiguousarray(pixels[top : top + CROP, left : left + CROP])


def _shown_values(points: list[Point], measure: str) -> list[float]:
    """As people read them: LPIPS counts downwards in comparisons only."""
    return [abs(value) for point in points if (value := MEASURES[measure](point)) is not None]
