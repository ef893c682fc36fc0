"""The command `bsq`. What enters: arguments. What leaves: files, lines of text and an exit code."""

from __future__ import annotations

from typing import Annotated

import typer

from bsq import __version__
from bsq.cli import (
    bench_video,
    convert,
    decode,
    demo,
    encode,
    evaluate,
    examples,
    export,
    generate,
    info,
    tokenize,
    train,
)
from bsq.cli.failures import Verbs
from bsq.cli.waiting import sleep_soon

EPILOG = """
**Examples**

`bsq encode photo.jpg` · writes photo.bsq beside it

`bsq decode photo.bsq -o again.png` · and back

`bsq encode holiday/ -o small/ --bits 18` · a whole folder, at half the bits of the default model

`curl -s https://example.org/a.jpg | bsq encode - | bsq decode - > a.png` · in a pipe

**Exit codes**: 0 all done · 1 some of many inputs failed, the rest were done · 2 wrong usage · 4 a library is missing ·
5 unreadable or unwritable file · 6 model · 7 data set · 8 training · 9 evaluation · 10 not a .bsq file · 11 empty ·
12 newer version · 13 other model · 14 damaged · 15 truncated · 16 over the limit · 17 not portable · 70 a bug in bsq ·
130 interrupted (129, 143: by a signal) · 141 nobody reads the output.
"""

app = typer.Typer(
    cls=Verbs,
    help="Pictures and videos as short rows of bits, and back.",
    epilog=EPILOG,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bsq {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", envvar="BSQ_DEBUG", help="Show tracebacks of errors.")] = False,
) -> None:
    pass


app.command("encode", epilog=examples.ENCODE_EPILOG)(encode.encode)
app.command("decode", epilog=examples.DECODE_EPILOG)(decode.decode)
app.command("info", epilog=info.EPILOG)(info.info)
app.command("tokenize", epilog=tokenize.EPILOG)(tokenize.tokenize)
app.command("train", epilog=train.EPILOG)(train.train)
app.command("generate", epilog=generate.EPILOG)(generate.generate)
app.command("convert", epilog=convert.EPILOG)(convert.convert)
app.command("export", epilog=export.EPILOG)(export.export)
app.command("demo", epilog=demo.EPILOG)(demo.demo)
app.add_typer(evaluate.evaluate, name="evaluate")
app.add_typer(bench_video.bench, name="bench")


def main() -> None:
    sleep_soon()
    app(prog_name="bsq")


if __name__ == "__main__":
    main()
