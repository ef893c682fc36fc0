"""The third tab: new pictures, and parts made anew. What enters: a class, a brush. What leaves: pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bsq.demo.compressing import view
from bsq.demo.handling import AT_WORK, Setup, import_gradio, politely, take
from bsq.demo.making import ANY_CLASS, Maker, Manner, brushed, fitted, inpaint, make
from bsq.demo.material import Size, read_material
from bsq.errors import SettingsError

MOST = 9
NONE_YET = """
### No generator is loaded

A generator makes new pictures of a class, and parts of pictures anew. None comes with this model; one that you trained
works here:

```
bsq train recipes/generate-s.yaml data.source=photos/ -o runs/mine
bsq demo --generator runs/mine/model
```

It has to be trained with the tokenizer of this page (`--model` names another).
"""


def lay_out(setup: Setup) -> None:
    """The tab, inside gradio's context; without a generator it says how to get one."""
    gr = import_gradio()
    if setup.maker is None:
        gr.Markdown(NONE_YET, elem_id="no-generator")
        return
    private: dict[str, Any] = {"api_visibility": "private"}
    handlers = Handlers(setup, setup.maker)
    with gr.Row(equal_height=False):
        manner = lay_out_making(setup, handlers, private)
    with gr.Row(equal_height=False):
        lay_out_changing(setup, handlers, manner, private)


def lay_out_making(setup: Setup, handlers: Handlers, private: dict[str, Any]) -> list[Any]:
    """New pictures of a class; → the components that say how pictures are made."""
    gr = import_gradio()
    with gr.Column(scale=1, min_width=300):
        label = gr.Dropdown(handlers.maker.classes, value=ANY_CLASS, label="Class", elem_id="class")
        steps = gr.Slider(1, 64, value=24, step=1, label="Steps", info="Looks of the network at a picture", buttons=[])
        guidance = gr.Slider(0, 8, value=3, step=0.5, label="Guidance", info="Weight of the class", buttons=[])
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1)
        count = gr.Slider(1, MOST, value=4, step=1, label="How many", buttons=[])
        button = gr.Button("Generate", variant="primary", elem_id="generate")
    with gr.Column(scale=3, min_width=480):
        gallery = gr.Gallery(
            label="New pictures",
            columns=3,
            format="png",
            height="auto",
            object_fit="contain",
            buttons=["fullscreen"],
            elem_id="made",
        )
    manner = [label, steps, guidance, seed]
    button.click(politely(setup, handlers.make), [*manner, count], gallery, **AT_WORK, **private)
    return manner


def lay_out_changing(setup: Setup, handlers: Handlers, manner: list[Any], private: dict[str, Any]) -> None:
    """A picture, a part of which is made anew in that manner."""
    gr = import_gradio()
    (height, width), source = handlers.maker.side, gr.State(None)
    with gr.Column(scale=1, min_width=300):
        upload = gr.File(label="A picture to change", height=150, elem_id="to-change")
        again = gr.Button("Make the painted part anew", variant="primary", elem_id="inpaint")
    with gr.Column(scale=3, min_width=480), gr.Row():
        editor = gr.ImageEditor(
            label=f"Paint over a part ({width} × {height})",
            type="numpy",
            sources=(),
            layers=False,
            canvas_size=(width, height),
            fixed_canvas=True,
            brush=gr.Brush(default_size=max(8, width // 10), colors=["#d9480f"], color_mode="fixed"),
            transforms=(),
            format="png",
            elem_id="editor",
        )
        result = gr.Image(label="Made anew", format="png", interactive=False, buttons=["fullscreen"], elem_id="anew")
    taken = upload.upload(take, upload, [source, upload], queue=False, **private)
    taken.success(politely(setup, handlers.open), source, editor, **AT_WORK, **private)
    again.click(politely(setup, handlers.inpaint), [editor, *manner], result, **AT_WORK, **private)


class Handlers:
    """What the tab does."""

    def __init__(self, setup: Setup, maker: Maker) -> None:
        self.setup, self.maker = setup, maker

    def make(self, label: str, steps: float, guidance: float, seed: float, count: float) -> Any:
        """Pictures uint8 (H, W, 3), at most `MOST`."""
        return make(self.maker, label, min(MOST, int(count)), Manner(int(steps), guidance, int(seed or 0)))

    def open(self, source: str | None) -> Any:
        """An upload, cut to the generator's shape, as the editor takes it."""
        gr = import_gradio()
        if source is None:
            return gr.skip()
        material = read_material(Path(source), Size.quick, self.setup.bounds)
        picture = fitted(self.maker, material.frames[0])
        return {"background": picture, "layers": [], "composite": picture}

    def inpaint(self, edited: dict[str, Any] | None, label: str, steps: float, guidance: float, seed: float) -> Any:
        """The editor's picture with its painted part made anew, in a size to look at."""
        if edited is None or edited.get("background") is None:
            raise SettingsError("drop a picture first, then paint over what is to be made anew")
        mask, manner = brushed(edited["layers"]), Manner(int(steps), guidance, int(seed or 0))
        return view(inpaint(self.maker, edited["background"][..., :3], mask, label, manner))
