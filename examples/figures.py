"""Draws the figures that explain bsq: its sphere, its mask, its dial, and its files beside others of equal size.

    python examples/figures.py [--picture PHOTO] [--face PHOTO] [--model MODEL] [--bits N] [--only FIGURE] -o OUT

Nothing is drawn by hand: points go through the quantizer, the mask is what attention's output depends on, and pictures
are real files. Without --picture or --face photographs of scikit-image's wheel are taken.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

import bsq
from bsq.checkpoint.decoders import decoder_file
from bsq.data.pictures import open_picture, to_pixels, to_uint8
from bsq.evaluate.systems.base import Reconstructed, System
from bsq.evaluate.systems.spec import open_system
from bsq.evaluate.systems.tokenizers import TokenizerSystem
from bsq.frozen import load_lpips
from bsq.layers.attention import Attention
from bsq.metrics import psnr
from bsq.quantizers.bsq import BSQ, BsqSettings

INK, FAINT, ACCENT = "#1c1c20", "#b9b6ae", "#bc4a3c"
SHADES = ("#264653", "#2a8278", "#d69e2e", "#bc4a3c")
REGIONS = ListedColormap(SHADES)
MODELS = Path(bsq.__file__).parent / "models"
RUNS = "-pictures", "-clips", "-dial", "-structure", "-colour", "-deeper", ""  # one after another
LOGS = [f"training{run}.jsonl" for run in RUNS]
# Greys and drawn pictures among the crops: not to be compared with those of the runs before.
OTHER_CROPS = "training-deeper.jsonl", "training.jsonl"
BESIDE = ("webp", "jpeg2000", "avif", "jpeg")


def main() -> None:
    options = parse()
    out: Path = options.output
    out.mkdir(parents=True, exist_ok=True)
    picture = to_pixels(open_picture(options.picture or photograph()))[:, :, None]
    face = to_pixels(open_picture(options.face or photograph("chelsea")))[:, :, None]
    folder = Path(options.model) if Path(options.model).is_dir() else MODELS / options.model
    logs = [folder / log for log in LOGS if (folder / log).exists()]
    decoder = ":perceptual" if (folder / decoder_file("perceptual")).exists() else ""
    figures: dict[str, Callable[[], Figure]] = {
        "face.webp": lambda: draw_face(f"{options.model}{decoder}@{options.bits}+search{options.search}", face),
        "sphere.png": draw_sphere,
        "mask.png": draw_masks,
        "bits.webp": lambda: draw_bits(options.model, picture),
        "equal_bytes.webp": lambda: draw_equal_bytes(f"{options.model}@{options.bits}+prior", picture),
    }
    if logs:
        figures["training.png"] = lambda: draw_training(logs)
    for name, draw in figures.items():
        if options.only in (None, name):
            draw().savefig(out / name, dpi=110, bbox_inches="tight", facecolor="white")
            print(out / name)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="a photograph")
    parser.add_argument("--face", type=Path, help="a photograph whose middle is looked at closely")
    parser.add_argument("--model", default="biscuit-s", help="bundled name, folder or hub id")
    parser.add_argument("--bits", type=int, default=18, help="of the files that are set side by side")
    parser.add_argument("--search", type=int, default=40, help="steps, for the file of the face")
    parser.add_argument("--only", metavar="NAME", help="of one figure, such as face.webp")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    return parser.parse_args()


def photograph(name: str = "coffee") -> Path:
    """Of scikit-image's wheel, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("name a --picture, or pip install 'bsq[examples]'")
    return Path(spec.origin).parent / "data" / f"{name}.png"


def draw_sphere() -> Figure:
    """BSQ in two dimensions, and in three: latents, the sphere, and the corners that they go to."""
    figure = Figure(figsize=(10, 4.8))
    plane = figure.add_subplot(1, 2, 1)
    latents = torch.randn(14, 2, generator=torch.Generator().manual_seed(4)) * 0.7
    unit, corners, index = quantize(latents)
    circle = torch.linspace(0, 2 * math.pi, 721)
    on_circle = torch.stack([circle.cos(), circle.sin()], 1)
    plane.scatter(*on_circle.T, c=quantize(on_circle)[2], cmap=REGIONS, s=5)
    for point, above, corner in zip(latents, unit, corners, strict=True):
        plane.plot(*torch.stack([point, above]).T, color=FAINT, lw=0.8)
        plane.annotate("", corner.tolist(), above.tolist(), arrowprops={"arrowstyle": "->", "color": ACCENT, "lw": 0.9})
    plane.scatter(*latents.T, color=INK, s=10, label="v, the encoder's latent")
    plane.scatter(*unit.T, c=index, cmap=REGIONS, s=26, edgecolors="white", lw=0.5, label="u = v / ‖v‖")
    plane.scatter(*quantize(on_circle)[1].unique(dim=0).T, marker="s", color=ACCENT, s=46, label="û = sign(u) / √L")
    plane.axhline(0, color=FAINT, lw=0.6)
    plane.axvline(0, color=FAINT, lw=0.6)
    plane.set(aspect="equal", title="L = 2: four corners on the circle")
    plane.legend(loc="lower center", bbox_to_anchor=(0.5, -0.32), ncol=2, frameon=False, fontsize=8)
    draw_regions(figure.add_subplot(1, 2, 2, projection="3d"))
    return figure


