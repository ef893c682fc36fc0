"""Numbers as the page writes them. What enters: results. What leaves: HTML, in which nothing of an upload is markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import numpy as np

from bsq.bench.sweep import Scores
from bsq.codec.measure import StreamParts, inspect
from bsq.demo.drawing import HEAT
from bsq.demo.judging import Row
from bsq.demo.material import Material
from bsq.errors import BsqError
from bsq.metrics import decibels

NO_MEMORY = re.compile("(can't|cannot) allocate memory|out of memory")  # PyTorch has no error of its own on CPUs
TOO_SMALL = "–"


def plain(error: BaseException) -> str:
    """An error in plain words, without a traceback."""
    if isinstance(error, BsqError):
        return escape(str(error))
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))):
        return "There is not enough memory for this; try a smaller picture."
    return f"This is a bug in bsq: {escape(type(error).__name__)}: {escape(str(error))}. The page goes on."


def count_bytes(count: int) -> str:
    """8,412 bytes."""
    return f"{count:,} byte{'' if count == 1 else 's'}"


def figures(file_bytes: int, bits_per_pixel: float, scores: Scores | None) -> str:
    """The numbers of a file as cards; scores that are not known yet, or cannot be, are dashes."""
    cards = [("File", f"{file_bytes:,}", "bytes"), ("Rate", f"{bits_per_pixel:.3f}", "bits / pixel")]
    psnr, ms_ssim, lpips = score_cells(scores)
    cards += [("PSNR", psnr, "dB"), ("MS-SSIM", ms_ssim, "dB"), ("LPIPS", lpips, "squeeze")]
    return "<div class='bsq-cards'>" + "".join(_card(*card) for card in cards) + "</div>"


def _card(name: str, value: str, unit: str) -> str:
    return f"<div class='bsq-card'><span>{name}</span><b data-name='{name}'>{value}</b><small>{unit}</small></div>"


def score_cells(scores: Scores | None) -> tuple[str, str, str]:
    """PSNR in dB, MS-SSIM in dB, LPIPS."""
    if scores is None:
        return (TOO_SMALL,) * 3
    return (
        f"{scores.psnr:.2f}",
        TOO_SMALL if scores.ms_ssim is None else f"{decibels(scores.ms_ssim):.2f}",
        TOO_SMALL if scores.lpips is None else f"{scores.lpips:.4f}",
    )


def comparison(rows: Sequence[Row]) -> str:
    """A table of files of one picture; the best number of each column is bold."""
    heads = ("", "bytes", "bpp", "PSNR dB", "MS-SSIM dB", "LPIPS")
    best = [_best(rows, name) for name in ("psnr", "ms_ssim", "lpips")]
    lines = []
    for row in rows:
        if row.scores is None:
            lines.append(f"<td>{escape(row.label)}</td><td colspan='5' class='bsq-quiet'>{escape(row.why)}</td>")
            continue
        cells = [
            f"<b>{cell}</b>" if row.scores is top else cell
            for cell, top in zip(score_cells(row.scores), best, strict=True)
        ]
        size = f"{row.size:,}{'<sup>+</sup>' if row.over else ''}"
        cells = [escape(row.label), size, f"{row.bits_per_pixel:.3f}", *cells]
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    table = "".join(f"<th>{head}</th>" for head in heads)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    more = "<sup>+</sup> its smallest file is larger. " if any(row.over for row in rows) else ""
    note = (
        f"<p class='bsq-quiet'>{more}Each codec's largest file that has no more bytes than ours; they are charged for "
        "their coded data alone, ours for all of the file. LPIPS: less is better.</p>"
    )
    return f"<table class='bsq-table'><tr>{table}</tr>{body}</table>{note}"


def _best(rows: Sequence[Row], name: str) -> Scores | None:
    known = [row.scores for row in rows if row.scores is not None and getattr(row.scores, name) is not None]
    pick = min if name == "lpips" else max
    return pick(known, key=lambda scores: getattr(scores, name)) if known else None


def told_material(material: Material) -> str:
    """What was dropped, and what was done to it."""
    height, width = material.size
    told = f"<b>{escape(material.name)}</b> · {width} × {height} pixels"
    if material.rate is not None:
        told += f" · {len(material.frames)} frames, {float(material.rate):.4g} a second"
    notes = "".join(f"<br>{escape(note)}" for note in material.notes)
    return f"<div class='bsq-quiet'>{told}{notes}</div>"


def told_costs(costs: np.ndarray, stream: bytes) -> str:
    """The legend of a map of costs (T, h, w)."""
    ramp, parts = ", ".join(f"rgb{colour}" for colour in HEAT), inspect(stream)
    which = "adaptive" if parts.prior == "adaptive" else "learned"
    lacking = f", {count_bytes(parts.extra)} of it for what larger parts lack" if parts.extra else ""
    return (
        f"<div class='bsq-legend'><span>{costs.min():.1f}</span>"
        f"<i style='background: linear-gradient(90deg, {ramp})'></i><span>{costs.max():.1f} bits a token</span></div>"
        f"<p class='bsq-quiet'>What the {which} prior asks for each token, {costs.mean():.2f} bits on average: "
        f"{count_bytes(round(costs.sum() / 8))} in all; the file has {count_bytes(len(stream))}{lacking}.</p>"
    )


def told_planes(bits: int, length: int) -> str:
    return (
        f"<p class='bsq-quiet'>One small map for each bit of the codes, the most important first. The file holds the "
        f"first {bits} of {length}; the pale ones are left out.</p>"
    )


def told_stream(name: str, parts: StreamParts) -> str:
    """What a stream holds, as `bsq info` has it."""
    info = parts.info
    what = f"{info.kind}, {info.width} × {info.height} pixels"
    if info.frame_rate is not None:
        what += f", {info.frames} frames, {float(info.frame_rate):.4g} a second"
    grid = info.grid
    facts = {
        "holds": what,
        "file": f"{count_bytes(parts.total)}, {8 * parts.total / (info.width * info.height * info.frames):.3f} "
        "bits a pixel",
        "codes": f"{grid.frames} × {grid.height} × {grid.width} tokens, {info.told_kept} of {len(info.radices)} digits",
        "parts": f"header {parts.header}, coded {parts.payload:,}, framing {parts.framing}, closing {parts.closing}",
        "model": info.tokenizer or f"without a name, {info.code_hash.hex()}",
        "prior": parts.prior,
    }
    if parts.trouble is not None:
        facts["trouble"] = str(parts.trouble)
    rows = "".join(f"<tr><td>{key}</td><td>{escape(value)}</td></tr>" for key, value in facts.items())
    return f"<b>{escape(name)}</b><table class='bsq-table bsq-facts'>{rows}</table>"


def told_cut(size: int, total: int, missing: str | None) -> str:
    """Under a picture decoded from the first `size` bytes of a file."""
    told = escape(missing or "nothing is missing")
    return f"<p class='bsq-cut'>{size:,} of {count_bytes(total)}: {told}.</p>"
