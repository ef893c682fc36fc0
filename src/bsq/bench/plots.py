"""Pictures of reports. What enters: a `CodecReport`. What leaves: PNG files as bytes."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bsq.bench.codecs import CodecReport
from bsq.bench.sweep import Point
from bsq.errors import MissingDependencyError

MARGIN, CAPTION = 8, 44
MOST_COLUMNS = 3


def rate_distortion(report: CodecReport) -> bytes:
    """PSNR, MS-SSIM in dB and LPIPS over rate, one line a codec. Raises MissingDependencyError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("plots need the library matplotlib; pip install 'bsq[bench]'") from error
    measures = {"psnr": "PSNR (dB)", "ms_ssim_db": "MS-SSIM (dB)", "lpips": "LPIPS-squeeze (less is better)"}
    measures = {name: label for name, label in measures.items() if _has(report.points, name)}
    figure = Figure(figsize=(5 * len(measures), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (name, label) in zip(np.atleast_1d(figure.subplots(1, len(measures))), measures.items(), strict=True):
        for codec, codec_label in report.labels.items():
            points = [point for point in report.points if point.codec == codec]
            style = {"linewidth": 2.5, "zorder": 3} if codec.startswith("bsq") else {"linewidth": 1.2}
            rates = [point.bits_per_pixel for point in points]
            panel.plot(rates, [getattr(point, name) for point in points], marker="o", label=codec_label, **style)
        panel.set(xlabel="bits per pixel", ylabel=label)
        panel.grid(alpha=0.3)
    figure.axes[0].legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def side_by_side(report: CodecReport, target: int) -> bytes:
    """The shown picture, original first, as each codec leaves it at rate number `target`."""
    original = report.showcase.original
    tiles = [("original", "", original.pixels)]
    for written in report.showcase.written:
        file = written.result
        if file.target == target:
            lpips = "" if file.lpips is None else f", LPIPS {file.lpips:.3f}"
            caption = f"{file.bytes:,} bytes, {file.bits_per_pixel:.3f} bpp, {file.psnr:.2f} dB{lpips}"
            tiles.append((report.labels[file.codec], caption, written.pixels))
    height, width, _ = original.pixels.shape
    columns = min(MOST_COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new(
        "RGB", (columns * (width + MARGIN) + MARGIN, rows * (height + CAPTION + MARGIN) + MARGIN), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(max(9, min(18, width // 24)))
    for number, (label, caption, pixels) in enumerate(tiles):
        x = MARGIN + number % columns * (width + MARGIN)
        y = MARGIN + number // columns * (height + CAPTION + MARGIN)
        sheet.paste(Image.fromarray(pixels), (x, y))
        draw.text((x, y + height + 2), f"{label}\n{caption}", fill="black", font=font, spacing=2)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _has(points: tuple[Point, ...], name: str) -> bool:
    return all(getattr(point, name) is not None for point in points)