def draw_regions(space: Any) -> None:
    """A sphere whose every point has the colour of the corner that it goes to, and the corners that can be seen."""
    down, around = torch.meshgrid(torch.linspace(0, math.pi, 181), torch.linspace(0, 2 * math.pi, 361), indexing="ij")
    sphere = torch.stack([down.sin() * around.cos(), down.sin() * around.sin(), down.cos()], -1)
    _, corners, _ = quantize(sphere.reshape(-1, 3))
    ink = (corners * math.sqrt(3) + 1) / 2 * 0.45 + 0.4
    colours = ink.reshape(*sphere.shape).numpy()
    step = {"rstride": 1, "cstride": 1, "shade": False, "antialiased": False}
    space.plot_surface(*sphere.permute(2, 0, 1).numpy(), facecolors=colours, **step)
    tilt, turn = math.radians(24), math.radians(33)
    towards = torch.tensor([math.cos(tilt) * math.cos(turn), math.cos(tilt) * math.sin(turn), math.sin(tilt)])
    seen = [corner for corner in corners.unique(dim=0) if float(corner @ towards) > 0]
    for corner in seen:
        place = (corner * 1.02).tolist()
        space.plot(*([value] for value in place), marker="s", ms=8, color=ACCENT, mec="white", zorder=10)
        name = "".join("1" if value > 0 else "0" for value in corner.tolist())
        space.text(*(corner * 1.13).tolist(), name, fontsize=10, color=INK, ha="center", zorder=11)
    space.view_init(elev=24, azim=33)
    space.computed_zorder = False
    space.set(title="L = 3: eight corners on the sphere, no codebook to store")
    space.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), zlim=(-1.05, 1.05))
    space.set_box_aspect((1, 1, 1), zoom=1.5)
    space.set_axis_off()


