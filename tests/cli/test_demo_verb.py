"""`bsq demo` before there is a page: what it says when it cannot begin."""

from __future__ import annotations

import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bsq.cli.main import app
from bsq.demo.handling import Setup


def demo(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["demo", "--no-browser", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def test_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert demo() == (4, "error: the page needs gradio, which is not installed; pip install 'bsq[demo]'")


@pytest.mark.skipif(find_spec("gradio") is None, reason="gradio is not installed")
def test_a_port_that_is_taken_and_models_that_are_not_there(tiny_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = demo("--model", tiny_model, "--port", str(taken.getsockname()[1]))
    assert (code, "the port is taken" in said) == (2, True)
    assert demo("--model", "no-such-model")[0] == 6
    code, said = demo("--model", tiny_model, "--generator", tiny_model)
    assert code == 6


@pytest.mark.skipif(find_spec("gradio") is None, reason="gradio is not installed")
def test_the_generator_that_comes_along_is_there_unasked(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    served: list[Setup] = []
    monkeypatch.setattr("bsq.demo.page.serve", lambda setup, *given: served.append(setup))
    monkeypatch.setattr("bsq.demo.page.prepare_surroundings", lambda folder: None)
    monkeypatch.setattr("bsq.cli.demo.leave", lambda code: None)
    assert demo()[0] == demo("--model", tiny_model)[0] == 0
    ours, other = (setup.maker for setup in served)
    assert ours is not None
    assert "Motorbikes" in ours.classes
    assert other is None
