"""What the eye would find fault with, as figures: greys with a tint, colours that shift, seams, unreadable letters.

    python examples/looks.py biscuit-s biscuit-s:perceptual --pictures kodak/ --bits 9 18 27 36

What enters: models, and photographs to look for seams in. What leaves: a table, a row for each model and number of
bits; with `--search N`, of codes that so many steps of search found.

- tint: a grey ramp of 256 pixels, 0 … 255; mean and largest distance, in levels, of a column's red and blue from its
  green.
- colour: 216 flat squares of 32 pixels, six levels of each channel; mean and largest error of a square's mean colour,
  all in one picture, and each a picture of its own.
- seams: mean step of the error between neighbouring pixels at the borders of the decoder's windows, which lie half a
  window further in every other block, over that at the other borders of patches; 1 is no seam. A decoder without
  windows has none; pictures smaller than a window show none.
- patches: that at all borders of patches over that within them.
- letters: capitals, small letters and digits in Computer Modern Typewriter, black on white, at so many pixels; the
  share whose reconstruction is nearer (in squared error) to the letter that was written than to any other.
"""

from __future__ import annotations

import argparse
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from bsq import Tokenizer, compress, decompress, load
from bsq.data.pictures import open_picture
from bsq.data.stored import find_pictures
from bsq.layers.windows import WindowAttentionSettings

FONT = Path(get_data_path()) / "fonts" / "ttf" / "cmtt10.ttf"
LETTERS = string.ascii_letters + string.digits
SIZES = 10, 12, 14, 16, 20
Choice = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--pictures", nargs="+", required=True, help="photographs: folders, tars, globs")
    parser.add_argument("--count", type=int, default=8, help="at most so many of them")
    parser.add_argument("--bits", nargs="+", type=int, default=[9, 18, 27, 36])
    parser.add_argument("--search", type=int, metavar="N", help="steps; default: as files are written unasked")
    options = parser.parse_args()
    photographs = [open_picture(one.read()) for one in find_pictures(options.pictures)[: options.count]]
    heads = "tint: mean, largest", "colour: mean, largest", "alone: mean, largest", "seams", "patches"
    print("| model | bits |", *(f"{head} |" for head in heads), *(f"{size} px |" for size in SIZES))
    print("|---|---|" + "---|" * (len(heads) + len(SIZES)))
    for name in options.models:
        model = load(name)
        for bits in options.bits:
            print(f"| {name} | {bits} |", *faults(Coding(model, bits, options.search), photographs))


@dataclass(frozen=True)
class Coding:
    """How pictures are coded: `search` is a number of steps, None as many as are usual."""

    model: Tokenizer
    bits: int
    search: int | None = None


def faults(coding: Coding, photographs: list[np.ndarray]) -> list[str]:
    """The cells of one row."""
    errors = tint(coding), colour(coding), alone(coding)
    cells = [f"{error.mean():.2f}, {error.max():.2f} |" for error in errors]
    steps = steps_of(coding, photographs)
    cells += [f"{seams(coding.model, steps):.2f} |", f"{patches(coding.model, steps):.2f} |"]
    return cells + [f"{legible(coding, size):.0%} |" for size in SIZES]


def again(coding: Coding, picture: np.ndarray) -> np.ndarray:
    """The reconstruction of uint8 (H, W, 3), as floats in levels."""
    data = compress(picture, coding.model, coding.bits, search=coding.search)
    return decompress(data, coding.model).astype(float)


def tint(coding: Coding) -> np.ndarray:
    """Of each column of a grey ramp."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3)).copy()
    columns = again(coding, ramp).mean(axis=0)
    return np.abs(columns[:, [0, 2]] - columns[:, [1]])


def colour(coding: Coding) -> np.ndarray:
    """Of each square and channel, without the squares' rims."""
    squares = flat_colours().reshape(12, 18, 3)
    picture = squares.repeat(32, 0).repeat(32, 1).astype(np.uint8)
    inner = again(coding, picture).reshape(12, 32, 18, 32, 3)[:, 8:-8, :, 8:-8]
    return np.abs(inner.mean(axis=(1, 3)) - squares)


def alone(coding: Coding) -> np.ndarray:
    """The same, where each square is a picture."""
    squares = flat_colours()
    pictures = (np.broadcast_to(square.astype(np.uint8), (32, 32, 3)).copy() for square in squares)
    return np.abs(np.stack([again(coding, picture).mean(axis=(0, 1)) for picture in pictures]) - squares)


def flat_colours() -> np.ndarray:
    """(216, 3) in levels."""
    levels = np.linspace(0, 255, 6)
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3).round()


def steps_of(coding: Coding, photographs: list[np.ndarray]) -> list[np.ndarray]:
    """Mean steps of the error down and across each photograph: those before row or column 1, 2, …"""
    steps = []
    for picture in photographs:
        error = again(coding, picture) - picture
        steps += [np.abs(np.diff(error, axis=axis)).mean(axis=(1 - axis, 2)) for axis in (0, 1)]
    return steps


def seams(model: Tokenizer, steps: list[np.ndarray]) -> float:
    match model.settings.decoder.attention:
        case WindowAttentionSettings(size=size):
            window = size // 2 * model.patch  # whole windows and, in every other block, half of one
        case _:
            return 1.0
    return ratio(steps, lambda at: at % window == 0, lambda at: (at % model.patch == 0) & (at % window != 0))


def patches(model: Tokenizer, steps: list[np.ndarray]) -> float:
    return ratio(steps, lambda at: at % model.patch == 0, lambda at: at % model.patch != 0)


def ratio(steps: list[np.ndarray], here: Choice, there: Choice) -> float:
    """The mean step at the rows and columns chosen `here` over that `there`; 1 if there are none."""
    found, others = (
        np.concatenate([one[choose(np.arange(1, len(one) + 1))] for one in steps]) for choose in (here, there)
    )
    return float(found.mean() / others.mean()) if len(found) and len(others) else 1.0


def legible(coding: Coding, size: int) -> float:
    """Share of letters, each written in three places, that are nearest to themselves."""
    font = ImageFont.truetype(str(FONT), size)
    width, height = int(size * 0.8) + 1, int(size * 1.4)
    wanted = np.stack([written(letter, font, width, height) for letter in LETTERS])
    order = np.random.default_rng(0).permutation(np.tile(np.arange(len(LETTERS)), 3)).reshape(6, -1)
    page = wanted[order].transpose(0, 2, 1, 3).reshape(6 * height, -1)
    found = again(coding, np.repeat(page[..., None], 3, axis=2)).mean(axis=2)
    cells = found.reshape(6, height, -1, width).transpose(0, 2, 1, 3).reshape(-1, 1, height, width)
    nearest = np.square(cells - wanted[None]).mean(axis=(2, 3)).argmin(axis=1)
    return float((nearest == order.ravel()).mean())


def written(letter: str, font: ImageFont.FreeTypeFont, width: int, height: int) -> np.ndarray:
    picture = Image.new("L", (width, height), 255)
    ImageDraw.Draw(picture).text((1, 1), letter, 0, font)
    return np.asarray(picture)


if __name__ == "__main__":
    main()
