"""Train recipes one after another on the same pictures, measure each on the same held-out ones: table, plot, pictures.

    python examples/compare_recipes.py recipes/compare/*.yaml --data photos/ --evaluation held-out/ -o runs/compare

Runs that are finished are measured, unfinished ones go on where they were. --set changes a setting of all recipes.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import track

from bsq import Tokenizer, load
from bsq.codes import Codes
from bsq.data.pictures import open_picture, to_pixels
from bsq.data.stored import find_pictures
from bsq.frozen import load_lpips
from bsq.metrics import CodeUseMeter, ReconstructionMeter
from bsq.metrics.pixel import MS_SSIM_MIN_SIDE
from bsq.train import End, Start, load_recipe, run

CONSOLE = Console(highlight=False)
SHOWN, SHOWN_SIDE = 4, 192


@dataclass(frozen=True)
class Outcome:
    """A trained recipe on all held-out pictures. Rates in bits a token; None for a continuous latent."""

    recipe: str
    pictures: int
    parameters: int
    bits: float | None
    psnr: float
    ms_ssim_db: float | None
    lpips_squeeze: float | None
    entropy_bits: float | None
    codes_used: int | None
    codes_possible: int | None


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    references = read_references(options.evaluation, options.pictures)
    outcomes, shown = [], [("original", [as_picture(reference) for reference in references[:SHOWN]])]
    for recipe in options.recipes:
        model = train(recipe, options)
        outcome, pictures = measure(recipe.stem, model, references)
        outcomes.append(outcome)
        shown.append((recipe.stem, pictures))
        CONSOLE.print(outcome)
    out = options.output
    (out / "outcomes.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
    (out / "outcomes.md").write_text(table(outcomes))
    plot(outcomes, out / "outcomes.png")
    sheet(shown).save(out / "pictures.png")
    CONSOLE.print(table(outcomes))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--data", nargs="+", required=True, help="pictures to train on: folders, tars, globs")
    parser.add_argument("--evaluation", nargs="+", required=True, help="pictures to measure on")
    parser.add_argument("--pictures", type=int, default=200, help="at most so many of them")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings for all recipes")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def read_references(sources: list[str], most: int) -> list[torch.Tensor]:
    """Pictures (1, 3, H, W) of a side that MS-SSIM is defined for, the first ones of all that there are."""
    stored = find_pictures(sources)[:most]
    pixels = [to_pixels(open_picture(one.read())) for one in stored]
    large = [one for one in pixels if min(one.shape[-2:]) >= MS_SSIM_MIN_SIDE]
    if not large:
        raise SystemExit(f"none of {len(stored)} pictures has {MS_SSIM_MIN_SIDE} pixels a side or more")
    CONSOLE.print(f"measuring on {len(large)} of {len(stored)} pictures; the others are too small for MS-SSIM")
    return large


def train(path: Path, options: argparse.Namespace) -> Tokenizer:
    """The recipe's model, trained in a folder of its own, where an unfinished run goes on."""
    folder = options.output / path.stem
    data = json.dumps(options.data)
    recipe = load_recipe(path, [f"data.source={data}", f"threads={options.threads}", *options.set])
    model = folder / "model"
    if not model.exists():
        CONSOLE.rule(path.stem)
        if run(recipe, folder, Start.RESUME if folder.exists() else Start.FRESH).end is not End.FINISHED:
            raise SystemExit(f"{path.stem} was stopped; give the same command again to go on")
    return load(str(model)).eval()


@torch.no_grad()
def measure(name: str, model: Tokenizer, references: list[torch.Tensor]) -> tuple[Outcome, list[np.ndarray]]:
    """The figures of all pictures, and the first few as reconstructed. All of a code's digits are used."""
    meter = ReconstructionMeter(load_lpips("squeeze").distance)
    use = CodeUseMeter(model.radices) if model.radices else None
    shown = []
    for reference in track(references, f"measuring {name}", console=CONSOLE):
        again = model.reconstruct(reference)
        meter.add(again, reference)
        if use is not None:
            use.add(codes_of(model, reference))
        if len(shown) < SHOWN:
            shown.append(as_picture(again))
    scores, used = meter.result(), None if use is None else use.result()
    index = None if used is None else used.index
    outcome = Outcome(
        recipe=name,
        pictures=scores.pictures,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        bits=sum(math.log2(radix) for radix in model.radices) or None,
        psnr=scores.psnr,
        ms_ssim_db=scores.ms_ssim_db,
        lpips_squeeze=scores.lpips,
        entropy_bits=None if used is None else used.marginal_entropy_bits,
        codes_used=None if index is None else index.used,
        codes_possible=None if used is None or index is None else min(index.codebook_size, used.tokens),
    )
    return outcome, shown


