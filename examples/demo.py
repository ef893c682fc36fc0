"""The demo: a real photograph to bits and back at several rates, as a table and as one picture to look at.

Run it with `make demo`, or `python examples/demo.py --help`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sheet import Panel, draw_sheet

import bsq
from bsq.codec.picture import compress, decompress
from bsq.codec.shelf import DEFAULT_MODEL, named_model
from bsq.data.pictures import open_picture, to_pixels
from bsq.errors import BsqError
from bsq.metrics import decibels, ms_ssim, psnr


@dataclass(frozen=True, eq=False)
class Trial:
    """One rate: the stream, the picture made of it, what both cost."""

    bits: int
    stream: bytes
    picture: np.ndarray
    psnr: float
    ms_ssim: float
    encode_seconds: float
    decode_seconds: float

    @property
    def bits_per_pixel(self) -> float:
        return 8 * len(self.stream) / (self.picture.shape[0] * self.picture.shape[1])


def main() -> None:
    options = parse()
    console = Console()
    photo = options.photo or bundled_photo("astronaut.png")
    original = open_picture(photo)
    model = named_model(options.model)
    lengths = options.bits or quarters(len(model.radices))
    compress(original[:64, :64], model)  # the first call of torch pays for its own start
    trials = [attempt(original, model, bits) for bits in lengths]
    name = Path(options.model).name
    console.print(table(photo, original, name, trials))
    options.out.mkdir(parents=True, exist_ok=True)
    for trial in trials:
        (options.out / f"{photo.stem}-{trial.bits}.bsq").write_bytes(trial.stream)
    path = options.out / f"{photo.stem}.png"
    draw(photo, original, name, model, trials).save(path)
    console.print(f"Look at [bold]{path}[/]; the .bsq files lie beside it.", highlight=False)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path, help="any picture; default: the astronaut of scikit-image's wheel")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="bundled name, folder or hub id")
    parser.add_argument("--bits", type=int, nargs="*", help="bits of each token; default: 1/4, 2/4, 3/4, 4/4 of all")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the results")
    return parser.parse_args()


def bundled_photo(name: str) -> Path:
    """Found without importing scikit-image, so that nothing is fetched."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("the demo's photographs come with scikit-image: pip install 'bsq[examples]', or give --photo")
    return Path(spec.origin).parent / "data" / name


def quarters(length: int) -> list[int]:
    """9, 18, 27, 36 for 36."""
    return sorted({max(1, length * part // 4) for part in (1, 2, 3, 4)})


def attempt(original: np.ndarray, model: bsq.Tokenizer, bits: int) -> Trial:
    start = time.perf_counter()
    stream = compress(original, model, bits)
    between = time.perf_counter()
    picture = decompress(stream, model)
    end = time.perf_counter()
    shown, wanted = to_pixels(picture), to_pixels(original)
    similarity = float(ms_ssim(shown, wanted)) if min(original.shape[:2]) >= 161 else float("nan")
    return Trial(bits, stream, picture, float(psnr(shown, wanted)), similarity, between - start, end - between)


def table(photo: Path, original: np.ndarray, model: str, trials: list[Trial]) -> Table:
    height, width, _ = original.shape
    head = f"{photo.name}, {width}×{height}, {photo.stat().st_size:,} bytes as {photo.suffix[1:].upper()}; {model}"
    result = Table(title=head, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for name in ("bits", "bytes", "bpp", "ratio", "PSNR dB", "MS-SSIM", "in dB", "encode", "decode"):
        result.add_column(name, justify="right", no_wrap=True)
    for t in trials:
        row = [f"{t.bits}", f"{len(t.stream):,}", f"{t.bits_per_pixel:.3f}"]
        row += [f"{photo.stat().st_size / len(t.stream):.0f}×", f"{t.psnr:.2f}", f"{t.ms_ssim:.4f}"]
        row += [f"{decibels(t.ms_ssim):.2f}", f"{t.encode_seconds:.2f} s", f"{t.decode_seconds:.2f} s"]
        result.add_row(*row)
    return result


def draw(photo: Path, original: np.ndarray, name: str, model: bsq.Tokenizer, trials: list[Trial]) -> Image.Image:
    height, width, _ = original.shape
    codes = model.encode(to_pixels(original))
    size = photo.stat().st_size
    panels = [Panel(original, "Original", f"{size:,} bytes as {photo.suffix[1:].upper()}")]
    for t in trials:
        line = f"{len(t.stream):,} bytes, {t.bits_per_pixel:.2f} bpp, PSNR {t.psnr:.2f} dB"
        panels.append(Panel(t.picture, f"{t.bits} bits a token", line))
    _, _, rows, columns, length = codes.shape
    line = f"{photo.name}: {width} by {height} pixels, {columns} by {rows} tokens of {length} bits"
    return draw_sheet(f"{name}: a photograph as bits", line, panels, codes.digits[0, 0].cpu().numpy())


if __name__ == "__main__":
    try:
        main()
    except BsqError as error:
        raise SystemExit(f"error: {error}") from None
