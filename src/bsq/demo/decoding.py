"""The second tab: `.bsq` files, whole or cut short. What enters: an upload. What leaves: what it holds, to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bsq.demo.compressing import view
from bsq.demo.handling import AT_WORK, Setup, import_gradio, politely, take
from bsq.demo.opening import Opened, look, open_stream
from bsq.demo.words import told_cut, told_stream

STEPS = (4, 8, 12, 18, 25, 35, 50, 70, 85, 100)  # percent, of a file that arrives


def lay_out(setup: Setup) -> None:
    """The tab, inside gradio's context."""
    gr = import_gradio()
    state, source = gr.State(None, time_to_live=3600), gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            upload = gr.File(label="A .bsq file", elem_id="stream", height=150)
            share = gr.Slider(
                1,
                100,
                value=100,
                step=1,
                label="Use the first … % of the file",
                buttons=[],
                info="What is missing is filled in with what the prior expects",
                elem_id="share",
            )
            play = gr.Button("Watch it arrive", elem_id="play")
            download = gr.DownloadButton("Download what you see", interactive=False, elem_id="decoded")
            facts = gr.HTML(elem_id="facts")
        with gr.Column(scale=3, min_width=480):
            picture = gr.Image(
                label="Decoded", format="png", buttons=["fullscreen"], height=560, interactive=False, elem_id="opened"
            )
            clip = gr.Video(label="Decoded", visible=False, autoplay=True, loop=True, buttons=[], elem_id="opened-clip")
            words = gr.HTML(elem_id="cut")

    handlers = Handlers(setup)
    seen = [picture, clip, download, words]
    taken = upload.upload(take, upload, [source, upload], queue=False, api_visibility="private")
    opened = taken.success(
        politely(setup, handlers.open), [source], [state, facts, share], **AT_WORK, api_visibility="private"
    )
    opened.success(politely(setup, handlers.look), [state, share], seen, **AT_WORK, api_visibility="private")
    share.input(
        politely(setup, handlers.look),
        [state, share],
        seen,
        trigger_mode="always_last",
        **AT_WORK,
        show_progress="minimal",
        api_visibility="private",
    )
    play.click(
        politely(setup, handlers.arrive),
        [state],
        [share, *seen],
        **AT_WORK,
        show_progress="hidden",
        api_visibility="private",
    )


class Handlers:
    """What the tab does; each method's results stand in the order of its outputs."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def open(self, source: str | None) -> tuple[Any, ...]:
        gr = import_gradio()
        if source is None:
            return (gr.skip(),) * 3
        opened = open_stream(Path(source), self.setup.bounds)
        return opened, told_stream(opened.name, opened.parts), 100

    def look(self, opened: Opened | None, percent: float) -> tuple[Any, ...]:
        """The page after the slider moved: what decodes of the first `percent` of the file."""
        gr = import_gradio()
        if opened is None:
            return (gr.skip(),) * 4
        seen = look(opened, percent, self.setup.model, self.setup.bounds)
        words = told_cut(seen.size, len(opened.data), seen.missing)
        nothing = gr.update(value=None, interactive=False)
        if not seen.frames:
            return gr.update(value=None, visible=True), gr.update(value=None, visible=False), nothing, words
        path = self.setup.scratch.show(opened.stem, seen.frames, seen.rate)
        picture = gr.update(value=view(seen.frames[0]), visible=True)
        clip = gr.update(value=None, visible=False)
        if seen.rate is not None:
            picture, clip = gr.update(value=None, visible=False), gr.update(value=path, visible=True)
        return picture, clip, gr.update(value=path, interactive=True), words

    def arrive(self, opened: Opened | None) -> Iterator[tuple[Any, ...]]:
        """The file as if it came through a slow line."""
        gr = import_gradio()
        if opened is None:
            yield (gr.skip(),) * 5
            return
        for percent in STEPS:
            yield percent, *self.look(opened, percent)