def codes_of(model: Tokenizer, pixels: torch.Tensor) -> Codes:
    """The picture's codes without the tokens of padding."""
    height, width = pixels.shape[-2] // model.patch, pixels.shape[-1] // model.patch
    codes = model.encode(pixels)
    return Codes(codes.digits[:, :, :height, :width].contiguous(), codes.radices)


def table(outcomes: list[Outcome]) -> str:
    """Markdown. "codes used" is out of the codes that so many tokens could use at most."""
    lines = [
        "| recipe | bits | PSNR dB | MS-SSIM dB | LPIPS-squeeze | digits' entropy, bits | codes used |",
        "|---|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        bits = "continuous" if o.bits is None else f"{o.bits:.2f}".rstrip("0").rstrip(".")
        use = "–" if o.codes_used is None or not o.codes_possible else f"{o.codes_used / o.codes_possible:.1%}"
        cells = [o.recipe, bits, f"{o.psnr:.2f}", number(o.ms_ssim_db, 2), number(o.lpips_squeeze, 4)]
        lines.append("| " + " | ".join([*cells, number(o.entropy_bits, 2), use]) + " |")
    return "\n".join(lines) + "\n"


def number(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def plot(outcomes: list[Outcome], path: Path) -> None:
    """PSNR, MS-SSIM and LPIPS of every recipe, as bars."""
    figure = Figure(figsize=(12, 0.4 * len(outcomes) + 1.2), layout="constrained")
    names = [outcome.recipe for outcome in outcomes]
    measures = {"psnr": "PSNR (dB)", "ms_ssim_db": "MS-SSIM (dB)", "lpips_squeeze": "LPIPS-squeeze (less is better)"}
    for panel, (measure_, label) in zip(figure.subplots(1, 3, sharey=True), measures.items(), strict=True):
        values = [getattr(outcome, measure_) or 0.0 for outcome in outcomes]
        bars = panel.barh(names, values, color=[colour(name) for name in names])
        panel.bar_label(bars, [f"{value:.3g}" if value < 1 else f"{value:.2f}" for value in values], padding=3)
        panel.set(xlabel=label, xlim=(0, 1.18 * max(values)))
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def colour(name: str) -> str:
    """The same for recipes that differ after the dash only."""
    families = ["bsq", "lfq", "fsq", "vq", "kl"]
    family = name.partition("-")[0]
    return f"C{families.index(family)}" if family in families else "C7"


def as_picture(pixels: torch.Tensor) -> np.ndarray:
    """The central square of (1, 3, H, W) in [−1, 1] as uint8 (side, side, 3)."""
    square = pixels[0].permute(1, 2, 0).clamp(-1, 1).add(1).mul(127.5).round().byte().numpy()
    top, left = ((size - SHOWN_SIDE) // 2 for size in square.shape[:2])
    return square[max(top, 0) :, max(left, 0) :][:SHOWN_SIDE, :SHOWN_SIDE]


def sheet(shown: list[tuple[str, list[np.ndarray]]]) -> Image.Image:
    """A row a recipe, a column a picture, at their own pixels."""
    gap, label = 6, 110
    canvas = Image.new(
        "RGB", (label + SHOWN * (SHOWN_SIDE + gap) + gap, len(shown) * (SHOWN_SIDE + gap) + gap), "white"
    )
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for row, (name, pictures) in enumerate(shown):
        top = gap + row * (SHOWN_SIDE + gap)
        draw.text((gap, top + SHOWN_SIDE // 2 - 8), name, fill="black", font=font)
        for column, picture in enumerate(pictures):
            canvas.paste(Image.fromarray(picture), (label + column * (SHOWN_SIDE + gap), top))
    return canvas


if __name__ == "__main__":
    main()
