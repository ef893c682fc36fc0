"""What each prior makes of the same codes, at several numbers of bits. What enters: pictures, priors. Leaves: a table.

    python -m benchmarks kodak_priors --pictures kodak/ [--run RUN...] [-o FOLDER]

Raw, adaptive and the model's exact learned prior, and of training runs (`bsq.prior.train`: a run.safetensors, or the
folder that holds it) the float masked prior, what it becomes in integers, and a causal one. For each the ideal length,
the sum of −log2 p as the coder sees p, and the bytes of real `.bsq` files.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

import bsq
from bsq.bench.codecs import pictures_in
from bsq.codec.shelf import learned_prior, named_model
from bsq.codec.stream import write_codes
from bsq.codec.writer import describe
from bsq.codes import Codes
from bsq.data.files import Existing, write_file
from bsq.data.pictures import open_picture, to_pixels
from bsq.errors import CheckpointError
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.base import Prior
from bsq.prior.causal import CausalPrior
from bsq.prior.freeze import freeze
from bsq.prior.layout import code_bits
from bsq.prior.lengths import digit_lengths
from bsq.prior.masked import MaskedPrior
from bsq.prior.resume import Trained, load_trained
from bsq.prior.uniform import UniformPrior
from bsq.tokenizer import Tokenizer

RUN_FILE = "run.safetensors"
IdealBits = Callable[[Codes], float]


@dataclass(frozen=True)
class Contender:
    """A prior, and how its ideal length is found."""

    name: str
    prior: Prior
    ideal: IdealBits


@dataclass(frozen=True)
class PriorRow:
    """One prior at one number of bits: means over pictures; files may be of fewer pictures."""

    bits: int
    prior: str
    raw_bits_per_pixel: float
    ideal_bits_per_pixel: float
    file_bits_per_pixel: float | None  # mean over `files` pictures
    ideal_of_files: float | None  # the ideal length of those same pictures
    files: int
    seconds: float  # a picture, for the ideal length


@dataclass(frozen=True)
class Sample:
    """A picture's codes and size."""

    codes: Codes
    height: int
    width: int


def conversed_bits(prior: Prior) -> IdealBits:
    """Σ −log2 p over the prior's whole conversation, p as the integers that the coder is given."""
    return lambda codes: float(digit_lengths(prior, codes).sum())


def forward_bits(prior: CausalPrior) -> IdealBits:
    """The same of a causal prior in one pass instead of one a token (p not rounded to integers); binary digits only."""

    @torch.no_grad()
    def ideal(codes: Codes) -> float:
        signs = torch.zeros(*codes.digits.shape[:-1], prior.layout.bits)
        kept = codes.digits.shape[-1]
        signs[..., :kept] = torch.from_numpy(code_bits(codes.digits.numpy(), codes.radices)).float() * 2 - 1
        logits = prior(signs)[..., :kept].double()
        return float(F.softplus(-logits * signs[..., :kept]).sum() / math.log(2))

    return ideal


def contenders(model: Tokenizer, runs: Sequence[Path]) -> list[Contender]:
    """Every prior there is for this model: those that need no training, its own, and those of training runs."""
    priors: list[tuple[str, Prior]] = [("raw", UniformPrior()), ("adaptive", AdaptivePrior())]
    exact = learned_prior(model)
    if exact is not None:
        priors.append(("learned, exact", exact))
    found = [Contender(name, prior, conversed_bits(prior)) for name, prior in priors]
    for run in runs:
        match trained_prior(run, model.radices):
            case MaskedPrior() as prior:
                both = {"masked, float": prior, "masked, frozen": freeze(prior)}
                found += [Contender(name, one, conversed_bits(one)) for name, one in both.items()]
            case prior:
                found.append(Contender("causal, float", prior, forward_bits(prior)))
    return found


