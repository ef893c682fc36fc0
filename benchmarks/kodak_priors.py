"""What each prior makes of the same codes, at several numbers of bits. What enters: pictures, priors. Leaves: a table.

    python -m benchmarks kodak_priors --pictures kodak/ [--masked RUN] [--causal RUN] [-o FOLDER]

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

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import bsq
from bsq.bench.codecs import pictures_in
from bsq.codec.picture import describe
from bsq.codec.shelf import learned_prior, named_model
from bsq.codec.stream import write_codes
from bsq.codes import Codes
from bsq.data.files import Existing, write_file
from bsq.data.pictures import open_picture, to_pixels
from bsq.errors import CheckpointError
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.base import TOTAL_FREQUENCY, Grid, Prior
from bsq.prior.causal import CausalPrior, CausalSettings
from bsq.prior.freeze import SETTINGS_FILE, freeze, read_record
from bsq.prior.layout import code_bits
from bsq.prior.masked import MaskedPrior, MaskedSettings, input_channels
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

    def ideal(codes: Codes) -> float:
        _, frames, height, width, _ = codes.digits.shape
        digits = codes.digits.reshape(frames * height * width, -1).numpy()
        conversation, total = prior.converse(Grid(frames, height, width), codes.radices), 0.0
        question = next(conversation, None)
        while question is not None:
            answer = digits[question.tokens, question.digit].astype(np.int64)
            given = np.asarray(question.frequencies, np.float64)
            if codes.radices[question.digit] == 2 and given.ndim == 1:
                chances = np.where(answer == 1, given, TOTAL_FREQUENCY - given)
            else:
                chances = np.take_along_axis(np.broadcast_to(given, (len(answer), given.shape[-1])), answer[:, None], 1)
            total -= float(np.log2(chances / TOTAL_FREQUENCY).sum())
            try:
                question = conversation.send(answer)
            except StopIteration:
                question = None
        return total

    return ideal


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


def contenders(model: Tokenizer, masked: Path | None, causal: Path | None, head_width: int) -> list[Contender]:
    """Every prior there is for this model."""
    priors: list[tuple[str, Prior]] = [("raw", UniformPrior()), ("adaptive", AdaptivePrior())]
    exact = learned_prior(model)
    if exact is not None:
        priors.append(("learned, exact", exact))
    if masked is not None:
        float_prior = load_masked(masked, model.radices)
        priors += [("masked, float", float_prior), ("masked, frozen", freeze(float_prior))]
    found = [Contender(name, prior, conversed_bits(prior)) for name, prior in priors]
    if causal is not None:
        prior = load_causal(causal, model.radices, head_width)
        found.append(Contender("causal, float", prior, forward_bits(prior)))
    return found


def load_masked(run: Path, radices: tuple[int, ...]) -> MaskedPrior:
    """The float prior of a run: shape by its tensors; layers and passes by prior.json beside it, else the defaults."""
    tensors = run_tensors(run)
    beside = (run if run.is_dir() else run.parent) / SETTINGS_FILE
    base = MaskedSettings.model_validate(read_record(beside.parent)["settings"]) if beside.exists() else None
    base = base or MaskedSettings(radices=radices)
    changed = {
        "radices": radices,
        "width": len(tensors["window.bias"]),
        "chain_width": len(tensors["condition_head.bias"]),
        "blocks": sum(name.startswith("mixes.") and name.endswith(".bias") for name in tensors),
        "window": math.isqrt(tensors["window.weight"].shape[1] // input_channels(base.layout())),
    }
    return fill(MaskedPrior(MaskedSettings.model_validate(base.model_dump() | changed)), tensors, run)


def load_causal(run: Path, radices: tuple[int, ...], head_width: int) -> CausalPrior:
    """The causal prior of a run; the width of its heads leaves no trace in the tensors, so it must be told."""
    tensors = run_tensors(run)
    settings = CausalSettings(
        radices=radices,
        width=len(tensors["start"]),
        depth=sum(name.endswith("attention_norm.weight") for name in tensors),
        head_width=head_width,
        chain_width=len(tensors["condition_head.bias"]),
    )
    return fill(CausalPrior(settings), tensors, run)


def run_tensors(run: Path) -> dict[str, torch.Tensor]:
    """The prior's tensors of a run, by their names in the prior."""
    path = run / RUN_FILE if run.is_dir() else run
    try:
        tensors = load_file(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"no training run of a prior at {path}: {error}") from error
    return {name.removeprefix("prior."): tensor for name, tensor in tensors.items() if name.startswith("prior.")}


def fill(prior, tensors: dict[str, torch.Tensor], run: Path):
    """The prior with these weights, ready to be asked."""
    try:
        prior.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"the run at {run} holds no such prior: {error}") from error
    return prior.eval()


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
    everyone = contenders(model, options.masked, options.causal, options.head_width)
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
    parser.add_argument("--masked", type=Path, metavar="RUN", help="run of train_masked: run.safetensors or its folder")
    parser.add_argument("--causal", type=Path, metavar="RUN", help="run of train_causal, likewise")
    parser.add_argument("--head-width", type=int, default=64, help="of the causal prior's heads")
    parser.add_argument("--bits", type=int, nargs="+", default=(9, 18, 27, 36))
    parser.add_argument(
        "--files", type=int, default=1, help="real files of float priors: of the first so many pictures"
    )
    parser.add_argument("--first", type=int, help="only the first so many pictures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="receives priors.json and priors.md")
    return parser.parse_args(arguments)
