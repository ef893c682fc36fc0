"""Exported programs give the bits of the model they came from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bsq
from bsq.errors import CheckpointError, MissingDependencyError, SettingsError
from bsq.export import Format, check_export, export_model, networks, write
from bsq.export.networks import PictureDecoder, PictureEncoder
from bsq.layers.products import plain_products
from bsq.tokenizer import Tokenizer, TokenizerSettings

WINDOWS = {"kind": "windows", "size": 4}
FSQ_WIDE = {"kind": "fsq", "levels": (8, 5, 300, 3)}
VQ = {"kind": "vq", "size": 64, "width": 6, "metric": "cosine"}
QUANTIZERS = ({"kind": "bsq", "bits": 12}, {"kind": "lfq", "bits": 12}, FSQ_WIDE, VQ, {"kind": "gumbel", "size": 64})


def tokenizer_of(quantizer: dict[str, Any] = QUANTIZERS[0], **side: Any) -> Tokenizer:
    torch.manual_seed(0)
    body = {"width": 32, "depth": 2, "head_width": 16, "attention": WINDOWS} | side
    settings = {"patch": 8, "quantizer": quantizer, "encoder": body, "decoder": body}
    return Tokenizer(TokenizerSettings.model_validate(settings)).eval()


def pictures(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizer_of()


@pytest.fixture(scope="module")
def exported(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "programs"
    export_model(tokenizer, folder)
    return folder


@pytest.mark.parametrize("attention", [WINDOWS, {"kind": "windows", "size": 2}, {"kind": "full"}], ids=str)
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (33, 40), (61, 130), (96, 64), (7, 300)], ids=str)
@torch.no_grad()
def test_gathered_windows_compute_what_rolled_ones_do(size: tuple[int, int], attention: dict[str, Any]) -> None:
    tokenizer = tokenizer_of(attention=attention, depth=3)
    pixels = pictures(2, 3, *size)
    codes = tokenizer.encode(pixels)
    assert torch.equal(PictureEncoder(tokenizer)(pixels), codes.digits[:, 0])
    again = PictureDecoder(tokenizer)(codes.digits[:, 0])
    assert torch.allclose(again, tokenizer.decode(codes)[:, :, 0], atol=1e-6)


@torch.no_grad()
def test_what_a_refiner_adds_is_in_the_program() -> None:
    plain = tokenizer_of()
    told = plain.settings.model_dump()
    refined = Tokenizer(
        TokenizerSettings.model_validate({**told, "decoder": {**told["decoder"], "refiner": {}}})
    ).eval()
    torch.nn.init.normal_(refined.decoder.get_parameter("refiner.last.weight"), std=0.3)
    digits = PictureEncoder(refined)(pictures(2, 3, 61, 130))
    again = PictureDecoder(refined)(digits)
    assert torch.allclose(again, refined.decode(bsq.Codes(digits[:, None], refined.radices))[:, :, 0], atol=1e-6)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda one: one["kind"])
@torch.no_grad()
def test_every_quantizer_reads_the_same_digits(quantizer: dict[str, Any]) -> None:
    tokenizer = tokenizer_of(quantizer)
    pixels = pictures(2, 3, 64, 40)
    digits = PictureEncoder(tokenizer)(pixels)
    codes = tokenizer.encode(pixels)
    assert digits.dtype == codes.digits.dtype
    assert torch.equal(digits, codes.digits[:, 0])


def test_programs_take_any_batch_and_size(exported: Path, tokenizer: Tokenizer) -> None:
    sizes = ((1, 33, 33), (3, 64, 96), (2, 71, 50), (1, 200, 35))
    found = check_export(exported, tokenizer, [pictures(batch, 3, *size) for batch, *size in sizes])
    assert (found.pictures, found.unequal_digits) == (7, 0)
    assert found.digits == 12 * (25 + 3 * 96 + 2 * 63 + 125)
    assert found.farthest_pixel < 1e-5


def test_the_first_bits_decode_alone(exported: Path, tokenizer: Tokenizer) -> None:
    decode = write.open_program(exported / "decoder.pt2", Format.torch_export)
    for bits in (1, 5, 12):
        codes = tokenizer.encode(pictures(1, 3, 64, 48), bits)
        assert torch.allclose(decode(codes.digits[:, 0]), tokenizer.decode(codes)[:, :, 0], atol=1e-6)


def test_no_bsq_is_needed(exported: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    pixels = pictures(1, 3, 50, 60)
    torch.save(pixels, tmp_path / "pixels.pt")
    script = (
        "import sys, torch; sys.modules['bsq'] = None\n"
        f"encoder = torch.export.load({str(exported / 'encoder.pt2')!r}).module()\n"
        "torch.save(encoder(torch.load('pixels.pt')), 'digits.pt')"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, capture_output=True)
    assert torch.equal(torch.load(tmp_path / "digits.pt"), tokenizer.encode(pixels).digits[:, 0])


def test_the_record_says_what_there_is(exported: Path, tokenizer: Tokenizer) -> None:
    record = json.loads((exported / "export.json").read_text())
    assert record["code_hash"] == tokenizer.code_hash
    assert (record["patch"], record["radices"], record["size"], record["least_side"]) == (8, [2] * 12, None, 33)
    assert record["bsq"] == bsq.__version__
    assert sorted(path.name for path in exported.iterdir()) == ["decoder.pt2", "encoder.pt2", "export.json"]
    assert [path.name for path in exported.parent.iterdir()] == ["programs"]  # no drafts are left


def test_one_size_may_be_smaller_than_a_window(tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert export_model(tokenizer, tmp_path / "small", size=(16, 24)).size == (16, 24)
    assert check_export(tmp_path / "small", tokenizer, [pictures(5, 3, 16, 24)]).unequal_digits == 0


def test_learned_positions_fix_the_size(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(positions={"kind": "learned", "rows": 3, "columns": 2}, attention={"kind": "full"})
    with pytest.raises(SettingsError, match="24x16 pixels"):
        export_model(tokenizer, tmp_path / "no", size=(16, 16))
    assert export_model(tokenizer, tmp_path / "yes").size == (24, 16)
    assert check_export(tmp_path / "yes", tokenizer, [pictures(2, 3, 24, 16)]).unequal_digits == 0


def test_bad_requests(tokenizer: Tokenizer, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there already"):
        export_model(tokenizer, exported)
    with pytest.raises(SettingsError, match="continuous latent"):
        export_model(tokenizer_of({"kind": "kl"}), tmp_path / "kl")
    with pytest.raises(SettingsError, match="from 1 up"):
        export_model(tokenizer, tmp_path / "none", size=(0, 8))
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        export_model(tokenizer, tmp_path / "file" / "out")
    with pytest.raises(CheckpointError, match="no folder of exported programs"):
        check_export(tmp_path, tokenizer, [])


def test_programs_that_give_other_codes_are_not_written(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "read_digits", lambda quantizer, latent: (latent < 0).to(torch.uint8))
    with pytest.raises(CheckpointError, match="do not give what the model gives"):
        export_model(tokenizer, tmp_path / "wrong", size=(16, 16))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_onnx_gives_the_same_codes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    export_model(tokenizer, tmp_path / "onnx", Format.onnx)
    sizes = ((1, 33, 33), (3, 64, 96), (2, 71, 50))
    found = check_export(tmp_path / "onnx", tokenizer, [pictures(batch, 3, *size) for batch, *size in sizes])
    assert found.unequal_digits == 0
    assert found.farthest_pixel < 1e-5
    assert sorted(path.suffix for path in (tmp_path / "onnx").iterdir()) == [".json", ".onnx", ".onnx"]


def test_onnx_says_what_it_needs(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'bsq\[export\]'"):
        export_model(tokenizer, tmp_path / "onnx", Format.onnx)


@pytest.mark.slow
@pytest.mark.parametrize("format", list(Format))
def test_the_default_model_on_a_hundred_pictures(format: Format, photo: Callable[[str], Path], tmp_path: Path) -> None:
    from bsq.data.pictures import read_picture

    if format is Format.onnx:
        pytest.importorskip("onnxruntime")
    tokenizer = bsq.load("biscuit-s")
    export_model(tokenizer, tmp_path / "programs", format)

    def crops() -> Any:
        """25 of each photograph, of as many sizes."""
        chance = torch.Generator().manual_seed(0)
        for name in ("astronaut", "chelsea", "coffee", "rocket"):
            pixels = torch.from_numpy(read_picture(photo(name)).pixels.copy()).movedim(2, 0)[None] / 127.5 - 1
            for _ in range(25):
                height, width = torch.randint(65, 257, (2,), generator=chance).tolist()
                top = int(torch.randint(pixels.shape[2] - height, (), generator=chance))
                left = int(torch.randint(pixels.shape[3] - width, (), generator=chance))
                yield pixels[..., top : top + height, left : left + width]

    found = check_export(tmp_path / "programs", tokenizer, crops())
    with plain_products():
        plain = [tokenizer.encode(pixels) for pixels in crops()]
    pairs = zip(map(tokenizer.encode, crops()), plain, strict=True)
    otherwise = sum(int((ours.digits != theirs.digits).sum()) for ours, theirs in pairs)
    print(found, f"{otherwise} digits otherwise in the arithmetic of this processor")
    assert otherwise <= 1e-5 * found.digits
    assert found.pictures == 100
    assert found.unequal_digits == 0
    assert found.farthest_pixel < 1e-5