def trained_prior(run: Path, radices: tuple[int, ...]) -> Trained:
    """The float prior of a run: run.safetensors, or the folder that holds it."""
    prior = load_trained(run / RUN_FILE if run.is_dir() else run)
    if prior.settings.radices != radices:
        raise CheckpointError(f"the run at {run} models other codes than this tokenizer's")
    return prior


def measure(
    model: Tokenizer, samples: Sequence[Sample], everyone: Sequence[Contender], bits: Sequence[int], files: int
) -> list[PriorRow]:
    """All priors on all pictures; files of those that are not portable, hence slow, of the first `files` only."""
    rows = []
    for kept in sorted(set(bits)):
        for one in everyone:
            raw, ideal, written, seconds = [], [], [], []
            for number, sample in enumerate(samples):
                codes, pixels = sample.codes.first(kept), sample.height * sample.width
                start = time.process_time()
                ideal.append(one.ideal(codes) / pixels)
                seconds.append(time.process_time() - start)
                raw.append(codes.digits[..., 0].numel() * kept / pixels)
                if one.prior.portable or number < files:
                    info = describe(model, sample.height, sample.width, kept)
                    written.append(8 * len(write_codes(codes, info, one.prior)) / pixels)
            same = ideal[: len(written)]
            means = [math.fsum(values) / len(values) if values else None for values in (raw, ideal, written, same)]
            rows.append(PriorRow(kept, one.name, *means, len(written), math.fsum(seconds) / len(seconds)))
            print(line(rows[-1], len(samples)), flush=True)
    return rows


HEAD = "| bits | prior | raw bpp | ideal bpp | file bpp | of raw | CPU s |\n|---:|---|---:|---:|---:|---:|---:|"


def line(row: PriorRow, pictures: int) -> str:
    """A row of the table; files of fewer pictures stand beside the ideal length of the same ones."""
    file = "–" if row.file_bits_per_pixel is None else f"{row.file_bits_per_pixel:.4f}"
    if 0 < row.files < pictures:
        file += f" (first {row.files}; ideal {row.ideal_of_files:.4f})"
    saved = row.ideal_bits_per_pixel / row.raw_bits_per_pixel - 1
    cells = [row.bits, row.prior, f"{row.raw_bits_per_pixel:.4f}", f"{row.ideal_bits_per_pixel:.4f}", file]
    return f"| {' | '.join(map(str, cells))} | {saved:+.1%} | {row.seconds:.2f} |"


def main(arguments: Sequence[str]) -> list[PriorRow]:
    """The table of these arguments, printed as it grows."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    model = named_model(options.model)
    everyone = contenders(model, options.run)
    samples = []
    for path in pictures_in(options.pictures)[: options.first]:
        pixels = to_pixels(open_picture(path))
        samples.append(Sample(model.encode(pixels), *pixels.shape[-2:]))
    print(f"{len(samples)} pictures of {options.pictures.resolve().name}, {options.model}\n\n{HEAD}", flush=True)
    rows = measure(model, samples, everyone, options.bits, options.files)
    if options.output is not None:
        content = {"bsq": bsq.__version__, "pictures": len(samples), "rows": [asdict(row) for row in rows]}
        text = "\n".join([HEAD, *(line(row, len(samples)) for row in rows), ""])
        for name, body in (("priors.json", json.dumps(content, indent=1) + "\n"), ("priors.md", text)):
            write_file(options.output / name, body.encode(), Existing.REPLACE)
    return rows


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks kodak_priors")
    parser.add_argument("--pictures", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--model", default="biscuit-s", help="bundled name or folder")
    parser.add_argument(
        "--run", type=Path, nargs="*", default=[], help="of training priors: run.safetensors, its folder"
    )
    parser.add_argument("--bits", type=int, nargs="+", default=(9, 18, 27, 36))
    parser.add_argument(
        "--files", type=int, default=1, help="real files of float priors: of the first so many pictures"
    )
    parser.add_argument("--first", type=int, help="only the first so many pictures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="receives priors.json and priors.md")
    return parser.parse_args(arguments)
