"""An evaluation as the paper's tables. What enters: an `Evaluation`. What leaves: a `Report` of one form of table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bsq.data.stored import Kind
from bsq.evaluate.charts import bars, quality_over_rate
from bsq.evaluate.lines import (
    BITS,
    BITS_PER_PIXEL,
    CODE_USE,
    MS_SSIM_3,
    MS_SSIM_DB,
    PARAMETERS,
    PSNR,
    SPEED,
    SSIM,
    Form,
    Line,
    Measure,
    frechet,
    line,
    lpips,
)
from bsq.evaluate.published import ORIGIN
from bsq.evaluate.report import Report, given
from bsq.evaluate.run import Evaluation, SystemResult
from bsq.evaluate.settings import EvaluationSettings
from bsq.evaluate.sheet import contact_sheet
from bsq.evaluate.systems.codecs import AtRate, LikeSystem
from bsq.evaluate.systems.names import shown_path, shown_spec
from bsq.evaluate.tally import SystemScores

TOKEN_PIXELS = 64  # of 8×8 pixels, the token of the paper's systems
CONTACT_SHEET, CHART = "contact_sheet.webp", "chart.png"


def report_of(evaluation: Evaluation, form: Form, beside: tuple[Line, ...] = ()) -> Report:
    """`beside` are published lines."""
    lines = (*(measured_line(one, evaluation, form) for one in evaluation.systems), *beside)
    settings = evaluation.settings
    data = ", ".join(shown_path(source) for source in settings.data)
    word = "clips" if settings.kind is Kind.VIDEOS else "pictures"
    pictures = {CONTACT_SHEET: contact_sheet(evaluation), CHART: charted(form)(lines)}
    return Report(
        title=f"{form.value} on {data}: {evaluation.samples} {word}, protocol {settings.protocol.name}",
        lines=lines,
        notes=notes(evaluation, bool(beside)),
        content=content(evaluation),
        pictures={name: data for name, data in pictures.items() if data is not None},
    )


def measured_line(result: SystemResult, evaluation: Evaluation, form: Form) -> Line:
    """What that form of table shows. Of random weights only what does not depend on them."""
    rate = rate_of(result)
    costs = {
        PARAMETERS: None if result.parameters is None else result.parameters / 1e6,
        BITS: None if form is Form.COMPRESSION or rate is None else rate * TOKEN_PIXELS,
        BITS_PER_PIXEL: rate,
        SPEED: None if result.speed is None else result.speed.frames_per_second,
    }
    scores, notes = result.scores, "; ".join(result.notes)
    if scores is None:
        return line(f"{result.name} ({notes})", costs.items(), remark=notes)
    quality = scores.quality
    values: dict[Measure, float | None] = {
        PSNR: quality.psnr,
        SSIM: quality.ssim,
        MS_SSIM_DB: quality.ms_ssim_db,
        MS_SSIM_3: scores.ms_ssim_3 if form is Form.VIDEO else None,
        lpips(evaluation.settings.lpips): quality.lpips,
        frechet_measure(evaluation): scores.frechet,
        CODE_USE: code_use_percent(scores) if form is Form.RECONSTRUCTION else None,
    }
    return line(result.name, (*costs.items(), *values.items()), remark=notes)


def rate_of(result: SystemResult) -> float | None:
    """Bits per pixel: mean over all samples, or, of random weights, over those timed."""
    if result.scores is not None:
        return result.scores.bits_per_pixel
    return None if result.speed is None else result.speed.bits_per_pixel


def frechet_measure(evaluation: Evaluation) -> Measure:
    settings = evaluation.settings
    return frechet("rFVD" if settings.kind is Kind.VIDEOS else "rFID", settings.features, evaluation.label)


def code_use_percent(scores: SystemScores) -> float | None:
    """Of the codes that so many tokens could use at most."""
    use = scores.code_use
    if use is None or use.index is None:
        return None
    return 100 * use.index.used / min(use.index.codebook_size, use.tokens)


def entropy_words(result: SystemResult) -> list[str]:
    """Of codebooks too large to count code by code."""
    if result.scores is None or result.scores.joint_entropy is None or result.scores.code_use is None:
        return []
    joint, use = result.scores.joint_entropy, result.scores.code_use
    size = math.fsum(math.log2(radix) for radix in use.radices)
    return [
        f"{result.name}: joint entropy of its codes of {size:.1f} bits about {joint.chao_shen_bits:.2f} bits (Chao and "
        f"Shen), at most {joint.described_bits:.2f} by a description of them, {use.marginal_entropy_bits:.2f} were the "
        f"digits independent; {joint.note}."
    ]


def charted(form: Form) -> Callable[[tuple[Line, ...]], bytes | None]:
    match form:
        case Form.RECONSTRUCTION | Form.VIDEO | Form.GENERATION:
            return bars
        case Form.COMPRESSION:
            return quality_over_rate
        case _:
            raise AssertionError(form)


def notes(evaluation: Evaluation, has_published: bool) -> tuple[str, ...]:
    """How everything was measured, and what a reader must know."""
    settings, protocol = evaluation.settings, evaluation.settings.protocol
    told = [f"Protocol {protocol.name}: {', '.join(steps(settings))}."]
    if protocol.remarks:
        told.append(f"{protocol.remarks[0].upper()}{protocol.remarks[1:]}.")
    if protocol.samples is not None and evaluation.samples != protocol.samples:
        told.append(
            f"{evaluation.samples:,} samples instead of the {protocol.samples:,} of {protocol.reference}: not the "
            "published setting."
        )
    told.append(
        "PSNR, SSIM and MS-SSIM (pytorch-msssim defaults; MS-SSIM-3 of its first three scales) of each picture or "
        "frame in 0 … 255, then means; MS-SSIM in dB is −10·log10(1 − mean). Codes used: of those that "
        "so many tokens could use."
    )
    told += [f"{words}." for words in evaluation.networks]
    told.append(
        "Bits: log2 of the codebook for each token; 16 for each number of a continuous latent; all bytes of a .bsq "
        "file (+prior); the coded data of other codecs' files. bits / 8×8 is 64 times bpp."
    )
    told += speed_words(evaluation)
    told += [f"{one.name}: {one.description}; bits are {one.currency}." for one in evaluation.systems]
    told += [words for one in evaluation.systems for words in entropy_words(one)]
    told += over_their_rate(evaluation)
    if has_published:
        told.append(f"Rows marked (published) were not measured here: {ORIGIN.removeprefix('published, ')}.")
    if evaluation.refused:
        told.append(f"Left out: {'; '.join(map(str, evaluation.refused))}.")
    return tuple(told)


def steps(settings: EvaluationSettings) -> list[str]:
    """For reports: what is done to a sample before and after a system sees it."""
    protocol = settings.protocol
    told = []
    if settings.kind is Kind.VIDEOS:
        rate = "the video's own rate" if protocol.frame_rate is None else f"{protocol.frame_rate:g} a second"
        told.append(f"the middle {protocol.frames} frames at {rate}")
    if protocol.short_side is not None:
        told.append(f"short side {protocol.short_side} by Pillow's {protocol.resize}")
    told.append("own size" if protocol.crop is None else f"the central {protocol.crop}×{protocol.crop}")
    told.append("reconstructions not rounded" if protocol.rounding == "none" else "reconstructions rounded to 8 bits")
    return told


def over_their_rate(evaluation: Evaluation) -> list[str]:
    """Codecs whose smallest files are above what they are held to."""
    rates = {one.name: rate_of(one) or 0.0 for one in evaluation.systems}
    told = []
    for one in evaluation.systems:
        match one.aim:
            case LikeSystem(leader):
                limit = rates[shown_spec(leader)]
            case AtRate(limit):
                pass
            case _:
                continue
        if rates[one.name] > limit:
            told.append(
                f"{one.name} is at {rates[one.name]:.4f} bpp, above the {limit:.4f} it is held to: the smallest file "
                "of some pictures is larger."
            )
    return told


def speed_words(evaluation: Evaluation) -> list[str]:
    """For reports: how speed was measured; nothing if it was not."""
    speed = next((one.speed for one in evaluation.systems if one.speed is not None), None)
    if speed is None:
        return []
    settings = evaluation.settings
    return [
        f"img/s: encoding and decoding, batches of {speed.batch}, median of {speed.rounds} rounds over {speed.samples} "
        f"samples, all systems by turns in one process on {settings.device} with {settings.threads} thread"
        f"{'s' * (settings.threads > 1)}; the search for a codec's rate is left out."
    ]


def content(evaluation: Evaluation) -> dict[str, Any]:
    """What JSON holds beside the lines."""
    return {
        "settings": evaluation.settings.for_reports(),
        "samples": evaluation.samples,
        "networks": list(evaluation.networks),
        "systems": [
            {
                "name": one.name,
                "description": one.description,
                "bits_are": one.currency,
                "parameters": one.parameters,
                "notes": list(one.notes),
                "scores": given(one.scores),
                "speed": given(one.speed),
            }
            for one in evaluation.systems
        ],
        "left_out": [given(one) for one in evaluation.refused],
    }
