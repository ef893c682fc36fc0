import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from bsq.bench import reconstruction
from bsq.bench.reconstruction import ReconstructionSettings, run
from bsq.codec.picture import compress
from bsq.data.pictures import open_picture, to_pixels
from bsq.errors import DataError, SettingsError
from bsq.metrics import psnr
from bsq.tokenizer import Tokenizer


def test_a_row_for_each_number_of_bits(folder: Path, tiny_tokenizer: Tokenizer) -> None:
    report = run(ReconstructionSettings(folder=folder, bits=(12, 3), priors=("raw", "adaptive")), tiny_tokenizer)
    assert [row.bits for row in report.rows] == [3, 12]
    pictures = [to_pixels(open_picture(path)) for path in sorted(folder.iterdir())]
    for row in report.rows:
        again = [tiny_tokenizer.reconstruct(pixels, bits=row.bits) for pixels in pictures]
        expected = torch.cat([psnr(a, b) for a, b in zip(again, pictures, strict=True)]).mean().item()
        assert row.scores.psnr == pytest.approx(expected, rel=1e-9)
        tokens = [tiny_tokenizer.encode(pixels).shape for pixels in pictures]
        assert row.use.tokens == sum(shape[2] * shape[3] for shape in tokens)
        assert row.raw_bits_per_pixel == pytest.approx(row.bits / 64, rel=0.05)
        assert row.scores.lpips is not None
        assert [coded.prior for coded in row.coded] == ["uniform", "adaptive"]
        sizes = [
            len(compress(open_picture(path), tiny_tokenizer, row.bits, colours=False))
            for path in sorted(folder.iterdir())
        ]
        expected = (sizes[0] * 8 / (176 * 200) + sizes[1] * 8 / (168 * 192)) / 2
        assert row.coded[1].bits_per_pixel == pytest.approx(expected)
        assert row.scores.ms_ssim_db is not None


def test_written_and_shown(folder: Path, tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    report = run(ReconstructionSettings(folder=folder, bits=(6,), perceptual="none", pictures=1), tiny_tokenizer)
    reconstruction.write(report, tmp_path / "out")
    whole = json.loads((tmp_path / "out" / "reconstruction.json").read_text())
    assert whole["code_hash"] == tiny_tokenizer.code_hash
    assert whole["rows"][0]["scores"]["pictures"] == 1
    assert whole["rows"][0]["scores"]["lpips"] is None
    assert "raw bpp" in (tmp_path / "out" / "reconstruction.md").read_text()
    console = Console(width=160, record=True, file=(tmp_path / "table.txt").open("w"))
    console.print(reconstruction.table(report))
    assert "MS-SSIM dB" in console.export_text()


def test_models_are_found_by_name(folder: Path, tiny_tokenizer: Tokenizer, tiny_model: Path) -> None:
    report = run(ReconstructionSettings(folder=folder, model=str(tiny_model), bits=(6,), perceptual="none", pictures=1))
    assert report.code_hash == tiny_tokenizer.code_hash
    assert reconstruction.title(report).startswith("tiny (")
    assert report.parameters == sum(parameter.numel() for parameter in tiny_tokenizer.parameters())


def test_bad_requests(folder: Path, tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="1 to 12"):
        run(ReconstructionSettings(folder=folder, bits=(18,)), tiny_tokenizer)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        run(ReconstructionSettings(folder=tmp_path / "empty", bits=(3,)), tiny_tokenizer)
