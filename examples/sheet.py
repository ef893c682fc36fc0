"""Draws the demo's sheet. What enters: a picture, reconstructions, digits. What leaves: one labelled picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT = (250, 249, 246), (28, 28, 32), (120, 118, 112)
PANEL, MARGIN, GAP, COLUMNS = 512, 40, 24, 3
PLANES, PLANE_GAP = 7, 18
# One colour for each value of three bits; the last bit changes the lightness, the others the hue.
EIGHT_COLOURS = np.array(
    [
        *((38, 70, 83), (110, 160, 176)),
        *((42, 130, 120), (138, 201, 180)),
        *((188, 74, 60), (239, 160, 130)),
        *((214, 158, 46), (248, 222, 150)),
    ],
    np.uint8,
)


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture uint8 (H, W, 3) with a title and a line below it."""

    picture: np.ndarray
    title: str
    line: str


def draw_sheet(title: str, line: str, panels: list[Panel], digits: np.ndarray) -> Image.Image:
    """Panels three to a row, a map of three bits, and the first bit planes of digits (h, w, L)."""
    height, width, _ = panels[0].picture.shape
    panels = [*panels, Panel(colour_map(digits), "Three bits as colours", "bits 1, 2 and 3 of every token")]
    panel_height = round(PANEL * height / width)
    rows = -(-len(panels) // COLUMNS)
    inner = COLUMNS * PANEL + (COLUMNS - 1) * GAP
    plane_width, plane_height = plane_size(digits, inner)
    top = MARGIN + 84
    below = top + rows * (panel_height + 78)
    sheet = Image.new("RGB", (inner + 2 * MARGIN, below + 46 + plane_height + 34 + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    write(draw, (MARGIN, MARGIN - 10), title, 34, INK)
    write(draw, (MARGIN, MARGIN + 36), line, 19, FAINT)
    for index, panel in enumerate(panels):
        left = MARGIN + index % COLUMNS * (PANEL + GAP)
        upper = top + index // COLUMNS * (panel_height + 78)
        sheet.paste(fit(panel.picture, PANEL, panel_height, width), (left, upper))
        write(draw, (left, upper + panel_height + 8), panel.title, 22, INK)
        write(draw, (left, upper + panel_height + 36), panel.line, 18, FAINT)
    write(draw, (MARGIN, below), f"The first {PLANES} bit planes: one black or white dot a token", 22, INK)
    draw_planes(sheet, digits, (MARGIN, below + 40), (plane_width, plane_height))
    return sheet


def plane_size(digits: np.ndarray, inner: int) -> tuple[int, int]:
    """Width and height of a drawn plane: whole dots where there is room for them."""
    rows, columns = digits.shape[:2]
    room = (inner - (PLANES - 1) * PLANE_GAP) // PLANES
    width = room // columns * columns or room
    return width, max(1, round(width * rows / columns))


def draw_planes(sheet: Image.Image, digits: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> None:
    draw, (left, top), (width, height) = ImageDraw.Draw(sheet), corner, size
    step = width + PLANE_GAP + ((sheet.width - 2 * MARGIN) - PLANES * width - (PLANES - 1) * PLANE_GAP) // (PLANES - 1)
    for index in range(min(PLANES, digits.shape[2])):
        plane = np.where(digits[..., index, None] > 0, np.uint8(244), np.uint8(24)).repeat(3, 2)
        sheet.paste(enlarge(plane, width, height), (left + index * step, top))
        write(draw, (left + index * step, top + height + 6), f"bit {index + 1}", 17, FAINT)


def colour_map(digits: np.ndarray) -> np.ndarray:
    """Digits (h, w, L) → uint8 (h, w, 3): one of eight colours for the first three bits."""
    first = np.zeros((*digits.shape[:2], 3), np.int64)
    kept = min(3, digits.shape[2])
    first[..., :kept] = digits[..., :kept] > 0
    return EIGHT_COLOURS[first @ np.array([4, 2, 1])]


def fit(picture: np.ndarray, width: int, height: int, natural: int) -> Image.Image:
    """Photographs are resampled smoothly, maps (much smaller than the photograph) keep their hard squares."""
    if picture.shape[1] < natural / 2:
        return enlarge(picture, width, height)
    image = Image.fromarray(picture)
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)


def enlarge(picture: np.ndarray, width: int, height: int) -> Image.Image:
    return Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)


def write(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, size: int, colour: tuple[int, ...]) -> None:
    draw.text(corner, text, colour, ImageFont.load_default(size))
