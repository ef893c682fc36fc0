"""What the page writes: numbers in HTML, errors in plain words, and nothing of an upload as markup."""

from __future__ import annotations

import numpy as np
import pytest

from bsq.bench.sweep import Scores
from bsq.codec.measure import inspect
from bsq.codec.picture import compress
from bsq.demo.judging import Row
from bsq.demo.material import Material
from bsq.demo.words import comparison, figures, plain, told_costs, told_cut, told_material, told_stream
from bsq.errors import MediaError
from bsq.tokenizer import Tokenizer

EVIL = "<img src=x onerror=alert(1)>.png"


def test_errors_are_plain() -> None:
    assert plain(MediaError("a.png is empty, 0 bytes")) == "a.png is empty, 0 bytes"
    assert "memory" in plain(MemoryError())
    assert "memory" in plain(RuntimeError("[enforce fail] can't allocate memory: you tried …"))
    assert plain(KeyError("x")).startswith("This is a bug in bsq: KeyError: ")


def test_names_and_reasons_are_never_markup(tiny_tokenizer: Tokenizer) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    parts = inspect(compress(picture, tiny_tokenizer))
    rows = [Row("bsq", 9, 1.0, Scores(30.0, None, None), picture), Row("JPEG", 0, 0.0, None, None, why=EVIL)]
    for text in (
        plain(MediaError(EVIL)),
        plain(ValueError(EVIL)),
        told_material(Material(EVIL, (picture,), None, (EVIL,))),
        told_stream(EVIL, parts),
        told_cut(1, 2, EVIL),
        comparison(rows),
    ):
        assert "<img" not in text
        assert "&lt;img" in text


def test_the_best_of_each_column_is_bold() -> None:
    ours, other = Scores(30.0, 0.9, 0.2), Scores(31.0, 0.8, 0.1)
    rows = [Row("bsq", 1000, 0.5, ours, None), Row("AVIF", 1200, 0.6, other, None, over=True)]
    text = comparison(rows)
    assert "<td>30.00</td><td><b>10.00</b></td><td>0.2000</td>" in text
    assert "<td><b>31.00</b></td><td>6.99</td><td><b>0.1000</b></td>" in text
    assert "1,200<sup>+</sup>" in text
    assert "its smallest file is larger" in text


def test_figures_without_scores_are_dashes() -> None:
    assert figures(1234, 0.5, None).count(">–<") == 3
    assert "1,234" in figures(1234, 0.5, Scores(30.0, None, 0.1))
    assert figures(1234, 0.5, Scores(30.0, None, 0.1)).count(">–<") == 1


@pytest.mark.parametrize(("missing", "says"), [(None, "nothing is missing."), ("it ends early", "it ends early.")])
def test_a_cut_says_how_much_is_there(missing: str | None, says: str) -> None:
    assert told_cut(500, 1000, missing) == f"<p class='bsq-cut'>500 of 1,000 bytes: {says}</p>"


def test_the_legend_adds_up() -> None:
    colours = np.random.default_rng(0).integers(0, 6, size=(4, 4, 3), dtype=np.uint8) * 51
    stream = compress(colours.repeat(32, 0).repeat(32, 1), prior="learned")
    text = told_costs(np.array([[[4.0, 12.0]]]), stream)
    assert ">4.0<" in text
    assert "12.0 bits a token" in text
    assert f"8.00 bits on average: 2 bytes in all; the file has {len(stream)} bytes, " in text
    assert f"{inspect(stream).extra} bytes of it for what larger parts lack" in text
    assert "What the learned prior asks" in text
    flat = compress(np.full((64, 64, 3), 90, np.uint8), prior="adaptive")
    assert "What the adaptive prior asks" in told_costs(np.ones((1, 8, 8)), flat)
