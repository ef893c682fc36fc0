"""Pictures through streams and back: sizes are exact, codes are what the tokenizer made, wrong models are refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import bsq
from bsq.codec import shelf
from bsq.codec.container import ContainerWriter
from bsq.codec.framing import Form
from bsq.codec.header import Header
from bsq.codec.info import Limits
from bsq.codec.measure import inspect
from bsq.codec.picture import compress, decompress, recover, verify
from bsq.codec.stream import read_codes, write_codes
from bsq.codec.writer import describe
from bsq.codes import Codes
from bsq.data.pictures import encode_picture, open_picture, to_pixels, to_uint8
from bsq.errors import (
    CheckpointError,
    DamagedStreamError,
    LimitError,
    MediaError,
    SettingsError,
    ShapeError,
    WrongModelError,
)
from bsq.prior.adaptive import AdaptivePrior
from bsq.prior.exact import ExactPrior
from bsq.prior.freeze import freeze, save_prior
from bsq.prior.masked import MaskedPrior, MaskedSettings
from bsq.prior.uniform import UniformPrior
from bsq.tokenizer import Tokenizer


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (37, 53), (7, 130), (64, 9)])
def test_the_size_is_restored_exactly(tiny_tokenizer: Tokenizer, height: int, width: int) -> None:
    picture = noise(height, width)
    again = decompress(compress(picture, tiny_tokenizer), tiny_tokenizer)
    assert again.dtype == np.uint8
    assert again.shape == (height, width, 3)
    again = decompress(compress(picture, tiny_tokenizer, search=0, colours=False), tiny_tokenizer)
    assert np.array_equal(again, to_uint8(tiny_tokenizer.reconstruct(to_pixels(picture))))


@pytest.mark.parametrize("prior", ["auto", "adaptive", "raw"])
@pytest.mark.parametrize("bits", [None, 1, 5, 12])
def test_the_stream_holds_the_codes(tiny_tokenizer: Tokenizer, bits: int | None, prior: str) -> None:
    picture = noise(40, 24)
    chosen = shelf.prior_called(prior, tiny_tokenizer)
    stream = compress(picture, tiny_tokenizer, bits, chosen, search=0)
    assert read_codes(stream, [chosen]).codes == tiny_tokenizer.encode(to_pixels(picture), bits)
    assert np.array_equal(decompress(stream, tiny_tokenizer), decompress(stream, tiny_tokenizer, priors=[chosen]))
    assert inspect(stream).info.kept == (bits or 12)
    verify(stream, tiny_tokenizer)


def test_fewer_bits_make_smaller_files(tiny_tokenizer: Tokenizer) -> None:
    sizes = [len(compress(noise(128, 128), tiny_tokenizer, bits)) for bits in (1, 4, 8, 12)]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] < 16 * 16 * 12 / 8 + 100


def test_paths_and_bytes_are_pictures_too(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    picture = noise(20, 30)
    data = encode_picture(picture, ".png")
    (tmp_path / "a.png").write_bytes(data)
    wanted = compress(picture, tiny_tokenizer)
    assert compress(data, tiny_tokenizer) == compress(tmp_path / "a.png", tiny_tokenizer) == wanted


def test_the_front_door_leads_here(tiny_tokenizer: Tokenizer, tiny_model: Path) -> None:
    picture = noise(16, 16)
    stream = bsq.compress(picture, str(tiny_model))
    assert np.array_equal(bsq.decompress(stream, tiny_model), decompress(stream, tiny_tokenizer))
    assert bsq.load(tiny_model).code_hash == tiny_tokenizer.code_hash
    assert bsq.Tokenizer is Tokenizer
    assert bsq.Codes is Codes
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        bsq.nonsense  # noqa: B018


def test_another_model_is_refused(tiny_tokenizer: Tokenizer, other_tokenizer: Tokenizer) -> None:
    stream = compress(noise(8, 8), tiny_tokenizer)
    with pytest.raises(WrongModelError, match=tiny_tokenizer.code_hash[:16]):
        decompress(stream, other_tokenizer)
    with pytest.raises(WrongModelError, match=r"none of the bundled ones.*--model"):
        decompress(stream)


@pytest.mark.parametrize(
    "change",
    [{"patch": 4}, {"radices": (3,) * 12}, {"radices": (2,) * 16}, {"least_rows": 3000, "least_columns": 3000}],
)
def test_headers_that_do_not_fit_the_model_are_refused_at_once(tiny_tokenizer: Tokenizer, change: dict) -> None:
    info = replace(describe(tiny_tokenizer, 16, 24, 12), **change)
    file = io.BytesIO()
    writer = ContainerWriter(Header(info, AdaptivePrior.name, AdaptivePrior.identity, portable=True), file)
    writer.begin_group()
    writer.add(Form.CODED, 2, b"")  # the adaptive prior needs minutes for millions of tokens
    writer.finish(bytes(8))
    for read in (decompress, recover):
        with pytest.raises(DamagedStreamError, match="never writes"):
            read(file.getvalue(), tiny_tokenizer)


def test_bundled_models_are_found_by_hash(
    tiny_tokenizer: Tokenizer, other_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = {"other": other_tokenizer, "tiny": tiny_tokenizer}
    monkeypatch.setattr(shelf, "bundled_models", lambda: sorted(bundled))
    monkeypatch.setattr(shelf, "bundled_model", lambda name, device: bundled[name])
    monkeypatch.setattr(shelf, "MODELS", Path("nowhere"))
    stream = compress(noise(8, 8), tiny_tokenizer)
    assert shelf.find_model(inspect(stream).info) is tiny_tokenizer
    assert decompress(stream).shape == (8, 8, 3)
    assert shelf.named_model("other") is other_tokenizer


def test_a_name_in_a_stream_is_not_followed(
    tiny_tokenizer: Tokenizer, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(name: object, device: str = "cpu") -> Tokenizer:
        raise AssertionError(f"{name} was loaded")

    info = replace(describe(tiny_tokenizer, 8, 8, 12), tokenizer=str(tiny_model))
    monkeypatch.setattr(shelf, "bundled_models", list)
    monkeypatch.setattr(shelf, "load", forbidden)
    with pytest.raises(WrongModelError, match="tiny"):
        shelf.find_model(info)


def test_folders_leave_no_name_in_the_file(tiny_model: Path) -> None:
    assert inspect(compress(noise(8, 8), tiny_model)).info.tokenizer == ""


@pytest.mark.parametrize("name", ["raw", "adaptive"])
def test_priors_by_name(tiny_tokenizer: Tokenizer, name: str) -> None:
    wanted = compress(noise(24, 24), tiny_tokenizer, prior=shelf.prior_called(name, tiny_tokenizer))
    assert compress(noise(24, 24), tiny_tokenizer, prior=name) == wanted
    with pytest.raises(SettingsError, match="no prior 'row'"):
        compress(noise(24, 24), tiny_tokenizer, prior="row")


def test_bad_requests(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    picture = noise(8, 8)
    for bits in (0, 13, -1):
        with pytest.raises(SettingsError, match=r"bits must be 1 to 12"):
            compress(picture, tiny_tokenizer, bits)
    with pytest.raises(ShapeError, match="uint8"):
        compress(picture.astype(float), tiny_tokenizer)
    with pytest.raises(CheckpointError, match="no model"):
        compress(picture, "no-such-model")
    with pytest.raises(MediaError, match="no such file"):
        compress(tmp_path / "missing.png", tiny_tokenizer)


def some_prior(radices: tuple[int, ...]) -> ExactPrior:
    torch.manual_seed(0)
    prior = MaskedPrior(MaskedSettings(radices=radices, layer_digits=4, width=16, blocks=1, chain_width=16))
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3)
    return freeze(prior)


def test_a_prior_trained_for_the_tokenizer_comes_with_its_folder(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    for folder, code_hash in (("own", tiny_tokenizer.code_hash), ("strange", "ab" * 32)):
        tiny_tokenizer.save_pretrained(tmp_path / folder)
        save_prior(some_prior(tiny_tokenizer.radices), tmp_path / folder, code_hash=code_hash)
    picture = noise(40, 24)
    own = compress(picture, tmp_path / "own", bits=7)
    assert inspect(own).prior == "masked"
    assert np.array_equal(
        decompress(own, tmp_path / "own"), decompress(compress(picture, tiny_tokenizer, 7), tiny_tokenizer)
    )
    assert inspect(compress(picture, tmp_path / "strange")).prior == "adaptive"
    assert shelf.foreign_prior(shelf.named_model(tmp_path / "own")) == ""
    with pytest.raises(SettingsError, match="of other weights"):
        shelf.prior_called("learned", shelf.named_model(tmp_path / "strange"))
    with pytest.raises(WrongModelError, match="masked prior"):
        decompress(own, tiny_tokenizer)


def test_priors_that_do_not_exist(tiny_tokenizer: Tokenizer) -> None:
    with pytest.raises(SettingsError, match="no prior was trained for this tokenizer"):
        shelf.prior_called("learned", tiny_tokenizer)
    with pytest.raises(SettingsError, match="no prior 'psychic'; there are auto"):
        shelf.prior_called("psychic", tiny_tokenizer)


def test_limits_and_videos(tiny_tokenizer: Tokenizer) -> None:
    stream = compress(noise(16, 16), tiny_tokenizer)
    with pytest.raises(LimitError, match="256 pixels, the limit is 255"):
        decompress(stream, tiny_tokenizer, limits=Limits(pixels=255))
    codes = tiny_tokenizer.encode(to_pixels(noise(16, 16)))
    two = Codes(codes.digits.repeat(1, 2, 1, 1, 1), codes.radices)
    info = replace(describe(tiny_tokenizer, 16, 16, 12), frames=2, frame_rate=Fraction(25))
    with pytest.raises(MediaError, match="a video of 2 frames"):
        decompress(write_codes(two, info, UniformPrior()), tiny_tokenizer)


def test_what_is_no_picture_and_no_stream_is_named(tiny_tokenizer: Tokenizer) -> None:
    with pytest.raises(MediaError, match="got NoneType"):
        compress(None, tiny_tokenizer)  # type: ignore[arg-type]
    with pytest.raises(MediaError, match="a stream is bytes, got str"):
        decompress("photo.bsq", tiny_tokenizer)  # type: ignore[arg-type]


def test_codes_that_repeat_take_the_smaller_prior(
    photo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = np.full((128, 128, 3), (255, 0, 255), np.uint8)
    data = compress(flat)
    assert inspect(data).prior == "adaptive"
    assert len(data) < len(compress(flat, prior="learned")) / 2
    assert np.abs(decompress(data).astype(int) - flat).max() <= 2
    white = compress(flat | 255)
    assert inspect(white).prior == "masked"
    assert len(white) < len(compress(flat | 255, prior="adaptive"))
    # A photograph's codes are not even offered to it.
    monkeypatch.setattr(AdaptivePrior, "converse", None)
    assert inspect(compress(open_picture(photo("chelsea"))[60:188, 100:260], bits=9)).prior == "masked"
