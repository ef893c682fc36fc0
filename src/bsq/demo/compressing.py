"""The first tab: a picture or clip, compressed. What enters: an upload, the dial. What leaves: all there is to see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bsq.demo.coding import Choice, Coded, Work, begin, code, reconstruct
from bsq.demo.components import (
    NOTHING,
    ORIGINAL,
    Asked,
    chosen,
    lay_out_asking,
    lay_out_drawing,
    lay_out_seeing,
)
from bsq.demo.drawing import draw_costs, draw_planes, magnified, side_by_side
from bsq.demo.handling import AT_WORK, BESIDE_WORK, Setup, import_gradio, politely, take
from bsq.demo.judging import Row, compare, part_measured, score
from bsq.demo.material import Size, fit, middle, read_material
from bsq.demo.words import comparison, figures, told_costs, told_material, told_planes
from bsq.errors import SettingsError
from bsq.metrics import bits_per_pixel

VIEW_PIXELS = 2_500_000  # of what the slider shows; larger pictures are scaled down to it
LEAST_VIEW = 512  # pixels; smaller pictures are shown magnified
MAP_SIDE = 800  # pixels of the map's longer side, at least
CLIP_RIVALS = (
    "<p class='bsq-quiet'>Clips are compared with H.264, H.265, VP9 and AV1 by <code>bsq bench video</code>.</p>"
)


@dataclass(eq=False)
class Session:
    """What one visitor has on the table: the work, and rivals of the choice they were made for."""

    work: Work
    part: Work  # what is measured
    choice: Choice | None = None
    rows: tuple[Row, ...] = ()


def lay_out(setup: Setup) -> None:
    """The tab, inside gradio's context."""
    gr = import_gradio()
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            asked = lay_out_asking(setup)
        with gr.Column(scale=3, min_width=480):
            seen = lay_out_seeing()
    gr.HTML("<h2 class='bsq-part'>The same bytes elsewhere</h2>")
    gallery = gr.Gallery(
        columns=6,
        height="auto",
        show_label=False,
        object_fit="contain",
        format="png",
        buttons=["fullscreen"],
        visible=False,
        elem_id="gallery",
    )
    table = gr.HTML(NOTHING, elem_id="rivals")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=480):
            costs, legend = lay_out_drawing("Where the bits go", "costs")
        with gr.Column(min_width=480):
            planes, words = lay_out_drawing("The bits themselves", "planes")
    handlers = Handlers(setup)
    pictures, drawings = [seen.slider, seen.clip, seen.left], [legend, costs, words, planes]
    shown = [asked.state, *pictures, asked.numbers, asked.download, *drawings]
    connect(handlers, asked, shown, rivals=[table, gallery, seen.left])
    seen.left.input(
        politely(setup, handlers.change_left),
        [asked.state, seen.left],
        seen.slider,
        show_progress="minimal",
        api_visibility="private",
    )


def connect(handlers: Handlers, asked: Asked, shown: list[Any], rivals: list[Any]) -> None:
    """What follows an upload, another size and another choice: the picture first, then what it is compared with."""
    setup, choice = handlers.setup, [asked.state, asked.dial, asked.searched, asked.decoder]
    show, compare_all = politely(setup, handlers.show), politely(setup, handlers.compare)
    private: dict[str, Any] = {"api_visibility": "private"}
    minimal: dict[str, Any] = {"show_progress": "minimal", "trigger_mode": "always_last", **private}
    taken = asked.upload.upload(take, asked.upload, [asked.source, asked.upload], queue=False, **private)
    for event in (taken.success, asked.size.input):
        begun = event(
            politely(setup, handlers.begin),
            [asked.state, asked.source, asked.size],
            [asked.state, asked.told, asked.searched],
            **AT_WORK,
            **private,
        )
        first = begun.success(show, choice, shown, **AT_WORK, **private)
        first.success(compare_all, choice, rivals, **BESIDE_WORK, **private)
    for event in (asked.dial.change, asked.searched.input, asked.decoder.input):
        turned = event(show, choice, shown, **AT_WORK, **minimal)
        turned.success(compare_all, choice, rivals, **BESIDE_WORK, **minimal)


