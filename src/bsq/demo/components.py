"""What the first tab is made of. What enters: a setup. What leaves: gradio's components, and what a visitor chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bsq.checkpoint.decoders import FAITHFUL
from bsq.codec.search import check_search
from bsq.demo.coding import STEPS, Choice
from bsq.demo.handling import Setup, import_gradio
from bsq.demo.material import Size
from bsq.errors import BsqError
from bsq.tokenizer import Tokenizer

ORIGINAL = "original"
DECODERS = {FAITHFUL: "faithfully", "perceptual": "for the eye"}
NOTHING = "<p class='bsq-quiet'>Nothing yet.</p>"


@dataclass(frozen=True)
class Asked:
    """The narrow column's components: what is given, and the figures of what came of it."""

    state: Any
    source: Any
    upload: Any
    size: Any
    dial: Any
    searched: Any
    decoder: Any
    numbers: Any
    download: Any
    told: Any


def lay_out_asking(setup: Setup) -> Asked:
    """The narrow column."""
    gr, length, decoders = import_gradio(), len(setup.model.radices), list(setup.decoders)
    return Asked(
        state=gr.State(None, time_to_live=3600),
        source=gr.State(None),
        upload=gr.File(label="A picture or clip", elem_id="upload", height=150),
        size=gr.Radio([*Size], value=Size.quick, show_label=False, container=False, elem_id="size"),
        dial=gr.Slider(
            max(1, length // 4),
            length,
            value=max(1, length // 2),
            step=1,
            label="Bits a token",
            info="Fewer bits, smaller file; one model has them all",
            buttons=[],
            elem_id="dial",
        ),
        searched=gr.Checkbox(
            label="Search for better codes",
            info=f"{STEPS} steps: about as many bytes, closer to the picture, some seconds",
            visible=can_search(setup.model),
            elem_id="searched",
        ),
        decoder=gr.Radio(
            [(DECODERS.get(name, name), name) for name in decoders],
            value=decoders[0] if decoders else None,
            label="Decoded",
            visible=len(decoders) > 1,
            elem_id="decoder",
        ),
        numbers=gr.HTML(figures_of_nothing(), elem_id="figures"),
        download=gr.DownloadButton("Download .bsq", interactive=False, variant="primary", elem_id="download"),
        told=gr.HTML(elem_id="told"),
    )


@dataclass(frozen=True)
class Seen:
    """The wide column's components: a picture beside its reconstruction, or a clip."""

    slider: Any
    clip: Any
    left: Any


def lay_out_seeing() -> Seen:
    """The wide column."""
    gr = import_gradio()
    return Seen(
        slider=gr.ImageSlider(
            label=ORIGINAL + " | bsq",
            format="png",
            max_height=560,
            elem_id="slider",
            interactive=False,
            buttons=["fullscreen"],
        ),
        clip=gr.Video(
            label="Original and reconstruction",
            visible=False,
            autoplay=True,
            loop=True,
            buttons=[],
            height=380,
            elem_id="clip",
        ),
        left=gr.Radio([ORIGINAL], value=ORIGINAL, label="Left of the line", visible=False, elem_id="left"),
    )


def lay_out_drawing(title: str, name: str) -> tuple[Any, Any]:
    """A drawing with its heading → (picture, words below it)."""
    gr = import_gradio()
    gr.HTML(f"<h2 class='bsq-part'>{title}</h2>")
    picture = gr.Image(show_label=False, format="png", buttons=["fullscreen"], visible=False, elem_id=name)
    return picture, gr.HTML(NOTHING)


def figures_of_nothing() -> str:
    return "<div class='bsq-empty'>Drop a picture above: the first answer takes some seconds.</div>"


def chosen(bits: float, searched: bool, decoder: str | None) -> Choice:
    """What the narrow column says."""
    return Choice(int(bits), bool(searched), decoder or FAITHFUL)


def can_search(model: Tokenizer) -> bool:
    """Whether codes of this model can be searched for."""
    try:
        return check_search(STEPS, model) > 0
    except BsqError:
        return False
