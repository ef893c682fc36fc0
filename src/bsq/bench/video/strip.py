"""A film strip. What enters: a `VideoReport`. What leaves: a PNG, one clip as every codec leaves it at equal bytes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bsq.bench.video.compare import VideoReport

COLUMNS, WIDTH, HEIGHT, MARGIN, CAPTION, FONT = 4, 320, 220, 6, 20, 14


def film_strip(report: VideoReport) -> bytes:
    """A row for the source and each codec, of four frames evenly spaced; names, bytes and PSNR above each row."""
    clip = report.strip.original
    count, (height, width) = len(clip.frames), clip.size
    shown = sorted({round(place) for place in np.linspace(0, count - 1, min(COLUMNS, count))})
    told = ", ".join(str(number + 1) for number in shown)
    rows = [(f"{clip.name}, source, {width} by {height}: frames {told} of {count}", clip.frames)]
    for written in report.strip.written:
        one = written.result
        words = f"{report.labels[one.codec]}: {one.bytes:,} B ({one.bits_per_pixel:.3f} bpp), {one.psnr:.2f} dB"
        words += "" if one.lpips is None else f", LPIPS {one.lpips:.3f}"
        rows.append((words + (" (above the rate: its smallest stream)" if one.over_budget else ""), written.frames))
    scale = min(WIDTH / width, HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    wide, high = size[0] + MARGIN, size[1] + CAPTION + MARGIN
    sheet = Image.new("RGB", (len(shown) * wide + MARGIN, len(rows) * high + MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for row, (words, frames) in enumerate(rows):
        top = MARGIN + row * high
        draw.text((MARGIN, top), words, fill="black", font=font)
        for column, number in enumerate(shown):
            tile = Image.fromarray(np.ascontiguousarray(frames[number])).resize(size, Image.Resampling.LANCZOS)
            sheet.paste(tile, (MARGIN + column * wide, top + CAPTION))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