def quantize(latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (n, L) → points on the sphere, their corners, and the number of each corner."""
    quantizer = BSQ(BsqSettings(bits=latents.shape[1]))
    digits = quantizer.digits(latents)
    number = (digits.long() * 2 ** torch.arange(latents.shape[1] - 1, -1, -1)).sum(1)
    return latents / latents.norm(dim=1, keepdim=True), quantizer.lookup(digits), number


def draw_masks(frames: int = 4, places: int = 4) -> Figure:
    """Which token sees which, found by asking attention what its output depends on."""
    kinds = {
        "full": Attention(8, 8, "full"),
        "block-causal": Attention(8, 8, "causal"),
        "the last two frames": Attention(8, 8, "causal", window_frames=2),
    }
    figure = Figure(figsize=(11, 3.9))
    for number, (title, attention) in enumerate(kinds.items(), 1):
        axes: Axes = figure.add_subplot(1, len(kinds), number)
        axes.imshow(sight(attention, frames, places), cmap=ListedColormap(["#f2efe8", "#2a8278"]), vmin=0, vmax=1)
        for edge in range(places, frames * places, places):
            axes.axhline(edge - 0.5, color="white", lw=2)
            axes.axvline(edge - 0.5, color="white", lw=2)
        middles = [frame * places + (places - 1) / 2 for frame in range(frames)]
        labels = [f"frame {frame}" for frame in range(frames)]
        axes.set_xticks(middles, labels, fontsize=8)
        axes.set_yticks(middles, labels, fontsize=8, rotation=90, va="center")
        axes.set(title=title, xlabel="sees the tokens of", ylabel="a token of")
    return figure


def sight(attention: Attention, frames: int, places: int) -> np.ndarray:
    """(T·S, T·S) bool: whether a token's output depends on a token's input."""
    tokens = torch.randn(1, frames, places, 8, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(lambda x: attention(x, None, None).sum(-1), tokens)
    total = frames * places
    return (jacobian.view(total, total, 8).abs().sum(-1) > 0).numpy()


def draw_bits(model: str, picture: Tensor, counts: tuple[int, ...] = (1, 3, 9, 18, 36)) -> Figure:
    """One code, read to different lengths."""
    whole = open_system(model)
    assert isinstance(whole, TokenizerSystem)
    kept = [count for count in counts if count <= len(whole.model.radices)]
    systems = [TokenizerSystem(f"{count} bit{'s' * (count > 1)}", whole.model, count) for count in kept]
    return draw_row([("original", picture, None), *(shown(system, picture) for system in systems)], picture)


def draw_equal_bytes(ours: str, picture: Tensor) -> Figure:
    """Our file, and the largest file of each codec that is not above it."""
    system = open_system(ours)
    first = system.reconstruct(picture)
    rate = first.bits[0] / (picture.shape[-2] * picture.shape[-1])
    others = [shown(open_system(f"{codec}@{rate:.6f}bpp"), picture, codec) for codec in BESIDE]
    return draw_row([("original", picture, None), ("bsq", first.pixels, first.bits[0]), *others], picture)


def draw_face(ours: str, picture: Tensor, side: int = 176) -> Figure:
    """The middles of a picture, of our file decoded for the eye, and of the largest WebP and JPEG 2000 not above it."""
    first = open_system(ours).reconstruct(picture)
    rate = first.bits[0] / (picture.shape[-2] * picture.shape[-1])
    distance = load_lpips("squeeze").distance
    panels = [("original", picture, None), ("bsq", first.pixels, first.bits[0])]
    panels += [shown(open_system(f"{codec}@{rate:.6f}bpp"), picture, codec) for codec in ("webp", "jpeg2000")]
    figure = Figure(figsize=(12, 3.4))
    top, left = ((size - side) // 2 for size in picture.shape[-2:])
    for number, (name, pixels, bits) in enumerate(panels, 1):
        axes: Axes = figure.add_subplot(1, len(panels), number)
        axes.imshow(to_uint8(pixels[:, :, 0])[top : top + side, left : left + side], interpolation="lanczos")
        axes.set_axis_off()
        far = float(distance(pixels[:, :, 0], picture[:, :, 0]))
        words = "" if bits is None else f" · {bits / 8:,.0f} bytes · LPIPS {far:.2f}"
        axes.set_title(f"{name}{words}", fontsize=10, color=INK)
    figure.subplots_adjust(wspace=0.03, left=0, right=1, bottom=0.01, top=0.92)
    return figure


def draw_training(logs: Sequence[Path]) -> Figure:
    """What each hour brought: PSNR of held-out crops over the hours of runs that followed one another, that of clips
    over the hours since clips were seen, and structure in training since it is in the loss; through each the line in dB
    over log2 hours, drawn on to twice the time. Thin lines are where a run ended.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    crops, clips, structure = figure.subplots(1, 3)
    for axes, kind, name in ((crops, "ema_psnr", "crops"), (clips, "ema_clip_psnr", "clips")):
        axes.set_ylabel(f"PSNR dB, held-out {name}")
        for rate, color in zip((36, 27, 18, 9), SHADES, strict=True):
            draw_course(axes, read_course(logs, f"{kind}@{rate}"), color, f"{rate} bits")
    ratios = read_course([log for log in logs if log.name not in OTHER_CROPS], "ms_ssim", together=4_000)
    decibels = replace(ratios, values=[-10 * math.log10(value) for value in ratios.values])
    draw_course(structure, decibels, INK, "any number of bits")
    structure.set_ylabel("MS-SSIM dB, crops in training")
    for axes in (crops, clips, structure):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.2g}")
        axes.set_xlabel("hours of training on two cores or one")
        axes.legend(fontsize=8, ncols=2, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


@dataclass(frozen=True)
class Course:
    """Values over hours, and the hours at which runs ended."""

    hours: list[float]
    values: list[float]
    ends: list[float]


def draw_course(axes: Axes, course: Course, color: str, name: str) -> None:
    slope, base = np.polyfit(np.log2(course.hours), course.values, 1)
    axes.plot(course.hours, course.values, "o-", color=color, ms=3, label=f"{name}, {slope:+.2f} dB a doubling")
    on = np.array([course.hours[0], 2 * course.hours[-1]])
    axes.plot(on, base + slope * np.log2(on), ":", color=color)
    for end in course.ends[:-1]:
        axes.axvline(end, color=FAINT, lw=0.5)


def read_course(logs: Sequence[Path], name: str, together: int = 1) -> Course:
    """Values of that name, or means over so many pictures; hours are those of the logs that have any."""
    hours, course = 0.0, Course([], [], [])
    for log in logs:
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        if not any(name in line for line in lines):
            continue
        before, since, some = 0, 0, []
        for line in lines:
            if line["event"] == "train":
                hours += (line["pictures"] - before) / line["pictures_per_second"] / 3600
                before = line["pictures"]
            if name in line:
                some.append(line[name])
                if line["pictures"] - since >= together:
                    course.hours.append(hours)
                    course.values.append(float(np.mean(some)))
                    since, some = line["pictures"], []
        course.ends.append(hours)
    return course


def shown(system: System, picture: Tensor, name: str | None = None) -> tuple[str, Tensor, float]:
    again: Reconstructed = system.reconstruct(picture)
    return name or system.name, again.pixels, again.bits[0]


def draw_row(panels: list[tuple[str, Tensor, float | None]], original: Tensor) -> Figure:
    """Pictures two rows deep, with bytes and PSNR."""
    columns = -(-len(panels) // 2)
    height, width = original.shape[-2:]
    figure = Figure(figsize=(4 * columns, 2 * (4 * height / width + 0.45)))
    for number, (name, pixels, bits) in enumerate(panels, 1):
        axes: Axes = figure.add_subplot(2, columns, number)
        axes.imshow(to_uint8(pixels[:, :, 0]))
        axes.set_axis_off()
        words = "" if bits is None else f" · {bits / 8:,.0f} bytes · {float(psnr(pixels, original)):.1f} dB"
        axes.set_title(f"{name}{words}", fontsize=10, color=INK)
    figure.subplots_adjust(wspace=0.03, hspace=0.12)
    return figure


if __name__ == "__main__":
    main()
