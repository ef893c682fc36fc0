"""What a prior gains by the frame before. What enters: clips, a model, priors. What leaves: a table.

    python -m benchmarks clip_priors --clips videos.tar [--prior FOLDER …] [--also MODEL …] [-o FOLDER]

The codes of whole groups, as `bsq encode` writes them, under each prior twice: frame by frame, each as if it were a
picture of its own (a still prior), and with the frames before in sight (a temporal one). The ideal length, Σ −log2 p as
the coder sees p. `--also` sets other models beside, each with the priors of its own folder.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

import bsq
from benchmarks.kodak_priors import IdealBits, conversed_bits
from bsq.codec.shelf import learned_prior, named_model
from bsq.codes import Codes
from bsq.data.files import Existing, write_file
from bsq.data.pictures import to_pixels
from bsq.data.sources import open_source
from bsq.data.stored import Kind
from bsq.data.videos import open_video
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.freeze import load_prior
from bsq.tokenizer import Tokenizer


@dataclass(frozen=True)
class ClipPriorRow:
    """One prior at one number of bits; bits a token, means over all tokens of all clips."""

    model: str
    bits: int
    prior: str
    still: float  # every frame by itself
    temporal: float  # with the frames before it in sight

    @property
    def saved(self) -> float:
        """Of the still prior's bits, by sight of the frames before."""
        return 1 - self.temporal / self.still


HEAD = (
    "| model | bits | prior | still, bits a token | temporal | of raw | temporal beside still |\n"
    "|---|---:|---|---:|---:|---:|---:|"
)


def line(row: ClipPriorRow) -> str:
    cells = [row.model, row.bits, row.prior, f"{row.still:.3f}", f"{row.temporal:.3f}"]
    return f"| {' | '.join(map(str, cells))} | {row.temporal / row.bits - 1:+.1%} | {-row.saved:+.1%} |"


def read_clips(source: Sequence[str], frames: int, count: int | None) -> list[torch.Tensor]:
    """Pixels (1, 3, T, H, W) of the first `frames` frames of each video."""
    videos = open_source(tuple(source), Kind.VIDEOS)
    assert isinstance(videos, Sequence), "name folders, files or tars: clips are read more than once"
    clips = []
    for stored in videos[:count]:
        with open_video(stored.read()) as video:
            pictures = [to_pixels(frame.pixels)[0] for frame in islice(video, frames)]
        clips.append(torch.stack(pictures, 1)[None])
    return clips


def measure(
    name: str, model: Tokenizer, priors: dict[str, IdealBits], clips: Sequence[torch.Tensor], bits: Sequence[int]
) -> list[ClipPriorRow]:
    """All priors on the codes of all clips."""
    coded, rows = [model.encode(clip) for clip in clips], []
    for kept in sorted(set(bits)):
        for prior, ideal in priors.items():
            still, temporal, tokens = [], [], 0
            for codes in coded:
                first = codes.first(kept)
                frames = [Codes(frame, first.radices) for frame in first.digits.split(1, dim=1)]
                still.append(math.fsum(ideal(frame) for frame in frames))
                temporal.append(ideal(first))
                tokens += int(np.prod(first.shape[:-1]))
            rows.append(ClipPriorRow(name, kept, prior, math.fsum(still) / tokens, math.fsum(temporal) / tokens))
            print(line(rows[-1]), flush=True)
    return rows


def main(arguments: Sequence[str]) -> list[ClipPriorRow]:
    """The table of these arguments, printed as it grows."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    clips = read_clips(options.clips, options.frames, options.count)
    print(f"{len(clips)} clips of up to {options.frames} frames\n\n{HEAD}", flush=True)
    rows = []
    for name in (options.model, *options.also):
        model = named_model(name)
        own = learned_prior(model)
        priors = {"adaptive": conversed_bits(AdaptivePrior())} | (
            {} if own is None else {"learned": conversed_bits(own)}
        )
        if name == options.model:
            priors |= {folder.name: conversed_bits(load_prior(folder)) for folder in options.prior}
        rows += measure(Path(name).name, model, priors, clips, options.bits)
    if options.output is not None:
        content = {"bsq": bsq.__version__, "clips": len(clips), "rows": [asdict(row) for row in rows]}
        text = "\n".join([HEAD, *map(line, rows), ""])
        for file, body in (("clip_priors.json", json.dumps(content, indent=1) + "\n"), ("clip_priors.md", text)):
            write_file(options.output / file, body.encode(), Existing.REPLACE)
    return rows


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks clip_priors")
    parser.add_argument("--clips", nargs="+", required=True, help="videos: folders, files, tars")
    parser.add_argument("--model", default="biscuit-s", help="bundled name or folder")
    parser.add_argument("--prior", type=Path, nargs="*", default=[], metavar="FOLDER", help="more priors of its codes")
    parser.add_argument("--also", nargs="*", default=[], metavar="MODEL", help="other models, each with its own prior")
    parser.add_argument("--bits", type=int, nargs="+", default=(9, 18, 36))
    parser.add_argument("--frames", type=int, default=24, help="of a clip: a group")
    parser.add_argument("--count", type=int, help="only the first so many clips")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="receives clip_priors.json and .md")
    return parser.parse_args(arguments)
