"""Pictures drawn by code, to be among photographs in training: lines of text, gradients, flat shapes.

    python examples/drawn_pictures.py --count 360 -o drawn/
    bsq train RECIPE data.source='[photos/, drawn/]'

What enters: a number and a seed. What leaves: PNGs of 256 pixels a side, a third of each kind, the same for
the same seed. Photographs have noise everywhere; what is truly flat, grey or as sharp as a letter is rare there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

SIDE = 256
FAMILIES = ("DejaVu Sans", "DejaVu Sans Mono", "DejaVu Serif", "STIXGeneral")  # those that come with matplotlib
LETTERS = np.array(list("eeeeetttaaaooiinnsshhrrdlucmwfygpbvkjxqz"))
Colour = tuple[int, int, int]


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pictures.")],
    count: Annotated[int, typer.Option(min=1)] = 360,
    seed: int = 0,
) -> None:
    """Draw `count` pictures into a folder."""
    output.mkdir(parents=True, exist_ok=True)
    kinds: tuple[Callable[[np.random.Generator], Image.Image], ...] = (text, gradient, shapes)
    for number in range(count):
        random = np.random.default_rng((seed, number))
        kinds[number % len(kinds)](random).save(output / f"drawn-{number:05d}.png")
    print(f"{count} pictures in {output}")


def text(random: np.random.Generator) -> Image.Image:
    """Lines of words of 8 to 28 pixels; black on white as often as any other two colours."""
    paper, ink = _two_colours(random)
    picture = Image.new("RGB", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(picture)
    top = int(random.integers(-8, 8))
    while top < SIDE:
        size = int(random.integers(8, 29))
        weight = "bold" if random.random() < 0.3 else "normal"
        found = font_manager.findfont(font_manager.FontProperties(family=str(random.choice(FAMILIES)), weight=weight))
        for _ in range(int(random.integers(1, 5))):
            draw.text((int(random.integers(-30, 8)), top), _line(random), ink, ImageFont.truetype(found, size))
            top += int(size * 1.3)
    return picture


def gradient(random: np.random.Generator) -> Image.Image:
    """From one colour to another along a line, along circles, or among four corners; many of them grey or pale."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    corners = np.array([_calm(random) if random.random() < 0.5 else _any(random) for _ in range(4)], dtype=float)
    if random.random() < 0.3:
        corners = np.repeat(corners.mean(axis=1, keepdims=True), 3, axis=1)
    match int(random.integers(3)):
        case 0:
            angle = random.random() * 2 * np.pi
            along = np.cos(angle) * (columns - 0.5) + np.sin(angle) * (rows - 0.5) + 0.5
            mixed = _mix(corners[0], corners[1], along)
        case 1:
            centre = random.random(2)
            mixed = _mix(corners[0], corners[1], np.hypot(rows - centre[0], columns - centre[1]))
        case _:
            mixed = _mix(_mix(corners[0], corners[1], columns), _mix(corners[2], corners[3], columns), rows)
    return Image.fromarray(np.clip(mixed.round(), 0, 255).astype(np.uint8))


def shapes(random: np.random.Generator) -> Image.Image:
    """Flat boxes, discs and lines, drawn at four times the size: edges fall between pixels, as a lens has them."""
    paper, _ = _two_colours(random)
    big = 4 * SIDE
    picture = Image.new("RGB", (big, big), paper)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(4, 25))):
        colour = _calm(random) if random.random() < 0.3 else _any(random)
        first, second = random.integers(-big // 8, big, 2), random.integers(16, big // 2, 2)
        box = (*map(int, first), *map(int, first + second))
        match int(random.integers(4)):
            case 0:
                draw.rectangle(box, fill=colour)
            case 1:
                draw.ellipse(box, fill=colour)
            case 2:
                draw.ellipse(box, outline=colour, width=int(random.integers(4, 40)))
            case _:
                draw.line(box, fill=colour, width=int(random.integers(4, 24)))
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colours (3,) or (H, W, 3) mixed by a share (H, W) of the second, at most all of it."""
    share = np.clip(share, 0, 1)[..., None]
    return first * (1 - share) + second * share


def _line(random: np.random.Generator) -> str:
    words = ["".join(random.choice(LETTERS, int(random.integers(2, 10)))) for _ in range(14)]
    for place in np.flatnonzero(random.random(len(words)) < 0.25):
        words[place] = words[place].capitalize() if random.random() < 0.6 else str(random.integers(10_000))
    return " ".join(words)


def _two_colours(random: np.random.Generator) -> tuple[Colour, Colour]:
    """Of paper and ink."""
    if random.random() < 0.5:
        return ((255, 255, 255), (0, 0, 0)) if random.random() < 0.75 else ((0, 0, 0), (255, 255, 255))
    paper, ink = _calm(random), tuple(int(level) for level in random.integers(0, 110, 3))
    return (paper, ink) if random.random() < 0.7 else (ink, paper)  # type: ignore[return-value]


def _any(random: np.random.Generator) -> Colour:
    red, green, blue = (int(level) for level in random.integers(0, 256, 3))
    return red, green, blue


def _calm(random: np.random.Generator) -> Colour:
    """A light colour that is nearly a grey: of skies, walls and paper."""
    grey, spread = random.integers(150, 256), random.integers(-24, 25, 3)
    red, green, blue = (int(level) for level in np.clip(grey + spread, 0, 255))
    return red, green, blue


if __name__ == "__main__":
    typer.run(main)
