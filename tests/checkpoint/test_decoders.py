"""Further decoders: the same codes and files, other pixels; names, damage, and what goes along."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import bsq
from bsq import folders
from bsq.checkpoint import load
from bsq.checkpoint.begin import begin_from
from bsq.checkpoint.decoders import decoders_in, save_decoder, split_decoder
from bsq.cli.main import app
from bsq.codec.shelf import name_of, named_model
from bsq.errors import CheckpointError
from bsq.layers.positions import LearnedPositionsSettings
from bsq.tokenizer import Tokenizer
from bsq.vit.refiner import RefinerSettings


@pytest.fixture
def two(tiny_tokenizer: Tokenizer, other_tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A folder of `tiny_tokenizer` with the other's decoder as the one called "odd"."""
    folder = tmp_path / "two"
    tiny_tokenizer.save_pretrained(folder)
    mixed = copy.deepcopy(tiny_tokenizer)
    mixed.decoder.load_state_dict(other_tokenizer.decoder.state_dict())
    save_decoder(mixed, folder, "odd", torch.float16)
    return folder


def test_the_codes_are_the_same_the_pixels_are_not(two: Path, other_tokenizer: Tokenizer) -> None:
    pixels = torch.rand(1, 3, 24, 32) * 2 - 1
    plain, odd = load(two), load(f"{two}:odd")
    assert decoders_in(two) == ["faithful", "odd"]
    assert odd.code_hash == plain.code_hash == load(f"{two}:faithful").code_hash
    assert odd.encode(pixels).digits.equal(plain.encode(pixels).digits)
    assert not odd.reconstruct(pixels).equal(plain.reconstruct(pixels))
    for name, tensor in odd.decoder.state_dict().items():
        assert tensor.equal(other_tokenizer.decoder.state_dict()[name].half().float())


