"""Pictures of codes. What enters: digits, costs, frames. What leaves: uint8 (H, W, 3) to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

PLANES_ACROSS = 9
PLANES_WIDTH = 1600  # pixels of a sheet of planes, about
GAP = 4
PAPER, INK, LIGHT = (255, 255, 255), (38, 50, 74), (233, 217, 190)
LEFT_OUT = 0.82  # how far planes that are not kept fade into the paper
HEAT = ((13, 18, 46), (72, 34, 101), (161, 48, 98), (228, 96, 64), (250, 173, 66), (253, 245, 190))
"""From few bits to many."""


def draw_planes(digits: np.ndarray, kept: int) -> np.ndarray:
    """Digits (h, w, L) → a sheet of L planes (h, w), the first, most important one at the top left, row by row.

    A digit's plane runs from light, 0, to dark, its largest value; planes from `kept` on are faded.
    """
    rows, columns, length = digits.shape
    across = min(PLANES_ACROSS, length)
    down, scale = -(-length // across), max(1, PLANES_WIDTH // (across * (columns + GAP)))
    step = max(1, (across * columns) // (2 * PLANES_WIDTH) + 1)  # of huge grids, every step-th token
    digits = digits[::step, ::step]
    rows, columns = digits.shape[:2]
    high, wide = rows * scale, columns * scale
    sheet = np.full((down * (high + GAP) - GAP, across * (wide + GAP) - GAP, 3), 255, np.uint8)
    light, ink, paper = (np.array(colour, float) for colour in (LIGHT, INK, PAPER))
    for number in range(length):
        plane = digits[..., number].astype(float)
        share = (plane / max(1.0, plane.max()))[..., None]
        colours = light + (ink - light) * share
        if number >= kept:
            colours += (paper - colours) * LEFT_OUT
        top, left = (number // across) * (high + GAP), (number % across) * (wide + GAP)
        sheet[top : top + high, left : left + wide] = colours.round().astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
    return sheet


def draw_costs(costs: np.ndarray, patch: int, size: tuple[int, int]) -> np.ndarray:
    """Bits (h, w) of each token → a map of a picture's `size` (H, W), from the cheapest token to the dearest."""
    low, high = float(costs.min()), float(costs.max())
    share = (costs - low) / max(high - low, 1e-9)
    shades = heat(share)
    side = max(1, min(patch, 1600 // max(costs.shape)))
    shown = shades.repeat(side, 0).repeat(side, 1)
    height, width = (max(1, edge * side // patch) for edge in size)
    return shown[:height, :width]


def heat(share: np.ndarray) -> np.ndarray:
    """Shares 0 … 1 of any shape → uint8 colours (…, 3) of `HEAT`."""
    places = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(share, places, [colour[c] for colour in HEAT]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def side_by_side(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Two clips as one, a thin line between them; sizes even, as most players want them."""
    clip = []
    for one, other in zip(left, right, strict=True):
        line = np.full((one.shape[0], GAP, 3), 255, np.uint8)
        frame = np.concatenate([one, line, other], 1)
        clip.append(np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge"))
    return clip


def magnified(picture: np.ndarray, least: int) -> np.ndarray:
    """A small picture in whole multiples of its pixels until a side has at least so many; others as they are."""
    factor = max(1, -(-least // max(picture.shape[:2])))
    return picture.repeat(factor, 0).repeat(factor, 1)


def squared(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of a picture in the shape height × width, scaled to it."""
    high, wide = picture.shape[:2]
    scale = min(high / height, wide / width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (high - rows) // 2, (wide - columns) // 2
    image = Image.fromarray(picture[top : top + rows, left : left + columns])
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
