import builtins
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bsq.bench import report as reports
from bsq.bench.classical import (
    AvifSettings,
    Jpeg2000Settings,
    JpegSettings,
    JpegXlSettings,
    WebpSettings,
    classical_codec,
)
from bsq.bench.codecs import CodecBenchSettings, FixedRates, MatchedRates, run
from bsq.bench.ours import OursCodec, OursSettings
from bsq.bench.sweep import FileResult, Point, Search
from bsq.data.pictures import to_pixels
from bsq.errors import DataError, MissingDependencyError, SettingsError
from bsq.metrics import decibels, ms_ssim, psnr
from bsq.tokenizer import Tokenizer

CODECS = [JpegSettings(), Jpeg2000Settings(), WebpSettings(), AvifSettings(speed=10)]
RATES = (0.3, 0.5, 0.8, 1.2)


def settings(folder: Path, **changed: Any) -> CodecBenchSettings:
    values = {"codecs": (JpegSettings(), WebpSettings()), "ours": (), "perceptual": "none"}
    return CodecBenchSettings(folder=folder, **(values | {"rates": FixedRates(bits_per_pixel=RATES)} | changed))


@pytest.mark.parametrize("codec_settings", CODECS, ids=lambda s: s.kind)
def test_classical_codecs(codec_settings: Any, folder: Path) -> None:
    codec = classical_codec(codec_settings)
    picture = np.asarray(Image.open(folder / "p0.png"))
    qualities = codec.qualities()
    assert list(qualities) == sorted(qualities)
    small, large = (codec.encode(picture, qualities[len(qualities) * part // 10]) for part in (3, 8))
    assert len(small) < len(large)
    errors = [float(np.square(codec.decode(data).astype(float) - picture).mean()) for data in (small, large)]
    assert errors[0] > errors[1]
    assert codec.decode(small).shape == picture.shape


def test_files_hold_nothing_but_the_picture(folder: Path) -> None:
    picture = np.asarray(Image.open(folder / "p0.png"))
    for codec_settings in CODECS:
        codec = classical_codec(codec_settings)
        data = codec.encode(picture, codec.qualities()[30])
        assert not any(mark in data for mark in (b"Exif", b"ICC_PROFILE", b"http://ns.adobe.com"))
    assert classical_codec(Jpeg2000Settings()).encode(picture, 1.0)[:4] == b"\xff\x4f\xff\x51"  # a bare codestream
    assert abs(len(classical_codec(Jpeg2000Settings()).encode(picture, 1.0)) * 8 / picture[..., 0].size - 1) < 0.02


def test_codec_settings_count(folder: Path) -> None:
    picture = np.asarray(Image.open(folder / "p0.png"))
    pairs: list[tuple[Any, Any, float]] = [
        (JpegSettings(), JpegSettings(subsampling="4:4:4"), 50),
        (Jpeg2000Settings(), Jpeg2000Settings(wavelet="5-3"), 1.0),
        (Jpeg2000Settings(), Jpeg2000Settings(colour="rgb"), 1.0),
        (WebpSettings(), WebpSettings(method=0), 50),
        (AvifSettings(speed=10), AvifSettings(speed=8), 50),
        (AvifSettings(speed=10), AvifSettings(speed=10, subsampling="4:4:4"), 50),
    ]
    for one, other, quality in pairs:
        assert classical_codec(one).encode(picture, quality) != classical_codec(other).encode(picture, quality)


def test_jpeg_xl_names_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pillow_jxl":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match="pillow-jxl-plugin"):
        classical_codec(JpegXlSettings())


@pytest.mark.parametrize("budget", [0, 99, 100, 101, 4000, 10**6, 10**7, 10**9])
def test_search_finds_the_largest_file_within(budget: int) -> None:
    qualities = [0.5 * i for i in range(200)]
    sizes = {quality: int(100 * 1.07 ** (2 * quality)) for quality in qualities}
    written: list[float] = []

    def write(quality: float) -> int:
        written.append(quality)
        return sizes[quality]

    found = Search(qualities, write).largest_within(budget)
    assert found == max((q for q in qualities if sizes[q] <= budget), default=qualities[0])
    assert len(written) == len(set(written)) <= 10


def test_search_ends_when_sizes_do_not_grow() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        sizes = random.integers(1, 100, 30)
        search = Search(range(30), lambda quality, sizes=sizes: int(sizes[int(quality)]))
        for budget in (0, 10, 50, 99):
            found = int(search.largest_within(budget))
            assert sizes[found] <= budget or found == 0


def test_results_are_those_of_the_files(folder: Path) -> None:
    report = run(settings(folder))
    assert {file.picture for file in report.files} == {"p0", "p1"}
    assert len(report.points) == 8
    for point in report.points:
        files = [f for f in report.files if (f.codec, f.target) == (point.codec, point.target)]
        assert point.psnr == pytest.approx(math.fsum(f.psnr for f in files) / 2, rel=1e-12)
        assert point.ms_ssim_db == pytest.approx(decibels(sum(f.ms_ssim or 0 for f in files) / 2))
        assert point.bits_per_pixel <= RATES[point.target]
        assert point.bits_per_pixel > 0.8 * RATES[point.target]
    original = to_pixels(report.showcase.original.pixels)
    for written in report.showcase.written:
        shown = to_pixels(written.pixels)
        assert written.result.picture == "p0"
        assert written.result.psnr == psnr(shown, original).item()
        assert written.result.ms_ssim == ms_ssim(shown, original).item()
        assert written.result.bits_per_pixel == 8 * written.result.bytes / (176 * 200)


def test_ours_beside_the_others_at_matched_rates(folder: Path, tiny_tokenizer: Tokenizer) -> None:
    raw_files = OursSettings(bits=(3, 12), prior="raw")
    asked = settings(folder, ours=(OursSettings(bits=(3, 12)), raw_files), rates=MatchedRates())
    steps: list[tuple[int, int]] = []
    report = run(asked, tiny_tokenizer, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]
    assert list(report.labels) == ["jpeg", "webp", "bsq", "bsq-raw"]
    for point in report.points:
        ours = next(p for p in report.points if p.codec == "bsq" and p.target == point.target)
        assert point.budget_bits_per_pixel == pytest.approx(ours.bits_per_pixel)
    raw = [3 / 64, 12 / 64]
    for point in (p for p in report.points if p.codec == "bsq"):
        assert 0 < point.bits_per_pixel < raw[point.target] + 0.1
        assert point.over_budget == 0
    smallest = min(f.bits_per_pixel for f in report.files if f.codec == "bsq-raw")
    assert raw[0] < smallest < raw[0] + 0.1


def test_our_bits(tiny_tokenizer: Tokenizer) -> None:
    assert list(OursCodec(OursSettings(), tiny_tokenizer).qualities()) == [3, 6, 9, 12]
    with pytest.raises(SettingsError, match="no prior was trained"):
        OursCodec(OursSettings(prior="learned"), tiny_tokenizer)
    with pytest.raises(SettingsError, match="up to 12"):
        OursCodec(OursSettings(bits=(13,)), tiny_tokenizer)


def test_models_are_found_by_name(folder: Path, tiny_model: Path) -> None:
    report = run(settings(folder, codecs=(), ours=(OursSettings(model=str(tiny_model), bits=(12,)),), showcase="p1"))
    assert list(report.labels) == ["bsq"]
    assert report.showcase.original.name == "p1"
    assert report.showcase.original.pixels.shape == (168, 192, 3)


def test_jpeg_xl(folder: Path) -> None:
    pytest.importorskip("pillow_jxl")
    picture = np.asarray(Image.open(folder / "p0.png"))
    codec, quick = classical_codec(JpegXlSettings()), classical_codec(JpegXlSettings(effort=1))
    assert psnr(*(to_pixels(x) for x in (codec.decode(codec.encode(picture, 80)), picture))).item() > 30
    assert codec.encode(picture, 50) != quick.encode(picture, 50)
    assert codec.encode(picture, codec.qualities()[-1])


def test_all_files_of_a_report(folder: Path, tmp_path: Path) -> None:
    report = run(settings(folder, perceptual="lpips-squeeze", anchor="jpeg"))
    paths = reports.write(report, tmp_path / "out")
    assert {path.name for path in paths} >= {"report.json", "report.md", "jpeg.json", "webp.json", "rd.png"}
    compressai = json.loads((tmp_path / "out" / "webp.json").read_text())
    assert compressai["name"] == "webp"
    for key in ("bpp", "psnr-rgb", "ms-ssim-rgb", "encoding_time", "decoding_time"):
        assert len(compressai["results"][key]) == len(RATES)
    whole = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(whole["files"]) == 2 * 2 * len(RATES)
    assert "codestream" in whole["protocol"]
    assert whole["settings"]["folder"] == "pictures"
    assert not [path for path in paths if path.suffix == ".json" and str(tmp_path) in path.read_text()]
    (saving,) = reports.savings(report)
    assert saving.codec == "webp"
    assert saving.psnr is not None
    assert saving.psnr < 0
    with Image.open(tmp_path / "out" / "side_by_side_1.png") as sheet:
        assert sheet.width > 3 * 200
    console = Console(width=160, record=True, file=(tmp_path / "table.txt").open("w"))
    console.print(reports.table(report), reports.savings_table(report))
    shown = console.export_text()
    assert "LPIPS-squeeze" in shown
    assert f"{saving.psnr:+.1f} %" in shown


def test_curves_that_do_not_compare_have_no_saving(folder: Path) -> None:
    report = run(settings(folder, rates=FixedRates(bits_per_pixel=(0.5,)), anchor="jpeg"))
    (saving,) = reports.savings(report)
    assert (saving.psnr, saving.ms_ssim_db, saving.lpips) == (None, None, None)
    assert reports.savings(run(settings(folder, codecs=(JpegSettings(),), anchor="avif", pictures=1))) == ()


def test_rates_below_the_smallest_file_are_marked(folder: Path) -> None:
    report = run(settings(folder, rates=FixedRates(bits_per_pixel=(0.001,))))
    assert all(point.over_budget == 2 for point in report.points)
    assert "*" in reports.markdown(report)


def test_bad_requests(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        run(settings(tmp_path / "empty"))
    with pytest.raises(DataError, match="no folder"):
        run(settings(tmp_path / "absent"))
    with pytest.raises(SettingsError, match="one or more codecs"):
        run(settings(folder, codecs=()))
    with pytest.raises(SettingsError, match="each once"):
        run(settings(folder, codecs=(JpegSettings(), JpegSettings(subsampling="4:4:4"))))
    with pytest.raises(SettingsError, match="our own files"):
        run(settings(folder, rates=MatchedRates()))
    with pytest.raises(SettingsError, match="no picture 'kodim99'"):
        run(settings(folder, showcase="kodim99"))
    with pytest.raises(DataError, match="no pictures"):
        Point.of([])


def test_small_pictures_have_no_ms_ssim(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "small.png")
    report = run(settings(tmp_path, rates=FixedRates(bits_per_pixel=(2.0,))))
    assert all(isinstance(file, FileResult) and file.ms_ssim is None for file in report.files)
    assert "–" in reports.markdown(report)
    assert reports.write(report, tmp_path / "out")
