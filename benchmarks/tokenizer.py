"""ViT-B, 174 M parameters: encoding with decoding, and training steps, beside the textbook's model of equal weights.

Products of the same shapes as ViT-B's largest are measured in the same rounds, and tell what the machine could reach.
Peak memory is that of a fresh process that does nothing else: `python -m benchmarks.tokenizer train ours 256 2`.
`python -m benchmarks.tokenizer shallow 2` prints the tables of models with 2 blocks a side instead of 12, in processor
seconds of one thread: what a busy machine can tell in minutes.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from benchmarks import Clock, Row, interleaved, peak_bytes, show
from benchmarks.textbook import textbook_of, vit_b
from bsq import load
from bsq.quantizers.base import Quantized
from bsq.tokenizer import Tokenizer
from bsq.train.optimizers import AdamWSettings, build_optimizers
from bsq.train.stepping import AfterBackward, InBackward

ROUNDS = 5
BITS = 36
PRODUCT = 1024, 768, 3072

Step = Callable[[], object]


class Depth:
    """Blocks of encoder and of decoder."""

    blocks = 12


def picture(side: int, batch: int = 1) -> Tensor:
    """Waves and noise (B, 3, side, side) in [−1, 1]."""
    generator = torch.Generator().manual_seed(0)
    across = torch.arange(side) / side
    down, right, phase = torch.rand(3, batch, 3, 1, 1, generator=generator) * 30
    waves = torch.sin(down * across[:, None] + right * across + phase)
    return (0.8 * waves + 0.1 * torch.randn(batch, 3, side, side, generator=generator)).clamp(-1, 1)


def vit(side: int) -> Tokenizer:
    torch.manual_seed(0)
    settings = vit_b(side, BITS)
    part = settings.encoder.model_copy(update={"depth": Depth.blocks})
    return Tokenizer(settings.model_copy(update={"encoder": part, "decoder": part})).eval()


@dataclass(frozen=True)
class Outcome:
    digits: Tensor
    pixels: Tensor


def rows() -> Iterator[Row]:
    yield from inference()
    yield from beside_a_peer()
    for side, batch, faster, smaller in ((128, 4, 3.8, 0.85), (256, 2, 3.3, 0.75)):
        yield from training(side, batch, faster, smaller)


def inference(side: int = 256) -> Iterator[Row]:
    """Encoding and decoding of one picture: float32 and bfloat16, ours and the textbook's."""
    pixels, ours = picture(side), vit(side)
    textbook = textbook_of(ours)
    ours, short = ours.prepare(), vit(side).bfloat16().prepare()

    def by_textbook() -> Outcome:
        with torch.no_grad():
            digits = textbook.encode(pixels)
            return Outcome(digits, textbook.decode(digits))

    def by_textbook_autocast() -> Outcome:
        with torch.autocast("cpu", torch.bfloat16):
            return by_textbook()

    def by_ours() -> Outcome:
        return through(ours, pixels)

    def by_ours_short() -> Outcome:
        return through(short, pixels)

    slow, slow_short, quick, quick_short, ceiling, ceiling_short = interleaved(
        [by_textbook, by_textbook_autocast, by_ours, by_ours_short, product(torch.float32), product(torch.bfloat16)],
        ROUNDS,
    )
    yield Row("matmul float32, bfloat16", f"{rate(ceiling):.0f}, {rate(ceiling_short):.0f} GFLOP/s")
    yield Row(f"textbook float32, {side}²", f"{1 / slow:.2f} pictures/s")
    yield ratio(f"encode + decode {side}², float32: {1 / quick:.2f} pictures/s", slow / quick, 2.1)
    yield Row("… of the machine's products", f"{flops(ours, side) / quick / rate(ceiling) / 1e7:.0f} %")
    yield from compared(by_textbook(), by_ours(), 0.0, 1e-5)
    yield ratio(f"encode + decode {side}², bfloat16: {1 / quick_short:.2f} pictures/s", slow / quick_short, 4.2)
    yield ratio("… beside the textbook under bfloat16 autocast", slow_short / quick_short, 1.6)
    yield Row("… of the machine's products", f"{flops(ours, side) / quick_short / rate(ceiling_short) / 1e7:.0f} %")
    yield from compared(by_textbook(), by_ours_short(), 0.005, None)


def beside_a_peer(side: int = 256) -> Iterator[Row]:
    """A convolutional autoencoder of Stable Diffusion's size, 84 M random weights, in the dtypes that ours has."""
    if find_spec("diffusers") is None:
        yield Row("beside a diffusers VAE", "diffusers is not installed")
        return
    from diffusers import AutoencoderKL

    widths = (128, 256, 512, 512)
    torch.manual_seed(0)
    peer = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=2,
    ).eval()
    pixels, ours = picture(side), vit(side).prepare()
    peer_short, short = copy.deepcopy(peer).bfloat16(), vit(side).bfloat16().prepare()
    bundled = load("biscuit-s").prepare()

    def by_peer(model: AutoencoderKL, dtype: torch.dtype) -> Step:
        @torch.no_grad()
        def run() -> Tensor:
            return model.decode(model.encode(pixels.to(dtype)).latent_dist.mode()).sample

        return run

    seconds = interleaved(
        [
            by_peer(peer, torch.float32),
            by_peer(peer_short, torch.bfloat16),
            lambda: through(ours, pixels),
            lambda: through(short, pixels),
            lambda: through(bundled, pixels),
        ],
        ROUNDS,
    )
    name = f"encode + decode {side}² beside a diffusers VAE, {parameters(peer):.0f} M weights: float32"
    yield ratio(name, seconds[0] / seconds[2], 3)
    yield ratio("… bfloat16 both", seconds[1] / seconds[3], 3)
    yield Row("… biscuit-s beside the VAE, float32", f"{seconds[0] / seconds[4]:.1f}×")


