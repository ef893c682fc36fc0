"""Plots of tables. What enters: `Line`s. What leaves: PNG pictures: bars of every measure, or quality over rate."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from bsq.errors import MissingDependencyError
from bsq.evaluate.lines import BITS_PER_PIXEL, Line, columns

SOLID, PALE = "#2a8278", "#d9d5ca"
MARKERS = "osD^vP*X<>"
PANELS_A_ROW = 3


def bars(lines: Sequence[Line]) -> bytes | None:
    """A panel for each measure that can be better or worse and was measured here, published rows pale. None where there
    is none.
    """
    here = [line for line in lines if not line.is_published]
    measures = [measure for measure in columns(here) if measure.more_is_better is not None]
    if not measures:
        return None
    wide = min(PANELS_A_ROW, len(measures))
    tall = math.ceil(len(measures) / wide)
    longest = max(sum(line.value(measure) is not None for line in lines) for measure in measures)
    figure = _figure((4.6 * wide, (0.8 + 0.28 * longest) * tall))
    for number, measure in enumerate(measures, 1):
        shown = [line for line in lines if (value := line.value(measure)) is not None and math.isfinite(value)]
        panel = figure.add_subplot(tall, wide, number)
        places = range(len(shown))
        values = [line.value(measure) for line in shown]
        drawn = panel.barh(places, values, color=[PALE if line.is_published else SOLID for line in shown])
        panel.bar_label(drawn, fmt=f"%.{measure.places}f", fontsize=7, padding=2)
        panel.set_yticks(places, [_short(line.system) for line in shown], fontsize=7)
        panel.invert_yaxis()
        panel.margins(x=0.18)
        better = "more" if measure.more_is_better else "less"
        panel.set_title(f"{measure.name} ({better} is better)", fontsize=9)
        panel.tick_params(axis="x", labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    if any(line.is_published for line in lines):
        figure.supxlabel("pale: published, not measured here", fontsize=8)
    return _png(figure)


def quality_over_rate(lines: Sequence[Line]) -> bytes | None:
    """A panel for each measure of quality over bits per pixel, published rows hollow. None without rates."""
    rated = [line for line in lines if line.value(BITS_PER_PIXEL) is not None]
    measures = [m for m in columns(rated) if m.more_is_better is not None and "img/s" not in m.name]
    if not rated or not measures:
        return None
    wide = min(PANELS_A_ROW, len(measures))
    tall = math.ceil(len(measures) / wide)
    figure = _figure((4.4 * wide, 3.6 * tall + 0.22 * len(rated)))
    marks: dict[str, Any] = {}
    for number, measure in enumerate(measures, 1):
        panel = figure.add_subplot(tall, wide, number)
        for place, line in enumerate(rated):
            value = line.value(measure)
            if value is None or not math.isfinite(value):
                continue
            colour = f"C{place % 10}"
            face = "none" if line.is_published else colour
            shape = MARKERS[place % len(MARKERS)]
            rate = line.value(BITS_PER_PIXEL)
            (mark,) = panel.plot(rate, value, shape, color=colour, markerfacecolor=face, markersize=8)
            marks[f"{_short(line.system)}{' (published)' if line.is_published else ''}"] = mark
        better = "more" if measure.more_is_better else "less"
        panel.set(xlabel="bits per pixel", ylabel=f"{measure.name} ({better} is better)")
        panel.margins(x=0.12, y=0.1)
        panel.grid(alpha=0.3)
    figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=min(3, len(marks)), frameon=False)
    return _png(figure)


def _short(name: str) -> str:
    """Without remarks in brackets; of a long name the end, which says more."""
    name = name.partition(" (")[0]
    return name if len(name) <= 30 else "…" + name[-29:]


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("plots need the library matplotlib; pip install 'bsq[bench]'") from error
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
