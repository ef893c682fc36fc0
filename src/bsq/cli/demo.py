"""`bsq demo`: a web page on this machine. What enters: a model, an address. What leaves: a page, until interrupted."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from bsq.cli.failures import INTERRUPTED, debugging, say
from bsq.cli.options import choose_device

if TYPE_CHECKING:
    from bsq.tokenizer import Tokenizer

EPILOG = """
**Examples**

`bsq demo` · the page in your browser; Ctrl-C ends it. Nothing leaves this machine

`bsq demo --no-browser --port 8000` · only say where it is

`bsq demo --generator runs/mine/model` · with a generator of your own for new pictures

`bsq demo --model runs/mine/model --host 0.0.0.0` · a model of your own, for everybody who can reach this machine
"""


def demo(
    ctx: typer.Context,
    model: Annotated[str, typer.Option("--model", "-m", help="Bundled name, folder or hub id.")] = "biscuit-s",
    generator: Annotated[
        str | None,
        typer.Option("--generator", metavar="FOLDER", help="Of the model's codes; default: the one that comes along."),
    ] = None,
    host: Annotated[str, typer.Option("--host", metavar="NAME", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=1, max=65535, help="Default: the first free one from 7860.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it.")] = True,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps …")] = "auto",
    max_pixels: Annotated[
        int | None, typer.Option("--max-pixels", metavar="N", min=1, help="Refuse larger pictures; default 50 million.")
    ] = None,
) -> None:
    """Show a page on which pictures are compressed, opened and made."""
    import tempfile
    from dataclasses import replace
    from pathlib import Path

    from bsq.bench.ours import shown_name
    from bsq.codec.shelf import named_model
    from bsq.demo.handling import Setup, import_gradio
    from bsq.demo.judging import warm_up
    from bsq.demo.making import load_maker
    from bsq.demo.material import Bounds
    from bsq.demo.page import Address, prepare_surroundings, serve
    from bsq.demo.scratch import Scratch
    from bsq.generate.folder import bundled_with

    with tempfile.TemporaryDirectory(prefix="bsq-demo-") as folder:
        prepare_surroundings(Path(folder))
        import_gradio()
        where = choose_device(device)
        tokenizer = named_model(model, where)
        made_by = generator or bundled_with(tokenizer)
        maker = None if made_by is None else load_maker(made_by, tokenizer)
        bounds = Bounds() if max_pixels is None else replace(Bounds(), pixels=max_pixels)
        decoders = decoders_beside(model, tokenizer, where)
        scratch = Scratch(Path(folder) / "made")
        setup = Setup(tokenizer, shown_name(model), maker, scratch, decoders, bounds, debugging(ctx))
        warm_up(tokenizer)
        try:
            serve(setup, Address(host, port), browser, lambda url: say(f"bsq demo: {url} · Ctrl-C ends it"))
            code = 0
        except KeyboardInterrupt:
            say("interrupted")
            code = INTERRUPTED
    leave(code)


def decoders_beside(name: str, model: Tokenizer, device: str) -> dict[str, Tokenizer]:
    """The model called `name` and further ones with other decoders of its codes, by the decoders' names; its own first.
    Those that do not serve its codes are left out, and named.
    """
    from bsq.checkpoint.decoders import decoders_in, split_decoder
    from bsq.codec.shelf import named_model
    from bsq.errors import CheckpointError

    owner, own = split_decoder(name)
    found = {own: model}
    for decoder in [] if model.origin is None else decoders_in(model.origin):
        if decoder != own:
            try:
                found[decoder] = named_model(f"{owner}:{decoder}", device)
            except CheckpointError as error:
                say(f"without its decoder {decoder}: {error}")
    return found


def leave(code: int) -> NoReturn:
    """End at once: threads of requests at work cannot be stopped, and abort a process that shuts down around them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
