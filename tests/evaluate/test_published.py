"""Rows of published tables: whole, marked, and only where their protocol was followed."""

from __future__ import annotations

from typing import get_args

import pytest

from bsq.errors import SettingsError
from bsq.evaluate.lines import BITS, BITS_PER_PIXEL, PSNR, Form, columns, frechet, line, lpips, precision
from bsq.evaluate.protocols import PROTOCOLS, Protocol, PublishedTable
from bsq.evaluate.published import ALEX, ORIGIN, RFID, published, published_beside


@pytest.mark.parametrize("table", get_args(PublishedTable))
def test_every_table_has_rows_that_say_where_they_are_from(table: PublishedTable) -> None:
    lines = published(table)
    assert len(lines) >= 4
    assert len({line.system for line in lines}) == len(lines), "charts tell rows apart by their names"
    assert all(line.is_published and line.origin == ORIGIN for line in lines)
    assert any(table in protocol.published for protocol in PROTOCOLS.values())


def test_some_numbers() -> None:
    by_name = {line.system: line for line in published("imagenet-256")}
    assert by_name["BSQ-ViT"].value(PSNR) == 25.36
    assert by_name["SD-VAE 2.x (KL)"].value(BITS) == 64
    assert by_name["DALL-E dVAE"].value(ALEX) == 0.3127
    kodak = {line.system: line for line in published("kodak")}
    assert kodak["BSQ + arithmetic coding"].value(BITS_PER_PIXEL) == 0.2073


def test_only_beside_the_same_protocol() -> None:
    assert published_beside(Form.COMPRESSION, PROTOCOLS["kodak"]) == published("kodak")
    small = PROTOCOLS["imagenet-128"]
    assert published_beside(Form.RECONSTRUCTION, small) == published("imagenet-128-quantizers")
    assert published_beside(Form.GENERATION, small) == published("imagenet-128-generation")
    with pytest.raises(SettingsError, match="by the protocol 'native'; there are rows of imagenet-256, imagenet-128"):
        published_beside(Form.RECONSTRUCTION, Protocol())
    with pytest.raises(SettingsError, match=r"of a compression table .* there are rows of kodak"):
        published_beside(Form.COMPRESSION, small)


def test_values_of_two_networks_never_share_a_column() -> None:
    ours = line("ours", [(lpips("squeeze"), 0.2), (frechet("rFID", "squeeze"), 3.0), (PSNR, 25.0)])
    names = [measure.name for measure in columns([ours, *published("imagenet-256")])]
    assert {"LPIPS-squeeze", "LPIPS-alex", "Fréchet (squeeze)", "rFID (inception)"} <= set(names)
    assert names.index("PSNR dB") < names.index("LPIPS-squeeze")
    published_weights, others = "comparable with values in i", "not comparable: weights other than i"
    assert frechet("rFID", "inception:weights.pth", published_weights) == RFID
    assert frechet("rFID", "inception:weights.pth", others).name == "Fréchet (inception, other weights)"
    generated = {measure.name for measure in columns(published("imagenet-128-generation"))}
    assert generated == {"FID (adm)", "IS (adm)", "precision (adm)", "recall (adm)"}
    assert precision("squeeze", "not comparable: SqueezeNet").name == "precision (squeeze)"
