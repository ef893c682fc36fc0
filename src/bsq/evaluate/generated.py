"""Generated pictures as the paper's table. What enters: a `Generation`. What leaves: a `Report`."""

from __future__ import annotations

from dataclasses import asdict

from bsq.evaluate.charts import bars
from bsq.evaluate.generation import Generation, SetScores
from bsq.evaluate.lines import Line, Measure, frechet, inception_score, line, of_features, precision, recall
from bsq.evaluate.published import ORIGIN
from bsq.evaluate.report import Report
from bsq.evaluate.sheet import Tile, grid, stacked
from bsq.evaluate.systems.names import shown_path, shown_spec
from bsq.evaluate.tables import CHART, CONTACT_SHEET


def generation_report(measured: Generation, beside: tuple[Line, ...] = ()) -> Report:
    """`beside` are published lines."""
    settings = measured.settings
    lines = (*(set_line(one, settings.features) for one in measured.sets), *beside)
    counts = measured.sets[0].scores
    against = f"{counts.references:,} pictures" if counts.references is not None else "stored moments"
    pictures = {CONTACT_SHEET: contact_sheet(measured), CHART: bars(lines)}
    return Report(
        title=f"Generation beside {against} of {shown_path(settings.reference)}, protocol {settings.protocol.name}",
        lines=lines,
        notes=notes(measured, bool(beside)),
        content={
            "settings": settings.model_dump(mode="json")
            | {
                "samples": [one.name for one in measured.sets],
                "features": shown_spec(settings.features),
                "reference": shown_path(settings.reference),
                "protocol": settings.protocol.for_reports(),
            },
            "sets": {one.name: asdict(one.scores) for one in measured.sets},
            "not_measured": list(measured.left_out),
            "left_out": [asdict(one) for one in measured.refused],
        },
        pictures={name: data for name, data in pictures.items() if data is not None},
    )


def set_line(one: SetScores, features: str) -> Line:
    """One set of samples as a row of the table."""
    scores = one.scores
    score, manifold = scores.inception_score, scores.precision_recall
    label = scores.label
    spatial, kernel = Measure("sFID", 2, False), Measure("KID·10³", 3, False)
    values: dict[Measure, float | None] = {
        frechet("FID", features, label): scores.fid,
        of_features(spatial, features, label): scores.sfid,
        of_features(kernel, features, label): None if scores.kid is None else 1000 * scores.kid.mean,
        inception_score(features, label): None if score is None else score.mean,
        precision(features, label): None if manifold is None else manifold.precision,
        recall(features, label): None if manifold is None else manifold.recall,
    }
    return line(one.name, values.items())


def notes(measured: Generation, has_published: bool) -> tuple[str, ...]:
    """What stands below the table: protocol, features, samples, what was left out."""
    protocol, first = measured.settings.protocol, measured.sets[0].scores
    told = [
        f"Protocol {protocol.name}: {protocol.remarks or 'pictures as given'}; all pictures rounded to 8 bits.",
        f"Features of {first.network} (SHA-256 {first.weights_sha256}), {first.label}.",
    ]
    for one in measured.sets:
        told.append(f"{one.name}: {one.scores.samples:,} samples.")
        told += [f"{one.name}: {note}." for note in one.scores.notes]
        if protocol.samples is not None and one.scores.samples != protocol.samples:
            told.append(f"{one.name}: not the {protocol.samples:,} samples of the published setting.")
    told += [f"Not measured: {reason}." for reason in measured.left_out]
    if (manifold := first.precision_recall) is not None:
        told.append(f"Precision and recall: {manifold.neighbours} nearest neighbours.")
    if (kernel := first.kid) is not None:
        told.append(
            f"KID: unbiased, cubic kernel, mean over {kernel.subsets} random subsets of {kernel.subset_size}, seed "
            f"{kernel.seed}."
        )
    if has_published:
        told.append(f"Rows marked (published) were not measured here: {ORIGIN.removeprefix('published, ')}.")
    if measured.refused:
        told.append(f"Left out: {'; '.join(map(str, measured.refused))}.")
    return tuple(told)


def contact_sheet(measured: Generation) -> bytes | None:
    """A row of references, a row for each set."""
    rows = [("reference", measured.references), *((one.name, one.shown) for one in measured.sets)]
    return stacked([grid([Tile(pixels, name, "") for pixels in shown]) for name, shown in rows if shown])
