"""Pages that are written while the site is built. What enters: the command line. What leaves: commands.md.

mkdocs calls `on_files`. Nothing of it is kept, so it cannot go stale.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

HEAD = "# Command line\n\nEvery verb and option, as `bsq VERB --help` prints them.\n"


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    files.append(File.generated(config, "commands.md", content=page()))
    return files


def page() -> str:
    """The command line as Markdown, from the program itself."""
    from typer.main import get_command

    from bsq.cli.main import app

    program: Any = get_command(app)
    parts = [HEAD, "## Of all verbs\n", *options(program), epilog(program)]
    for name, command in verbs(program, "bsq"):
        parts += [f"## {name}\n", f"{command.help}\n", *usage(name, command), *options(command), epilog(command)]
    return "\n".join(part for part in parts if part)


def verbs(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every verb and its full name; groups give theirs."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def usage(name: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    words = [one.metavar or one.name.upper() for one in arguments]
    yield f"```text\n{' '.join([name, '[OPTIONS]', *words])}\n```\n"


def options(command: Any) -> Iterator[str]:
    """A table of options and arguments with their help."""
    shown = [one for one in command.params if getattr(one, "help", None)]
    if shown:
        yield "| | |\n|---|---|"
    for one in shown:
        names = one.opts if one.param_type_name == "option" else [one.metavar or one.name.upper()]
        value = f" {one.metavar}" if one.param_type_name == "option" and one.metavar else ""
        yield f"| {cell(', '.join(f'`{name}{value}`' for name in names))} | {cell(one.help)}{default(one)} |"
    yield ""


def default(one: Any) -> str:
    value = getattr(one.default, "value", one.default)
    return f" Default: {cell(str(value))}." if isinstance(value, str | int | float) and value is not False else ""


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def epilog(command: Any) -> str:
    return f"{(command.epilog or '').strip()}\n"
