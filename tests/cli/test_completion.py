"""Tab after `bsq`: in a real bash, installed as users install it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from bsq.cli.main import app


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is what completes")
def test_bash_completes_verbs_and_options(tmp_path: Path) -> None:
    program = tmp_path / "bin/bsq"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bsq.cli.main "$@"\n')
    program.chmod(0o755)
    # Without the switch typer asks which shell its parent is, and that is pytest.
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }

    def bash(script: str) -> str:
        done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "_BSQ_COMPLETE=complete_bash" in bash("bsq --show-completion bash")
    bash("bsq --install-completion bash")
    (installed,) = tmp_path.glob(".bash_completions/*")
    ask = f"source {installed}; _f=$(complete -p bsq | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\n"
    ask += 'COMP_WORDS=(bsq {words}); COMP_CWORD={at}; "$_f" bsq; echo "${{COMPREPLY[@]}}"'
    assert bash(ask.format(words="enc", at=1)).split() == ["encode"]
    assert "--target-bpp" in bash(ask.format(words="encode --ta", at=2)).split()


def every_verb(group: Any, prefix: str) -> Any:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_verb(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


@pytest.mark.parametrize(("name", "command"), list(every_verb(get_command(app), "bsq")), ids=lambda one: str(one)[:30])
def test_every_verb_says_what_it_does_and_shows_it(name: str, command: Any) -> None:
    assert command.help, name
    assert f"`{name} " in (command.epilog or ""), f"{name} --help shows no example of it"
    assert not [one.name for one in command.params if not getattr(one, "help", None)], f"options of {name} without help"
