"""The paper's table "frame only / full attention / block-causal". What enters: models, videos. What leaves: rows.

Every model sees the same clips, the middle in time and space of each video; its raw codes are decoded again, no file is
written. All models spend the same bits on a token, or the table says nothing.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from rich.table import Table as RichTable

from bsq.bench.ours import shown_name
from bsq.bench.tables import strict_json, table, versions
from bsq.bench.video.clips import find_clips
from bsq.bench.video.compare import Skipped
from bsq.codec.shelf import named_model
from bsq.codes import Codes, digit_bits
from bsq.data.clips import ClipSettings, central_clip
from bsq.data.files import Existing, write_file
from bsq.data.transforms import CropSettings
from bsq.errors import DataError, LimitError, MediaError, SettingsError
from bsq.frozen import load_lpips
from bsq.metrics import ReconstructionMeter, ReconstructionScores
from bsq.metrics.pixel import MS_SSIM_3_MIN_SIDE, ms_ssim_3
from bsq.metrics.reconstruction import Distance
from bsq.settings import Settings
from bsq.tokenizer import Tokenizer
from bsq.vit.transformer import TransformerSettings

PROTOCOL = (
    "Clips: the middle of each video in time, at a constant frame rate, and a central square of it. Every model codes "
    "whole clips, but for those whose table of frames is shorter: they code a clip in stretches of that length, each "
    "alone (frame only: one frame). Pixels of raw codes are not rounded, as in the paper; PSNR, SSIM, MS-SSIM-3 (the "
    "first three of MS-SSIM's five scales, weights divided by their sum) and LPIPS v0.1 with SqueezeNet of every "
    "frame, then means over frames. Bits a token are raw, without prior, header or padding."
)
HEADINGS = ("model", "sees", "frames together", "M parameters", "bits a token", "PSNR dB", "SSIM", "MS-SSIM-3", "LPIPS")


class AblationSettings(Settings):
    """Which models, on what."""

    source: tuple[str, ...] = Field(min_length=1)
    models: tuple[str, ...] = Field(min_length=1)  # bundled names, folders or hub ids
    bits: PositiveInt | None = None  # digits kept of each code; None: whole codes, if all are equally long
    frames: PositiveInt = 16
    frame_rate: PositiveFloat = 8.0
    crop: PositiveInt = 128
    clips: PositiveInt | None = None  # only the first so many, by name
    perceptual: Literal["lpips-squeeze", "none"] = "lpips-squeeze"

    def for_reports(self) -> dict[str, Any]:
        """As JSON, with folders by their last names."""
        source = [name.rstrip("/").rpartition("/")[2] for name in self.source]
        return self.model_dump(mode="json") | {"source": source, "models": [shown_name(name) for name in self.models]}


@dataclass(frozen=True)
class AblationRow:
    """One model over all clips."""

    model: str
    sees: str  # "frame only", "full attention", "block-causal", or what encoder and decoder see
    frames_together: int
    parameters: int
    bits_per_token: float
    scores: ReconstructionScores
    ms_ssim_3: float | None  # None for crops under 41 pixels


@dataclass(frozen=True)
class AblationReport:
    settings: AblationSettings
    clips: int
    rows: tuple[AblationRow, ...]
    skipped: tuple[Skipped, ...]


def run(
    settings: AblationSettings,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> AblationReport:
    """Measures every model on every clip, one clip in memory.

    Raises DataError without a video that can be read, SettingsError for codes of different lengths, CheckpointError.
    """
    names = [shown_name(name) for name in settings.models]
    if len(set(names)) < len(names):
        raise SettingsError(f"models have the same name ({', '.join(names)}); rename their folders to tell them apart")
    named = find_clips(settings.source, settings.clips)
    perceptual = load_lpips("squeeze").distance if settings.perceptual == "lpips-squeeze" else None
    tallies = [Tally(name, named_model(name), settings, perceptual) for name in settings.models]
    if len({tally.bits_per_token for tally in tallies}) > 1:
        told = ", ".join(f"{shown_name(tally.name)} {tally.bits_per_token:g}" for tally in tallies)
        raise SettingsError(f"the models spend different bits on a token ({told}); give a number all have (--bits)")
    clips = ClipSettings(source=settings.source, frames=settings.frames, frame_rate=settings.frame_rate)
    crop = CropSettings(crop=settings.crop)
    skipped: list[Skipped] = []
    for done, (name, item) in enumerate(named.items(), 1):
        try:
            pixels = central_clip(item.read(), clips, crop)[None].float().div(127.5).sub(1)
        except (MediaError, LimitError, DataError, OSError) as error:
            skipped.append(Skipped(name, str(error)))
            continue
        finally:
            on_clip(done, len(named))
        for tally in tallies:
            tally.add(pixels)
    if len(skipped) == len(named):
        raise DataError(f"none of {len(named)} clips can be measured; the first: {skipped[0].reason}")
    return AblationReport(settings, len(named) - len(skipped), tuple(tally.row() for tally in tallies), tuple(skipped))


class Tally:
    """One model and what it keeps of clips."""

    def __init__(self, name: str, model: Tokenizer, settings: AblationSettings, perceptual: Distance | None) -> None:
        """Raises SettingsError for more bits than its codes have."""
        self.name, self._model = name, model
        length = len(model.radices)
        self._bits = length if settings.bits is None else settings.bits
        if self._bits > length:
            raise SettingsError(f"codes of {shown_name(name)} have {length} digits, fewer than {self._bits}")
        self.bits_per_token = float(sum(map(digit_bits, model.radices[: self._bits])))
        self._stretch = frames_together(model, settings.frames)
        self._meter = ReconstructionMeter(perceptual)
        self._three: list[float] = []

    @torch.no_grad()
    def add(self, pixels: torch.Tensor) -> None:
        """One clip (1, 3, T, H, W) in [−1, 1]."""
        size = (pixels.shape[-2], pixels.shape[-1])
        stretches = pixels.split(self._stretch, dim=2)
        again = torch.cat([self._model.decode(self._codes(stretch), size) for stretch in stretches], 2).cpu()
        self._meter.add(again, pixels)
        if min(size) >= MS_SSIM_3_MIN_SIDE:
            self._three += ms_ssim_3(again, pixels).tolist()

    def row(self) -> AblationRow:
        """The means over all clips so far."""
        return AblationRow(
            model=shown_name(self.name),
            sees=sees(self._model),
            frames_together=self._stretch,
            parameters=sum(parameter.numel() for parameter in self._model.parameters()),
            bits_per_token=self.bits_per_token,
            scores=self._meter.result(),
            ms_ssim_3=math.fsum(self._three) / len(self._three) if self._three else None,
        )

    def _codes(self, pixels: torch.Tensor) -> Codes:
        return self._model.encode(pixels, self._bits)


def frames_together(model: Tokenizer, most: int) -> int:
    """How many frames of a clip the model codes at once: all of it, as many as its table of frames has, or, where no
    token sees another frame, one.
    """
    if all(side.window_frames == 1 for side in sides(model)):
        return 1
    return min(most, *(getattr(side.positions, "frames", most) for side in sides(model)))


def sees(model: Tokenizer) -> str:
    """In the paper's words where encoder and decoder see alike."""
    found = [_sight(side) for side in sides(model)]
    return found[0] if found[0] == found[1] else f"encoder {found[0]}, decoder {found[1]}"


