"""Reports as people and programs read them. What enters: lines and notes. What leaves: tables, JSON, files."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from bsq.bench.tables import strict_json, table, versions
from bsq.data.files import Existing, write_file
from bsq.evaluate.lines import Line, Measure, columns
from bsq.evaluate.provenance import Provenance, provenance

LARGE = 1e6  # values above, such as kernel distances in features of no fixed size, are shown with three digits
LIBRARIES = ("bsq", "torch", "numpy", "pillow", "pytorch-msssim", "diffusers", "av")


@dataclass(frozen=True, eq=False)
class Report:
    """A table of measured and published lines; `content` is what JSON holds beside them, `pictures` files by name."""

    title: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    content: dict[str, Any]
    pictures: dict[str, bytes] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=provenance)


def headings(report: Report) -> tuple[str, ...]:
    return ("system", *(measure.name for measure in columns(report.lines)))


def cells(report: Report) -> list[tuple[str, ...]]:
    """Published rows say so behind their names."""
    shown = columns(report.lines)
    return [
        (
            f"{line.system} (published)" if line.is_published else line.system,
            *(cell(line.value(measure), measure) for measure in shown),
        )
        for line in report.lines
    ]


def cell(value: float | None, measure: Measure) -> str:
    """A figure as the table shows it, with the measure's places; – for none, ∞ for infinite."""
    match value:
        case None:
            return "–"
        case float() if math.isinf(value):
            return "∞"
        case float() if abs(value) >= LARGE:
            return f"{value:.3g}"
        case _:
            return f"{value:.{measure.places}f}"


def terminal_table(report: Report) -> RichTable:
    shown = RichTable(title=report.title)
    for number, heading in enumerate(headings(report)):
        shown.add_column(heading, justify="left" if number == 0 else "right", overflow="fold")
    for line, row in zip(report.lines, cells(report), strict=True):
        shown.add_row(*row, style="dim" if line.is_published else None)
    return shown


def markdown(report: Report) -> str:
    """The table and how it came about."""
    pictures = "".join(f"![{name}]({name})\n\n" for name in report.pictures)
    how = "".join(f"- {note}\n" for note in (*report.notes, report.provenance.words()))
    return f"# {report.title}\n\n{table(headings(report), cells(report))}\n{pictures}## How\n\n{how}"


def as_json(report: Report) -> dict[str, Any]:
    """The report for a machine, with all digits."""
    return {
        "title": report.title,
        "lines": [
            {
                "system": line.system,
                "origin": line.origin,
                "remark": line.remark,
                "scores": {score.measure.name: score.value for score in line.scores},
            }
            for line in report.lines
        ],
        "notes": list(report.notes),
        **asdict(report.provenance),
        "versions": versions(LIBRARIES),
        **report.content,
    }


def write(report: Report, out: Path) -> tuple[Path, ...]:
    """table.md, result.json and the pictures into the folder `out`, over older ones. Raises MediaError."""
    files = {"table.md": markdown(report).encode(), "result.json": strict_json(as_json(report)), **report.pictures}
    for name, data in files.items():
        write_file(out / name, data, Existing.REPLACE)
    return tuple(out / name for name in files)


def given(value: Any) -> Any:
    """A dataclass as JSON holds it."""
    return None if value is None else asdict(value)