class Handlers:
    """What the tab does; each method's results stand in the order of its outputs."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def begin(self, before: Session | None, source: str | None, size: str) -> tuple[Any, ...]:
        """A file → a session, and what was made of it; what is still done for the one before is given up."""
        gr = import_gradio()
        if source is None:
            return (gr.skip(),) * 3
        if before is not None:
            before.choice = None
        material = read_material(Path(source), Size(size), self.setup.bounds)
        work = begin(material, self.setup.model, self.setup.decoders)
        searched = gr.update(interactive=False, value=False) if material.is_clip else gr.update(interactive=True)
        return Session(work, part_measured(work, self.setup.bounds)), told_material(material), searched

    def show(
        self, session: Session | None, bits: float, searched: bool, decoder: str | None
    ) -> Iterator[tuple[Any, ...]]:
        """A session as it is asked for: the reconstruction first, then the file and drawings, then its scores."""
        gr = import_gradio()
        if session is None:
            yield (gr.skip(),) * 10
            return
        skip, work, choice = gr.skip(), session.work, chosen(bits, searched, decoder)
        session.choice, session.rows = choice, ()
        frames = reconstruct(work, choice)
        centre = len(frames) // 2
        pair = (view(work.material.frames[centre]), view(frames[centre]))
        left = gr.update(visible=not work.material.is_clip, choices=[ORIGINAL], value=ORIGINAL)
        yield session, gr.update(value=pair, label=ORIGINAL + " | bsq"), skip, left, *(skip,) * 6
        coded = code(work, choice)
        path = self.setup.scratch.write(f"{work.material.stem}.bsq", coded.stream)
        download = gr.update(value=path, interactive=True, label=f"Download {work.material.stem}.bsq")
        clip = gr.update(visible=False, value=None)
        if work.material.is_clip:
            both = side_by_side(work.material.frames, frames)
            clip = gr.update(visible=True, value=self.setup.scratch.show("both", both, work.material.rate))
        yield session, skip, clip, skip, self._figures(work, coded, None), download, *self._drawings(work, coded)
        yield session, *(skip,) * 3, self._figures(work, coded, frames), *(skip,) * 5

    def compare(
        self, session: Session | None, bits: float, searched: bool, decoder: str | None
    ) -> Iterator[tuple[Any, ...]]:
        """The rivals of a session as it is asked for, one by one, for as long as nothing else is asked for."""
        gr, choice = import_gradio(), chosen(bits, searched, decoder)
        if session is None or session.choice != choice:
            yield (gr.skip(),) * 3
            return
        if session.work.material.is_clip:
            yield CLIP_RIVALS, gr.update(visible=False, value=None), gr.skip()
            return
        note = "" if session.part is session.work else "<p class='bsq-quiet'>Measured in the middle of the picture.</p>"
        rows: list[Row] = []
        for row in compare(session.part, choice):
            if session.choice != choice:
                return
            rows.append(row)
            yield comparison(rows) + note, gr.skip(), gr.skip()
        session.rows = tuple(rows)
        shown = [(view(row.pixels), row.label) for row in rows if row.pixels is not None]
        names = [ORIGINAL, *(name for _, name in shown[1:])]
        pictures = [(view(session.part.material.frames[0]), ORIGINAL), *shown]
        yield gr.skip(), gr.update(value=pictures, visible=True), gr.update(choices=names, value=ORIGINAL)

    def change_left(self, session: Session | None, name: str) -> Any:
        """Another picture at the left of the slider's line."""
        gr = import_gradio()
        rows = {} if session is None else {row.label: row for row in session.rows}
        if session is None or "bsq" not in rows:
            return gr.skip()
        ours = rows["bsq"].pixels
        other: np.ndarray | None = session.part.material.frames[0]
        if name != ORIGINAL:
            other = rows[name].pixels if name in rows else None
        if ours is None or other is None:
            raise SettingsError(f"there is no {name} file of this picture")
        return gr.update(value=(view(other), view(ours)), label=f"{name} | bsq")

    def _figures(self, work: Work, coded: Coded, frames: tuple[np.ndarray, ...] | None) -> str:
        height, width = work.material.size
        rate = bits_per_pixel(len(coded.stream), height, width, len(work.material.frames))
        if frames is None:
            return figures(len(coded.stream), rate, None)
        cut = [middle(frame, self.setup.bounds.measured) for frame in frames]
        wanted = [middle(frame, self.setup.bounds.measured) for frame in work.material.frames]
        return figures(len(coded.stream), rate, score(wanted, cut))

    def _drawings(self, work: Work, coded: Coded) -> tuple[Any, ...]:
        """Legend and map of costs, words and sheet of planes; of a clip those of the frame in the middle."""
        gr, centre, size = import_gradio(), len(work.material.frames) // 2, work.material.size
        digits, bits = work.digits_of(coded.choice)[0, centre].cpu().numpy(), coded.choice.bits
        return (
            told_costs(coded.costs, coded.stream),
            gr.update(value=magnified(draw_costs(coded.costs[centre], work.model.patch, size), MAP_SIDE), visible=True),
            told_planes(bits, work.codes.length),
            gr.update(value=view(draw_planes(digits, bits)), visible=True),
        )


def view(picture: np.ndarray) -> np.ndarray:
    """A picture in a size to look at."""
    return magnified(fit(picture, VIEW_PIXELS), LEAST_VIEW)
