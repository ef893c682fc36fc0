"""Draws the figures that explain bsq: its sphere, its mask, its dial, and its files beside others of equal size.

    python examples/figures.py [--picture photo.png] [--model biscuit-s] [--bits 18] -o docs/figures

Nothing is drawn by hand: points go through the quantizer, the mask is what attention's output depends on, and pictures
are real files. Without --picture a photograph of scikit-image's wheel is taken.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from bsq.data.pictures import open_picture, to_pixels, to_uint8
from bsq.evaluate.systems.base import Reconstructed, System
from bsq.evaluate.systems.spec import open_system
from bsq.evaluate.systems.tokenizers import TokenizerSystem
from bsq.layers.attention import Attention
from bsq.metrics import psnr
from bsq.quantizers.bsq import BSQ, BsqSettings

INK, FAINT, ACCENT = "#1c1c20", "#b9b6ae", "#bc4a3c"
REGIONS = ListedColormap(["#264653", "#2a8278", "#d69e2e", "#bc4a3c"])
BESIDE = ("webp", "jpeg2000", "avif", "jpeg")


def main() -> None:
    options = parse()
    out: Path = options.output
    out.mkdir(parents=True, exist_ok=True)
    picture = to_pixels(open_picture(options.picture or photograph()))[:, :, None]
    figures = {
        "sphere.png": draw_sphere(),
        "mask.png": draw_masks(),
        "bits.webp": draw_bits(options.model, picture),
        "equal_bytes.webp": draw_equal_bytes(f"{options.model}@{options.bits}+prior", picture),
    }
    for name, figure in figures.items():
        figure.savefig(out / name, dpi=110, bbox_inches="tight", facecolor="white")
        print(out / name)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="a photograph")
    parser.add_argument("--model", default="biscuit-s", help="bundled name, folder or hub id")
    parser.add_argument("--bits", type=int, default=18, help="of the files that are set side by side")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    return parser.parse_args()


def photograph() -> Path:
    """Of scikit-image's wheel, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("name a --picture, or pip install 'bsq[examples]'")
    return Path(spec.origin).parent / "data" / "coffee.png"


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
    space = figure.add_subplot(1, 2, 2, projection="3d")
    unit, corners, _ = quantize(torch.randn(900, 3, generator=torch.Generator().manual_seed(1)))
    ink = (corners * math.sqrt(3) + 1) / 2 * 0.8 + 0.1
    space.scatter(*unit.T, c=ink.numpy(), s=5, depthshade=True)
    space.scatter(*corners.unique(dim=0).T, color=ACCENT, marker="s", s=40, depthshade=False)
    space.set(title="L = 3: eight corners on the sphere, no codebook to store")
    space.set_box_aspect((1, 1, 1))
    return figure


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
    systems = [TokenizerSystem(f"{count} bits", whole.model, count) for count in kept]
    return draw_row([("original", picture, None), *(shown(system, picture) for system in systems)], picture)


def draw_equal_bytes(ours: str, picture: Tensor) -> Figure:
    """Our file, and the largest file of each codec that is not above it."""
    system = open_system(ours)
    first = system.reconstruct(picture)
    rate = first.bits[0] / (picture.shape[-2] * picture.shape[-1])
    others = [shown(open_system(f"{codec}@{rate:.6f}bpp"), picture, codec) for codec in BESIDE]
    return draw_row([("original", picture, None), ("bsq", first.pixels, first.bits[0]), *others], picture)


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