def parameters(model: nn.Module) -> float:
    """In millions."""
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def through(tokenizer: Tokenizer, pixels: Tensor) -> Outcome:
    codes = tokenizer.encode(pixels)
    return Outcome(codes.digits.flatten(1, 3), tokenizer.decode(codes)[:, :, 0])


def compared(wanted: Outcome, got: Outcome, most_changed: float, most_apart: float | None) -> Iterator[Row]:
    changed = float((wanted.digits != got.digits).float().mean())
    yield Row("… changed bits", f"{changed:.3%}", f"≤ {most_changed:.1%}", changed <= most_changed)
    apart = float((wanted.pixels - got.pixels).abs().max())
    name, figure = "… largest difference of a pixel", f"{apart:.1e}"
    yield Row(name, figure) if most_apart is None else Row(name, figure, f"≤ {most_apart:g}", apart <= most_apart)


def training(side: int, batch: int, faster: float, smaller: float) -> Iterator[Row]:
    """One step: forward, backward, AdamW; ours as `precision: bf16` trains, with `step_in_backward` and without, the
    textbook's in float32.
    """
    slow, quick, usual = interleaved([step(side, batch) for step in STEPS.values()], ROUNDS)
    yield ratio(f"training step {side}², batch {batch}, within the backward pass: {quick:.2f} s", slow / quick, faster)
    theirs, mine, more = (peak("train", who, side, batch) for who in STEPS)
    figure = f"{mine / 2**20:.0f} beside {theirs / 2**20:.0f} MiB, {mine / theirs:.2f}×"
    yield Row("… peak memory of the process", figure, f"≤ {smaller:g}×", mine / theirs <= smaller)
    figure = f"{usual:.2f} s, {slow / usual:.2f}×; {more / 2**20:.0f} MiB, {more / theirs:.2f}×"
    yield Row("… AdamW behind the backward pass", figure)


def textbook_step(side: int, batch: int) -> Step:
    model = textbook_of(vit(side).train())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=1e-4)
    pixels = picture(side, batch)

    def step() -> None:
        loss_of(pixels, *model(pixels)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(side: int, batch: int, stepping: Callable[..., AfterBackward | InBackward]) -> Step:
    model = vit(side).train()
    moving = stepping(model.parameters(), build_optimizers(AdamWSettings(), model))
    pixels = picture(side, batch)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            again = model(pixels[:, :, None])
        loss_of(pixels, again.pixels[:, :, 0], again.quantized).backward()
        moving.finish()

    return step


STEPS: dict[str, Callable[[int, int], Step]] = {
    "textbook": textbook_step,
    "ours": partial(our_step, stepping=InBackward),
    "behind": partial(our_step, stepping=partial(AfterBackward, clip=None)),
}


def loss_of(pixels: Tensor, again: Tensor, quantized: Quantized) -> Tensor:
    return nn.functional.mse_loss(again.float(), pixels) + 0.1 * quantized.terms.entropy


def product(dtype: torch.dtype) -> Step:
    """The fastest product of one shape that torch has: oneDNN's, of weights laid out for it beforehand."""
    rows_, inner, outer = PRODUCT
    x, weight = torch.randn(rows_, inner).to(dtype), torch.randn(outer, inner).to(dtype)
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return lambda: x @ weight.t()
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, rows_)
    return lambda: torch.ops.mkldnn._linear_pointwise(x, laid_out, None, "none", [], "")


def rate(seconds: float) -> float:
    """GFLOP/s of `product`."""
    rows_, inner, outer = PRODUCT
    return 2 * rows_ * inner * outer / seconds / 1e9


def flops(tokenizer: Tokenizer, side: int) -> float:
    """Of all products of encoding and decoding a picture."""
    tokens = (side // tokenizer.patch) ** 2
    of_weights = sum(p.numel() for n, p in tokenizer.named_parameters() if p.ndim == 2 and "positions" not in n)
    parts = (tokenizer.settings.encoder, tokenizer.settings.decoder)
    return 2.0 * tokens * of_weights + sum(4.0 * part.depth * tokens**2 * part.width for part in parts)


def ratio(name: str, factor: float, target: float) -> Row:
    return Row(name, f"{factor:.2f}×", f"≥ {target:g}×", factor >= target)


def peak(*words: object) -> int:
    """Peak bytes of a process that does what the words say."""
    command = [sys.executable, "-m", "benchmarks.tokenizer", *map(str, words), str(Depth.blocks)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def train(who: str, side: int, batch: int) -> int:
    """Peak bytes of this process after two steps."""
    step = STEPS[who](side, batch)
    step()
    step()
    return peak_bytes()


def main(words: list[str]) -> None:
    match words:
        case ["shallow", depth]:
            Depth.blocks = int(depth)
            Clock.of_one_thread()
            for row in rows():
                print(show(row), flush=True)
        case ["train", who, side, batch, *depth]:
            Depth.blocks = int(depth[0]) if depth else Depth.blocks
            print(train(who, int(side), int(batch)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
