"""Parts of reports. What enters: rows, comparisons, content. What leaves: Markdown tables and strict JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bsq.bench.compare import NO_OVERLAP, SMALL_SHARE, Comparison


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; the first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def comparison_table(found: Sequence[Comparison], labels: Mapping[str, str], anchor: str) -> str:
    """Bjøntegaard differences, a row a codec, in Markdown; one line where there are none."""
    if not any(one.reason in ("", NO_OVERLAP) for one in found):
        return "".join(f"No Bjøntegaard differences: {reason}.\n" for reason in sorted({one.reason for one in found}))
    measures = list(dict.fromkeys(one.measure for one in found))
    head = [f"beside {labels[anchor]}"]
    head += [text for measure in measures for text in (f"rate at equal {measure}", f"{measure} at equal rate")]
    rows = []
    for codec in dict.fromkeys(one.codec for one in found):
        cells = [cell for one in found if one.codec == codec for cell in _comparison_cells(one)]
        rows.append([labels[codec], *cells])
    return table(head, rows)


def comparison_remarks(found: Sequence[Comparison]) -> list[str]:
    """What the marks of a `comparison_table` mean."""
    lines = []
    if any(one.rate_percent is not None and one.common_share < SMALL_SHARE for one in found):
        lines.append(f"† over less than {SMALL_SHARE:.0%} of the anchor's range: the curves hardly meet.")
    if any(one.reason == NO_OVERLAP for one in found):
        lines.append("no overlap: the curves have no quality (or rate) in common.")
    return lines


def _comparison_cells(one: Comparison) -> tuple[str, str]:
    missing = one.reason or "–"
    mark = " †" if one.common_share < SMALL_SHARE else ""
    rate = missing if one.rate_percent is None else f"{one.rate_percent:+.1f} %{mark}"
    if one.quality is None:
        return rate, missing
    return rate, f"{-one.quality:+.3f}" if one.measure == "LPIPS" else f"{one.quality:+.2f}"


def strict_json(content: dict[str, Any]) -> bytes:
    """Strict JSON: what is infinite (the PSNR of equal pictures) becomes null."""
    return (json.dumps(_finite(content), indent=1, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def versions(libraries: Sequence[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
