"""Train the learned prior of a tokenizer on its codes of photographs, freeze it to integers, put it beside the model.

    python examples/train_prior.py MODEL 'pictures/*.tar' --clips 'videos/*.tar' --minutes 20

MODEL is a model's folder; `prior.safetensors` and `prior.json` are written into it (or --out). With --clips the prior
learns from clips as well, and to expect a frame from the one before it. A run that was cut off goes on where it was
when the same command is given again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

import bsq
from bsq.data.clips import ClipSettings
from bsq.data.dataset import TrainingData, to_pixels
from bsq.data.loader import DataSettings, open_dataset
from bsq.prior.causal import CausalSettings
from bsq.prior.freeze import freeze, save_prior
from bsq.prior.masked import MaskedSettings
from bsq.prior.train import PriorProgress, PriorTrainingSettings, train_causal, train_masked
from bsq.tokenizer import Tokenizer

CONSOLE = Console(highlight=False)


def main() -> None:
    options = parse()
    tokenizer = bsq.load(str(options.model)).eval()
    torch.set_num_threads(options.threads)
    # A run belongs to one tokenizer: codes of another must never be mixed in.
    work = options.work / f"{options.model.name}-prior-{tokenizer.code_hash[:12]}"
    work.mkdir(parents=True, exist_ok=True)
    data = DataSettings(source=tuple(options.source), crop=options.crop, zoom=(options.zoom, 1.0), flip=0.5)
    digits = [collect(tokenizer, open_dataset(data, seed=0), options.crops, work / "codes.npy")]
    if options.clips:
        clips = ClipSettings(source=tuple(options.clips), frames=options.clip_frames, frame_rate=options.clip_rate)
        films = DataSettings(clips=clips, crop=options.clip_crop, zoom=(options.zoom, 1.0), flip=0.5)
        digits.append(collect(tokenizer, open_dataset(films, seed=0), options.clip_count, work / "clip-codes.npy"))
    training = PriorTrainingSettings(
        minutes=options.minutes, batch=options.batch, crop=digits[0].shape[2], learning_rate=options.learning_rate
    )
    run = work / f"{options.kind}.safetensors"
    if options.kind == "causal":
        causal = CausalSettings(
            radices=tokenizer.radices, width=options.width, depth=options.blocks, chain_width=options.chain_width
        )
        train_causal(digits[0], causal, training, show, run)
        CONSOLE.print(f"the causal prior, which is for comparison only, is in {run}")
        return
    settings = MaskedSettings(
        radices=tokenizer.radices,
        blocks=options.blocks,
        width=options.width,
        chain_width=options.chain_width,
        earlier_frames=1 if options.clips else 0,
    )
    exact = freeze(train_masked(digits, settings, training, show, run))
    counts = " and ".join(f"{len(one):,} {word}" for one, word in zip(digits, ("crops", "clips"), strict=False))
    notes = f"{options.minutes:g} minutes on {counts}; {options.notes}".strip("; ")
    save_prior(exact, options.out or options.model, code_hash=tokenizer.code_hash, notes=notes)
    CONSOLE.print(f"prior {exact.identity.hex()} is in {options.out or options.model}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of the tokenizer")
    parser.add_argument("source", nargs="+", help="folders, tars, pictures or globs of them")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--clips", nargs="+", default=[], help="folders, tars or globs of videos to learn from as well")
    parser.add_argument("--crops", type=int, default=3000, help="crops to encode before training")
    parser.add_argument("--clip-count", type=int, default=1000, help="clips to encode before training")
    parser.add_argument("--clip-frames", type=int, default=8, help="frames of a clip")
    parser.add_argument("--clip-rate", type=float, default=12.0, help="frames a second")
    parser.add_argument("--clip-crop", type=int, default=144, help="side of a clip in pixels")
    parser.add_argument("--crop", type=int, default=256, help="their side in pixels")
    parser.add_argument("--zoom", type=float, default=0.42, help="least zoom; 1 shows pictures at their own size")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--kind", choices=["masked", "causal"], default="masked", help="causal: the paper's, to compare"
    )
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--chain-width", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, help="folder for the prior; default: the model's")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder for codes and the unfinished run")
    parser.add_argument("--threads", type=int, default=2, help="fewer on a busy machine: waiting threads cost much")
    parser.add_argument("--notes", default="", help="sources of the data, for the record")
    return parser.parse_args()


@torch.no_grad()
def collect(tokenizer: Tokenizer, dataset: TrainingData, count: int, kept: Path) -> torch.Tensor:
    """Digits (count, T, h, w, L) uint8 of random crops or clips; kept in a file, because encoding takes minutes."""
    if kept.exists():
        return torch.from_numpy(np.load(kept))
    digits = []
    for position in track(range(count), f"encoding {kept.stem}", console=CONSOLE):
        pixels = to_pixels(dataset[position].pixels[None])
        # A few bits in a thousand differ in bfloat16: nothing to a model of their statistics, and twice as fast.
        with torch.autocast("cpu", torch.bfloat16):
            digits.append(tokenizer.encode(pixels).digits)
    joined = torch.cat(digits)
    np.save(kept, joined.numpy())
    return joined


def show(progress: PriorProgress, _: torch.nn.Module) -> None:
    layers = " ".join(f"{bits:5.2f}" for bits in progress.layer_bits)
    CONSOLE.print(
        f"{progress.minutes:6.2f} min  step {progress.step:5d}  rate {progress.learning_rate:.5f}  "
        f"bits a token {progress.bits:6.3f} = {layers}"
    )


if __name__ == "__main__":
    main()