def test_it_may_be_built_otherwise(two: Path, tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    settings = tiny_tokenizer.settings
    change = {"depth": settings.decoder.depth + 1, "refiner": RefinerSettings(width=8)}
    deep = settings.decoder.model_copy(update=change)
    deeper = Tokenizer(settings.model_copy(update={"decoder": deep})).eval()
    begin_from(tiny_tokenizer, deeper)
    with torch.no_grad():
        deeper.decoder.body.blocks[-1].get_parameter("mlp.down.bias").fill_(0.5)
    save_decoder(deeper, two, "deep")
    again, pixels = load(f"{two}:deep"), torch.rand(1, 3, 24, 32) * 2 - 1
    assert again.settings == deeper.settings
    assert not again.training
    assert again.reconstruct(pixels).equal(deeper.reconstruct(pixels))
    assert not again.reconstruct(pixels).equal(tiny_tokenizer.reconstruct(pixels))
    again.save_pretrained(tmp_path / "alone")  # it is this model's own decoder there, and the others go along
    assert load(tmp_path / "alone").reconstruct(pixels).equal(deeper.reconstruct(pixels))
    assert load(f"{tmp_path / 'alone'}:odd").settings == settings


def test_how_it_is_built_is_checked(two: Path) -> None:
    path, tokenizer = two / "decoder-odd.safetensors", load(two)
    tensors = {name: tensor.contiguous() for name, tensor in tokenizer.decoder.state_dict().items()}
    facts = {"code_hash": tokenizer.code_hash}
    huge = tokenizer.settings.decoder.model_copy(update={"depth": 10**6}).model_dump_json()
    for told, wanted in (("", "how its"), ("{}}", "how its"), (huge, "least")):
        save_file(tensors, path, metadata={**facts, "decoder": told})
        with pytest.raises(CheckpointError, match=wanted):
            load(f"{two}:odd")
    save_file(tensors, path, metadata=facts)  # as earlier versions wrote them
    assert load(f"{two}:odd").settings == tokenizer.settings


def test_it_must_be_for_the_same_grids(two: Path) -> None:
    tokenizer = load(two)
    table = tokenizer.settings.decoder.model_copy(update={"positions": LearnedPositionsSettings(rows=4, columns=4)})
    save_decoder(Tokenizer(tokenizer.settings.model_copy(update={"decoder": table})), two, "flat")
    path = two / "decoder-flat.safetensors"
    facts = {"code_hash": tokenizer.code_hash, "decoder": table.model_dump_json()}
    save_file(load_file(path), path, metadata=facts)
    with pytest.raises(CheckpointError, match="other grids"):
        load(f"{two}:flat")


def test_a_file_opens_with_either(two: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    data = bsq.compress(picture, str(two))
    assert bsq.compress(picture, f"{two}:odd") == data
    assert (bsq.decompress(data, f"{two}:odd") != bsq.decompress(data, str(two))).any()


def test_the_command_line_names_it(two: Path, tmp_path: Path) -> None:
    stream = tmp_path / "a.bsq"
    picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    stream.write_bytes(bsq.compress(picture, str(two)))
    given = ["decode", str(stream), "-m", str(two), "--decoder"]
    done = CliRunner().invoke(app, [*given, "odd", "-o", str(tmp_path / "odd.png")])
    assert done.exit_code == 0, done.stderr
    wanted = bsq.decompress(stream.read_bytes(), f"{two}:odd")
    assert (np.asarray(Image.open(io.BytesIO((tmp_path / "odd.png").read_bytes()))) == wanted).all()
    wrong = CliRunner().invoke(app, [*given, "best", "-o", str(tmp_path / "best.png")])
    assert wrong.exit_code == CheckpointError.exit_code
    assert "no decoder 'best' in two: there are faithful, odd" in wrong.stderr
    wrongs = [
        (two, "Odd", "no decoder can be called"),
        (f"{two}:odd", "best", "two decoders"),
        (f"{two}:faithful", "odd", "two decoders"),
    ]
    for model, decoder, words in wrongs:
        wrong = CliRunner().invoke(app, ["decode", str(stream), "-m", str(model), "--decoder", decoder])
        assert wrong.exit_code == 2
        assert words in wrong.stderr


def test_streams_name_the_model_alone(monkeypatch: pytest.MonkeyPatch, two: Path) -> None:
    monkeypatch.setattr("bsq.codec.shelf.load", lambda name, device: load(two))
    assert name_of(named_model("owner/name:odd")) == "owner/name"
    assert name_of(named_model(f"{two}:odd")) == ""


def test_the_hub_is_asked_for_it(monkeypatch: pytest.MonkeyPatch, two: Path) -> None:
    asked: list[str] = []

    def fetch(hub_id: str, name: str, **options: object) -> str:
        asked.append(name)
        return str(two / name)

    monkeypatch.setattr(folders, "get_hf_file_metadata", lambda url, token=None: None)
    monkeypatch.setattr(folders, "hf_hub_download", fetch)
    load("owner/name:odd")
    assert "decoder-odd.safetensors" in asked
    asked.clear()
    load("owner/name")
    assert asked == ["model.safetensors", "config.json"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("biscuit-s", ("biscuit-s", "faithful")),
        ("biscuit-s:perceptual", ("biscuit-s", "perceptual")),
        ("owner/name:odd-2", ("owner/name", "odd-2")),
        ("C:\\models\\mine", ("C:\\models\\mine", "faithful")),
        ("c:m", ("c:m", "faithful")),
        (":odd", (":odd", "faithful")),
        ("a:", ("a:", "faithful")),
        ("x" * 300 + ":odd", ("x" * 300, "odd")),
    ],
)
def test_names_are_taken_apart(name: str, wanted: tuple[str, str]) -> None:
    assert split_decoder(name) == wanted


def test_a_folder_may_have_a_colon(two: Path) -> None:
    two.rename(two.with_name("a:odd"))
    assert load(two.with_name("a:odd")).code_hash == load(f"{two.with_name('a:odd')}:odd").code_hash


def test_it_goes_along_while_the_codes_are_the_same(two: Path, other_tokenizer: Tokenizer, tmp_path: Path) -> None:
    load(two).save_pretrained(tmp_path / "again")
    assert decoders_in(tmp_path / "again") == ["faithful", "odd"]
    changed = load(two)
    with torch.no_grad():
        next(changed.encoder.parameters()).add_(1)
    changed.save_pretrained(tmp_path / "changed")
    assert decoders_in(tmp_path / "changed") == ["faithful"]


def test_what_does_not_belong_is_refused(two: Path, other_tokenizer: Tokenizer) -> None:
    path = two / "decoder-odd.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(f"{two}:odd")
    save_decoder(other_tokenizer, two, "odd")
    with pytest.raises(CheckpointError, match="codes of other weights"):
        load(f"{two}:odd")
    facts = {"code_hash": load(two).code_hash, "decoder": load(two).settings.decoder.model_dump_json()}
    save_file({"a": torch.zeros(10**6)}, path, metadata=facts)
    with pytest.raises(CheckpointError, match="does not fit the model: missing"):
        load(f"{two}:odd")
    for name in ("faithful", "", "../x", "Odd"):
        with pytest.raises(CheckpointError, match="no name for a further decoder"):
            save_decoder(other_tokenizer, two, name)
    with pytest.raises(CheckpointError, match="cannot write"):
        save_decoder(other_tokenizer, two / "nowhere", "odd")
    assert not list(two.glob("*.draft"))