def sides(model: Tokenizer) -> tuple[TransformerSettings, TransformerSettings]:
    return model.settings.encoder, model.settings.decoder


def _sight(side: TransformerSettings) -> str:
    if getattr(side.positions, "frames", None) == 1 or side.window_frames == 1:
        return "frame only"
    match side.time:
        case "full":
            return "full attention"
        case "causal":
            return "block-causal" + (f", {side.window_frames} frames" if side.window_frames else "")
        case _:
            raise SettingsError(f"no name for {side.time!r}")


def cells(rows: Sequence[AblationRow]) -> list[tuple[str, ...]]:
    """In the order of `HEADINGS`."""
    return [
        (
            row.model,
            row.sees,
            str(row.frames_together),
            f"{row.parameters / 1e6:.2f}",
            f"{row.bits_per_token:g}",
            f"{row.scores.psnr:.2f}",
            f"{row.scores.ssim:.4f}",
            "–" if row.ms_ssim_3 is None else f"{row.ms_ssim_3:.4f}",
            "–" if row.scores.lpips is None else f"{row.scores.lpips:.4f}",
        )
        for row in rows
    ]


def title(report: AblationReport) -> str:
    told = report.settings
    names = ", ".join(told.for_reports()["source"])
    return (
        f"Frame only, full attention, block-causal: {report.clips} clips of {names}, {told.frames} frames at "
        f"{told.frame_rate:g} a second, {told.crop} by {told.crop}"
    )


def terminal_table(report: AblationReport) -> RichTable:
    shown = RichTable(title=title(report))
    for place, heading in enumerate(HEADINGS):
        shown.add_column(heading, justify="left" if place < 2 else "right")
    for row in cells(report.rows):
        shown.add_row(*row)
    return shown


def plain_table(report: AblationReport) -> str:
    return table(HEADINGS, cells(report.rows))


def markdown(report: AblationReport) -> str:
    parts = [title(report), plain_table(report), PROTOCOL]
    if report.skipped:
        told = "; ".join(f"{one.clip} ({one.reason})" for one in report.skipped)
        parts.append(f"{len(report.skipped)} clips could not be measured: {told}")
    return "\n\n".join(parts) + "\n"


def write(report: AblationReport, out: Path) -> tuple[Path, ...]:
    """Writes ablation.md and ablation.json into the folder `out`, over older ones. Raises MediaError."""
    content = asdict(report) | {"settings": report.settings.for_reports(), "protocol": PROTOCOL}
    content |= {"machine": platform.platform(), "versions": versions(("bsq", "torch", "pytorch-msssim"))}
    files = {"ablation.md": markdown(report).encode(), "ablation.json": strict_json(content)}
    for name, data in files.items():
        write_file(out / name, data, Existing.REPLACE)
    return tuple(out / name for name in files)
