"""A contact sheet. What enters: pictures and what each system made of them. What leaves: one WebP to look at."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from bsq.data.pictures import to_pixels
from bsq.evaluate.run import Evaluation
from bsq.metrics import psnr

SIDE, MARGIN, CAPTION, FONT = 256, 8, 40, 13
COLUMNS = 6
LONGEST = 34  # letters of a caption's line


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture uint8 (H, W, 3), and two lines below it."""

    pixels: np.ndarray
    title: str
    line: str


def contact_sheet(evaluation: Evaluation) -> bytes | None:
    """The middle of every shown sample, the original first, then each system's; None where none is shown."""
    return stacked([grid(tiles(evaluation, number)) for number in sorted(evaluation.shown)])


def stacked(blocks: list[Image.Image]) -> bytes | None:
    """Blocks one below the other as WebP; None where there are none."""
    if not blocks:
        return None
    sheet = Image.new("RGB", (max(b.width for b in blocks), sum(b.height for b in blocks)), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    buffer = io.BytesIO()
    sheet.save(buffer, format="WEBP", quality=90, method=4)
    return buffer.getvalue()


def tiles(evaluation: Evaluation, number: int) -> list[Tile]:
    """The original and what each system made of it, with a line below each."""
    original = evaluation.shown[number]
    height, width, _ = original.shape
    made = [Tile(original, evaluation.names[number], f"original, {width} by {height}")]
    for system in evaluation.systems:
        if number in system.shown and system.scores is not None:
            again = system.shown[number]
            likeness = f"{closeness(again, original):.2f} dB, on average {system.scores.bits_per_pixel:.3f} bpp"
            made.append(Tile(again, system.name, likeness))
    return made


def closeness(again: np.ndarray, original: np.ndarray) -> float:
    """PSNR in dB of two 8-bit pictures."""
    with torch.no_grad():
        return float(psnr(to_pixels(again), to_pixels(original)))


def grid(shown: list[Tile]) -> Image.Image:
    """Captioned middles, a few a row; small pictures are enlarged by whole factors."""
    font = ImageFont.load_default(FONT)
    wide, high = SIDE + MARGIN, SIDE + CAPTION + MARGIN
    columns = min(COLUMNS, len(shown))
    block = Image.new("RGB", (columns * wide + MARGIN, -(-len(shown) // columns) * high + MARGIN), "white")
    draw = ImageDraw.Draw(block)
    for place, tile in enumerate(shown):
        x, y = MARGIN + place % columns * wide, MARGIN + place // columns * high
        block.paste(middle(tile.pixels), (x, y))
        draw.text((x, y + SIDE + 2), f"{shorter(tile.title)}\n{shorter(tile.line)}", fill="black", font=font, spacing=2)
    return block


def middle(pixels: np.ndarray) -> Image.Image:
    factor = max(1, SIDE // max(pixels.shape[:2]))
    pixels = pixels.repeat(factor, 0).repeat(factor, 1)
    top, left = max(0, pixels.shape[0] - SIDE) // 2, max(0, pixels.shape[1] - SIDE) // 2
    return Image.fromarray(np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE]))


def shorter(text: str) -> str:
    """The end of a long name says more than its beginning."""
    return text if len(text) <= LONGEST else "…" + text[1 - LONGEST :]
