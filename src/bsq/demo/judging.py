"""Numbers beside pictures. What enters: work and its reconstruction. What leaves: scores, and rivals at the same bytes.

Pictures that are too large to be measured whole in a moment are measured in the middle, coded on its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from bsq.bench.classical import AvifSettings, Jpeg2000Settings, JpegSettings, WebpSettings, classical_codec
from bsq.bench.sweep import Judge, Picture, Scores, sweep
from bsq.demo.coding import Choice, Work, begin, code, reconstruct
from bsq.demo.material import Bounds, Material, middle
from bsq.errors import BsqError
from bsq.frozen import load_lpips
from bsq.metrics import bits_per_pixel
from bsq.metrics.reconstruction import Distance
from bsq.tokenizer import Tokenizer

MEASURED_FRAMES = 6
RIVALS = (JpegSettings(), WebpSettings(), Jpeg2000Settings(), AvifSettings())


@dataclass(frozen=True, eq=False)
class Row:
    """A file of the picture: `size` the bytes it is charged for. Without `scores` it cannot be made, and `why` says so.

    `over` says that even the codec's smallest file is larger than ours.
    """

    label: str
    size: int
    bits_per_pixel: float
    scores: Scores | None
    pixels: np.ndarray | None
    over: bool = False
    why: str = ""


def part_measured(work: Work, bounds: Bounds) -> Work:
    """The work itself, or one on the middle of a picture that is larger than the page measures."""
    if work.material.is_clip:
        return work
    whole = work.material.frames[0]
    part = middle(whole, bounds.measured)
    return work if part is whole else begin(replace(work.material, frames=(part,)), work.model, work.decoders)


def score(wanted: Sequence[np.ndarray], shown: Sequence[np.ndarray]) -> Scores:
    """How close frames are to those wanted; of a clip the means over some of them."""
    step = math.ceil(len(wanted) / MEASURED_FRAMES)
    pairs = list(zip(wanted, shown, strict=True))[::step]
    judged = [Judge(Picture("", frame), perceptual()).scores(again) for frame, again in pairs]
    return Scores(
        psnr=math.fsum(one.psnr for one in judged) / len(judged),
        ms_ssim=_mean([one.ms_ssim for one in judged]),
        lpips=_mean([one.lpips for one in judged]),
    )


def compare(part: Work, choice: Choice) -> Iterator[Row]:
    """A picture as it was asked for, and in each classical codec's largest file that has no more bytes, one by one."""
    picture = part.material.frames[0]
    judge, height, width = Judge(Picture(part.material.name, picture), perceptual()), *picture.shape[:2]
    stream, (again,) = code(part, choice).stream, reconstruct(part, choice)
    budget = len(stream)
    yield Row("bsq", budget, bits_per_pixel(budget, height, width), judge.scores(again), again)
    for settings in RIVALS:
        label: str = settings.kind
        try:
            codec = classical_codec(settings, os.cpu_count() or 1)
            label = codec.label
            (written,) = sweep(judge, codec, [budget])
        except BsqError as error:
            yield Row(label, 0, 0.0, None, None, why=str(error))
            continue
        result = written.result
        scores = Scores(result.psnr, result.ms_ssim, result.lpips)
        yield Row(label, result.bytes, result.bits_per_pixel, scores, written.pixels, result.over_budget)


@cache
def perceptual() -> Distance:
    """LPIPS with SqueezeNet, which comes with the package."""
    return load_lpips("squeeze").distance


def warm_up(model: Tokenizer) -> None:
    """Load what the first request would otherwise wait for."""
    blank = Material("blank", (np.full((64, 64, 3), 127, np.uint8),), None, ())
    work = begin(blank, model)
    code(work, Choice(1))
    score(blank.frames, reconstruct(work, Choice(1)))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None
